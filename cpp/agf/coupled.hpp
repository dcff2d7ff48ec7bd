// Gradient flow of neurons that shape the residual ("coupled", in theta itself) together with any that are too small to
// be seen in it ("faint", as direction and log-norm): the active phase when there are no faint ones, the full flow
// otherwise.
#pragma once

#include <memory>
#include <vector>

#include "backend.hpp"
#include "dormant.hpp"
#include "integrate.hpp"
#include "multistep.hpp"
#include "problem.hpp"
#include "trajectory.hpp"

namespace agf {

struct CoupledOptions {
  double rtol = 1e-9;
  bool adaptive_rate = false;  // neuron i moves at |theta_i|^{2 - kappa} times its gradient
};

class Coupled final : public Field {
 public:
  Coupled(const Problem& problem, Backend& backend, Control& control, Stats& stats, CoupledOptions options);
  ~Coupled() override;

  // theta (count, params) of the coupled neurons; the faint ones as they are. Chooses the method anew.
  void reset(std::vector<double> theta, std::vector<Dormant> faint);

  // Coupled neurons that have faded and faint ones that have appeared change places, with their history. Afterwards the
  // coupled are those that stay, then those that appear; the faint are those that fade, then those that stay.
  void regroup(const std::vector<int>& fading, const std::vector<int>& appearing);

  enum class Step { accepted, stopped, failed };
  // One accepted step of at most `limit` (repeats rejected ones); `moved` gets its length. `horizon`: how far the
  // caller means to go (inf: to equilibrium), which decides when an implicit method pays.
  Step advance(double limit, double horizon, double& moved);
  // State at a fraction of the last step.
  void between(double s, std::vector<double>& theta, std::vector<Dormant>& faint) const;
  // Loss and grad U of the coupled neurons at parameters of the last step's neighbourhood.
  double look(const std::vector<double>& theta, std::vector<double>& gradient);
  // Goes back and takes only a fraction s of the last step, by a step of its own; `moved` gets the length.
  Step shorten(double s, double& moved);

  const std::vector<double>& theta() const { return theta_; }
  const std::vector<double>& gradient() const { return gradient_; }  // grad U of the coupled = -grad L
  const std::vector<Dormant>& faint() const { return faint_; }
  const Signal& residual() const { return *signal_; }
  double loss() const { return loss_; }
  double gradient_square() const;
  // The learning rate of coupled neuron k, 1 unless adaptive, and -dL/dt of the coupled ones.
  double rate(std::size_t k) const;
  double fall() const;
  // d lambda / dt of faint neuron j.
  double growth(std::size_t j) const { return f_[theta_.size() + j * (m_ + 1) + m_]; }
  bool implicit() const { return implicit_; }
  double step_hint() const { return h_; }
  void set_step_hint(double h) { h_ = h; }
  // True if the coupled neurons' flow at rest here has no growing direction: no eigenvalue of the Hessian of L (times
  // the learning rates) below -growth, relative to the largest on its diagonal.
  // That largest is about the rate of the fastest relaxation; `fastest`, where given, gets it.
  bool stable(double growth, double* fastest = nullptr);

  std::size_t size() const override { return theta_.size() + faint_.size() * (m_ + 1); }
  void rhs(const std::vector<int>& which, const double* y, double* f) override;
  bool solve(const std::vector<int>& which, double* x) override;

 private:
  const Problem& problem_;
  Backend& backend_;
  Control& control_;
  Stats& stats_;
  CoupledOptions options_;
  std::size_t m_;
  double kappa_;
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
  std::vector<double> theta_, gradient_, f_, y_, before_;
  std::vector<Dormant> faint_, before_faint_;
  std::vector<double> faint_gradient_, trial_slopes_;
  std::unique_ptr<Signal> signal_, trial_signal_, tangent_signal_, linear_signal_;
  double scale_;  // L of no neurons at all
  // What the flow conserves, per coupled neuron; empty where it conserves nothing.
  std::vector<double> balance_, balance_scale_;
  Trial trial_;
  // The multistep method: now, before the last step, and at its end in the coordinates of its beginning.
  Differences history_, before_history_, dense_history_;
  std::vector<double> predicted_, psi_, correction_, change_;
  // Linear algebra of the implicit step: the point of the Jacobian, its parts, and the factors of shift I - J.
  bool stale_ = true, linear_at_start_ = false;
  int age_ = 0, eager_ = 0;
  double rate_ = 1;  // at which Newton's iteration converges with these factors; 1: not known yet
  double debt_ = 0, shift_ = 0, tolerance_ = 0, noise_ = 0;
  std::vector<double> linear_theta_, linear_points_, linear_rates_, linear_faint_;
  std::vector<double> hessian_, factor_, faint_hessian_, faint_factor_, faint_coupling_, faint_border_, faint_schur_;
  std::vector<int> pivots_;
  std::vector<double> ramp_, faint_ramp_, points_, slopes_;

  std::size_t coupled() const { return theta_.size() / m_; }
  Shape shape() const;
  Shape faint_shape() const;
  void field(const double* y, const Signal& residual, double* f);
  void evaluate(bool residual_known);
  void carry();
  void take_gradient();
  void linearize(const double* y, const double* f, const Signal& residual, const double* slopes);
  bool factor(double shift);
  bool krylov(double* b);
  double scaled(const std::vector<double>& error) const;
  bool attempt_one_step(double h, double& error);
  bool attempt_multistep(double& error);
  void finish_multistep(double shift);
  void choose_order(double error, int& order, double& factor) const;
  void accept(double error, bool multistep);
  void begin_history();
  void move_history();
  // Work of one evaluation, explicit step, Hessian and so on; of a step that linearises, and of one of many that do
  // not.
  double evaluation_cost(std::size_t count) const;
  double explicit_cost() const;
  double hessian_cost(bool dense) const;
  double factor_cost(bool dense) const;
  double solve_cost(bool dense) const;
  double one_step_cost(bool dense) const;
  double implicit_cost(bool dense) const;
  double jacobian_cost() const;
  bool may_be_dense() const;
  bool may_be_implicit() const;
  void choose_algebra();
  void reconsider_algebra();
  void choose_method();
  void go_implicit();
  void go(bool implicit);
  void take_turns(double moved, double horizon);
  void watch_stiffness(double h);
  bool stiff_enough(double horizon) const;
  bool changes_over(double horizon);
  void look_back(double moved);
  Step try_advance(double limit, double horizon, double& moved);
  double faint_rate(double log_norm) const;
};

}  // namespace agf
