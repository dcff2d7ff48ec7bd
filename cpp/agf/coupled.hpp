// Gradient flow of neurons that shape the residual ("coupled", in theta itself) together with any that are too small to
// be seen in it ("faint", as direction and log-norm): the active phase when there are no faint ones, the full flow
// otherwise.
#pragma once

#include <cmath>
#include "containers.hpp"

#include "backend.hpp"
#include "dormant.hpp"
#include "integrate.hpp"
#include "multistep.hpp"
#include "problem.hpp"
#include "systems.hpp"
#include "trajectory.hpp"

namespace AGF_SPACE {

// Neurons too small to be seen in the residual: unit directions (count, params) and log-norms.
struct Faint {
  Array<double> direction, log_norm;
  AGF_CORE std::size_t count() const { return log_norm.size(); }
};

// d/dt = rate d/ds for a faint neuron.
AGF_CORE inline double faint_rate(double power, double log_norm) {
  return power == 0 ? 1.0 : std::exp(power * log_norm);
}

// Neurons of a state as parameters (members, params), and back.
AGF_CORE Array<double> gather(const State& state, const Array<int>& members);
AGF_CORE void scatter(const Array<double>& theta, const Array<int>& members, State& state);

struct CoupledOptions {
  double rtol = 1e-9;
  bool adaptive_rate = false;  // neuron i moves at |theta_i|^{2 - kappa} times its gradient
};

class Coupled final : public Field {
 public:
  AGF_CORE Coupled(const Problem& problem, Backend& backend, Control& control, Stats& stats, CoupledOptions options);
  AGF_CORE ~Coupled() override;

  // theta (count, params) of the coupled neurons; the faint ones as they are. Chooses the method anew.
  AGF_CORE void reset(Array<double> theta, Faint faint);

  // Coupled neurons that have faded and faint ones that have appeared change places, with their history. Afterwards the
  // coupled are those that stay, then those that appear; the faint are those that fade, then those that stay.
  AGF_CORE void regroup(const Array<int>& fading, const Array<int>& appearing);

  enum class Step { accepted, stopped, failed };
  // One accepted step of at most `limit` (repeats rejected ones); `moved` gets its length. `horizon`: how far the
  // caller means to go (inf: to equilibrium), which decides when an implicit method pays.
  AGF_CORE Step advance(double limit, double horizon, double& moved);
  // State at a fraction of the last step.
  AGF_CORE void between(double s, Array<double>& theta, Faint& faint) const;
  AGF_CORE void between(double s, Array<double>& theta) const;
  // Loss and grad U of the coupled neurons at parameters of the last step's neighbourhood.
  AGF_CORE double look(const Array<double>& theta, Array<double>& gradient);
  // Goes back and takes only a fraction s of the last step, by a step of its own; `moved` gets the length.
  AGF_CORE Step shorten(double s, double& moved);

  AGF_CORE const Array<double>& theta() const { return theta_; }
  AGF_CORE const Array<double>& gradient() const { return gradient_; }  // grad U of the coupled = -grad L
  AGF_CORE const Faint& faint() const { return faint_; }
  AGF_CORE const Signal& residual() const { return *signal_; }
  AGF_CORE double loss() const { return loss_; }
  AGF_CORE double gradient_square() const;
  // The coupled neurons as loops over them see them.
  struct Neurons {
    std::size_t params;
    double power;  // 2 - kappa where the rate is adaptive; else 0
    const double *theta, *gradient;
    AGF_CORE double rate(std::size_t k) const;            // the learning rate, 1 unless adaptive
    AGF_CORE double relative_speed(std::size_t k) const;  // |dtheta_k / dt| / |theta_k|
  };
  AGF_CORE Neurons neurons() const { return {m_, rate_power(), theta_.data(), gradient_.data()}; }
  AGF_CORE double top_speed() const;  // of the relative ones
  AGF_CORE double fall() const;       // -dL/dt of the coupled neurons
  // The time, at most `limit`, at which the first faint neuron would rise to a log-norm at the present pace.
  AGF_CORE double rise(double log_norm, double limit);
  // Whether no coupled neuron has fallen below one log-norm, and no faint one risen to another.
  AGF_CORE bool settled(double lowest, double highest) const;
  AGF_CORE bool implicit() const { return implicit_; }
  AGF_CORE double step_hint() const { return h_; }
  AGF_CORE void set_step_hint(double h) { h_ = h; }
  // True if the coupled neurons' flow at rest here has no growing direction: no eigenvalue of the Hessian of L (times
  // the learning rates) below -growth, relative to the largest on its diagonal.
  // That largest is about the rate of the fastest relaxation; `fastest`, where given, gets it.
  AGF_CORE bool stable(double growth, double* fastest = nullptr);

  AGF_CORE std::size_t size() const override { return theta_.size() + faint_.count() * (m_ + 1); }
  AGF_CORE void rhs(const Array<int>& which, const double* y, double* f) override;
  AGF_CORE bool solve(const Array<int>& which, double* x) override;

 private:
  const Problem& problem_;
  Backend& backend_;
  Control& control_;
  Stats& stats_;
  CoupledOptions options_;
  std::size_t m_;
  double kappa_;
  Array<int> one_system_{0};  // what it integrates, as a Field, and its step
  Array<double> step_{0.0};
  Accuracy accuracy_{};
  bool implicit_ = false, dense_ = true, rejected_ = false;
  double h_ = 0, last_ = 0, loss_ = 0, trial_loss_ = 0;
  // Explicit work done, how much of it on end was held by stability, and how far that came.
  double spent_ = 0, stiff_spent_ = 0, stiff_time_ = 0;
  long stiff_steps_ = 0, calm_steps_ = 0;
  // Kinked problems: how far the present method has come at what work, in this stretch and since the last trial; the
  // best explicit steps did and what the other method did before a trial, in time per work; stretches of work since it
  // was tried and in its trial, and when it is to be tried again.
  struct Course {
    double time = 0, work = 0, since_time = 0, since_work = 0, best = 0, other = 0;
    long stretches = 0, tried = 0, gap = 1;
    bool trying = false;
  };
  Course trial_course_;
  // Smooth problems that changed over: the step that they gave up and its time per work (0: none), how far implicit
  // steps have come since at what work, and how many times over the next change must have been paid for.
  struct Gain {
    double step = 0, speed = 0, time = 0, work = 0, reserve = 1;
  };
  Gain gain_;
  double forcing_ = 0;    // what a solve by products may leave of a right-hand side
  double products_ = 12;  // Hessian-vector products of one solve, as far as known
  Array<double> theta_, gradient_, f_, y_, before_;
  Faint faint_, before_faint_;
  Array<double> faint_gradient_;
  Owned<Signal> signal_, trial_signal_, tangent_signal_, linear_signal_;
  double scale_;  // L of no neurons at all
  // What the flow conserves, per coupled neuron; empty where it conserves nothing.
  Array<double> balance_, balance_scale_;
  Trial trial_;
  // The multistep method: now and before the last step, where that was one.
  Differences history_, before_history_;
  Array<double> predicted_, psi_, correction_, change_;
  // Linear algebra of the implicit step: the point of the Jacobian, its parts, and the factors of shift I - J.
  bool stale_ = true, linear_at_start_ = false;
  int age_ = 0, eager_ = 0;
  double rate_ = 1;  // at which Newton's iteration converges with these factors; 1: not known yet
  double debt_ = 0, shift_ = 0, tolerance_ = 0, noise_ = 0;
  Array<double> linear_theta_, linear_points_, linear_rates_, linear_faint_;
  Array<double> hessian_, factor_, faint_hessian_, faint_coupling_, faint_border_, faint_schur_;
  Array<int> pivots_;
  Systems faint_systems_;
  Array<char> faint_failed_;
  Array<double> ramp_, faint_ramp_, points_, slopes_, pushes_, rises_, rates_, squares_, goals_;

  AGF_CORE std::size_t coupled() const { return theta_.size() / m_; }
  AGF_CORE bool ramped() const { return implicit_ && problem_.kinked(); }
  // |theta|^power is the learning rate, and e^{power lambda} that of a faint neuron in its own clock; 0: it is 1.
  AGF_CORE double rate_power() const { return options_.adaptive_rate ? 2 - kappa_ : 0; }
  AGF_CORE double faint_power() const { return options_.adaptive_rate ? 0 : kappa_ - 2; }
  AGF_CORE Shape shape() const;
  AGF_CORE Shape faint_shape() const;
  AGF_CORE void field(const double* y, const Signal& residual, double* f);
  AGF_CORE void evaluate(bool residual_known);
  AGF_CORE Array<double> values_at(double s) const;
  AGF_CORE void take_start();
  AGF_CORE void carry();
  AGF_CORE void take_gradient();
  AGF_CORE void linearize(const double* y, const double* f, const Signal& residual, const double* slopes);
  AGF_CORE void rate_hessian(const double* theta, const double* f);
  AGF_CORE bool factor(double shift);
  AGF_CORE bool krylov(double* b);
  AGF_CORE double scaled(const double* error) const;
  AGF_CORE bool attempt_one_step(double h, double& error);
  AGF_CORE bool attempt_multistep(double& error);
  AGF_CORE void finish_multistep(double shift);
  AGF_CORE void choose_order(double error, int& order, double& factor) const;
  AGF_CORE void accept(double error, bool multistep);
  AGF_CORE void begin_history();
  AGF_CORE void move_history();
  // Work of one evaluation, explicit step, Hessian and so on; of a step that linearises, and of one of many that do
  // not.
  AGF_CORE double evaluation_cost(std::size_t count) const;
  AGF_CORE double explicit_cost() const;
  AGF_CORE double hessian_cost(bool dense) const;
  AGF_CORE double factor_cost(bool dense) const;
  AGF_CORE double solve_cost(bool dense) const;
  AGF_CORE double one_step_cost(bool dense) const;
  AGF_CORE double implicit_cost(bool dense) const;
  AGF_CORE double jacobian_cost() const;
  AGF_CORE bool may_be_dense() const;
  AGF_CORE bool may_be_implicit() const;
  AGF_CORE void choose_algebra();
  AGF_CORE void reconsider_algebra();
  AGF_CORE void choose_method();
  AGF_CORE void go_implicit();
  AGF_CORE void go(bool implicit);
  AGF_CORE void take_turns(double moved, double horizon);
  AGF_CORE void watch_stiffness(double h);
  AGF_CORE bool stiff_enough(double horizon) const;
  AGF_CORE bool changes_over(double horizon);
  AGF_CORE void look_back(double moved);
  AGF_CORE Step try_advance(double limit, double horizon, double& moved);
};

}  // namespace AGF_SPACE
