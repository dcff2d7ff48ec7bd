// The choice of the method: explicit or implicit, factors of the Hessian or products with it. By work counted in
// operations and never by a clock, so that a run is the same on every machine and from time to time.
#include <algorithm>

#include "coupled.hpp"
#include "interrupt.hpp"
#include "linear.hpp"

namespace AGF_SPACE {

namespace {

// Work is counted in operations of a factorisation, the fastest there are. By profiles on one core, to within a factor
// of two: each of an evaluation (products of a thin matrix, sigma) counts as three, each of a solve (two passes over
// the factor, from memory) as eight, and any call as this many. The choice is flat where it is near to even.
AGF_TABLE double thin = 3, passing = 8, call = 3e4;
// Beyond this many unknowns one factorisation, which nothing can break off, takes longer than a Ctrl-C may wait.
AGF_TABLE std::size_t most_dense = 2500;
// Of one multistep step, about what runs of every architecture take on average: iterations, and the shares of a factor
// and of a Hessian.
AGF_TABLE double iterations = 3.3, factors = 0.2, hessians = 0.07;
// An implicit step that costs up to this many explicit ones is taken from the start.
AGF_TABLE double cheap = 8;
// Explicit steps are held by stability, and no longer by accuracy, where h |lambda| is near 3.3, the end of the
// method's interval on the negative axis. Steps as short as these for a time of their own say that it is over.
AGF_TABLE double boundary = 2;
AGF_TABLE long fewest_stiff = 6, most_calm = 6;
// An accurate implicit step changes no neuron by more than this part of its norm, about; it may by less where it
// rests, so this is the least that such a step can be hoped to reach.
AGF_TABLE double stride = 0.1;
// Explicit work worth this many implicit steps, done or foreseen, makes the run change over whether or not it is stiff.
AGF_TABLE double patience = 120;

}  // namespace

AGF_CORE double Coupled::evaluation_cost(std::size_t count) const {
  return thin * problem_.evaluation_flops(count) + call;
}

AGF_CORE double Coupled::explicit_cost() const {
  return explicit_evaluations * evaluation_cost(coupled() + faint_.count());
}

AGF_CORE double Coupled::hessian_cost(bool dense) const {
  const double blocks = problem_.utility_hessian_flops(faint_.count()) + call;
  return dense ? blocks + problem_.loss_hessian_flops(coupled()) : blocks;
}

AGF_CORE double Coupled::factor_cost(bool dense) const {
  const auto n = static_cast<double>(theta_.size());
  const auto m = static_cast<double>(m_);
  return static_cast<double>(faint_.count()) * m * m * m / 3 + (dense ? n * n * n / 3 : 0) + call;
}

AGF_CORE double Coupled::solve_cost(bool dense) const {
  const auto n = static_cast<double>(theta_.size());
  const auto m = static_cast<double>(m_);
  // A product is the derivative of the residual and the curvature of every neuron, twice an evaluation.
  const double own = dense ? passing * 2 * n * n + call : 2 * products_ * evaluation_cost(coupled());
  const double push = faint_.count() == 0 ? 0 : evaluation_cost(faint_.count());
  return own + push + static_cast<double>(faint_.count()) * passing * 2 * m * m;
}

AGF_CORE double Coupled::one_step_cost(bool dense) const {
  return (implicit_evaluations + 1) * (evaluation_cost(coupled() + faint_.count()) + solve_cost(dense)) +
         hessian_cost(dense) + factor_cost(dense);
}

AGF_CORE double Coupled::implicit_cost(bool dense) const {
  if (problem_.kinked()) return one_step_cost(dense);
  return iterations * (evaluation_cost(coupled() + faint_.count()) + solve_cost(dense)) + factors * factor_cost(dense) +
         hessians * (hessian_cost(dense) + factor_cost(dense));
}

AGF_CORE double Coupled::jacobian_cost() const { return hessian_cost(dense_) + factor_cost(dense_); }

// Without symmetry (adaptive rates) there is no solver by products here: such runs have the Hessian or stay explicit.
AGF_CORE bool Coupled::may_be_dense() const { return theta_.size() <= most_dense; }
AGF_CORE bool Coupled::may_be_implicit() const { return may_be_dense() || !options_.adaptive_rate; }

AGF_CORE void Coupled::choose_algebra() {
  dense_ = may_be_dense() && (options_.adaptive_rate || implicit_cost(true) <= implicit_cost(false));
}

// Products turned out to be more than was thought: with a margin, since the history is not asked twice.
AGF_CORE void Coupled::reconsider_algebra() {
  constexpr double margin = 1.5;
  if (dense_ || !may_be_dense() || implicit_cost(false) <= margin * implicit_cost(true)) return;
  dense_ = true;
  stale_ = true;
}

AGF_CORE void Coupled::choose_method() {
  const bool stays = problem_.kinked() && implicit_;
  implicit_ = false;
  trial_course_ = {};
  gain_ = {};
  stiff_steps_ = calm_steps_ = 0;
  spent_ = stiff_spent_ = stiff_time_ = 0;
  choose_algebra();
  if (problem_.kinked() ? stays : may_be_implicit() && one_step_cost(dense_) <= cheap * explicit_cost()) go_implicit();
}

AGF_CORE void Coupled::go_implicit() { go(true); }

AGF_CORE void Coupled::go(bool implicit) {
  implicit_ = implicit;
  accuracy_ = accuracy(options_.rtol, problem_, implicit);
  stale_ = true;
  stiff_steps_ = calm_steps_ = 0;
  spent_ = stiff_spent_ = stiff_time_ = 0;
}

// Kinks: explicit steps cross them at little cost and chatter where the flow slides along one; implicit steps slide,
// and take many to cross. Which of the two a flow does changes on its way and shows in neither's steps, only in how far
// they come: so each is tried in turn, over stretches of equal work, and the one that comes farther goes on, the other
// being tried again more rarely and for longer as long as it loses. Implicit stretches are very unequal: the first
// steps after explicit ones are short, and a slide ends in a kink that must be crossed. So what counts is the mean, of
// one method since the last trial and of the other in its trial.
AGF_CORE void Coupled::take_turns(double moved, double horizon) {
  constexpr double explicit_steps = 200, implicit_steps = 24;
  constexpr double slowed = 0.1;
  constexpr long first_gap = 4, longest_gap = 128, share = 4;  // trials take 1 / share of the work, or win
  if (!may_be_implicit()) return;
  Course& c = trial_course_;
  const double one_step = one_step_cost(dense_);
  c.time += moved;
  if (c.work < std::max(explicit_steps * explicit_cost(), implicit_steps * one_step)) return;
  const double speed = c.time / c.work;
  c.since_time += c.time;
  c.since_work += c.work;
  c.time = c.work = 0;
  ++c.stretches;
  if (!implicit_) c.best = std::max(c.best, speed);
  bool change = false;
  if (c.trying) {
    change = c.since_time < c.other * c.since_work;
    if (change && share * ++c.tried < c.gap) return;
    c.trying = false;
    c.stretches = c.tried = 0;
    if (change) c.since_time = c.since_work = 0;
    c.gap = change ? std::min(2 * c.gap, longest_gap) : first_gap;
  } else if (implicit_ || speed < slowed * c.best || stiff_steps_ >= fewest_stiff ||
             (std::isfinite(horizon) && horizon > patience * one_step * speed)) {
    change = c.trying = c.stretches >= c.gap;
    if (change) {
      c.other = c.since_time / c.since_work;
      c.since_time = c.since_work = 0;
    }
  }
  if (!change) return;
  go(!implicit_);
  // Broken off as after any step.
  uninterrupted([this]() { evaluate(false); });
}

// |lambda| of the fastest relaxation from the last two stages of an explicit step, which are both at its end (Hairer
// and Wanner, Solving ODEs II, section IV.2): f differs between them by about lambda times what y does.
AGF_CORE void Coupled::watch_stiffness(double h) {
  spent_ += explicit_cost();
  const double *const last = trial_.stage[6].data(), *const before = trial_.stage[5].data();
  const double *const y1 = trial_.y1.data(), *const point = trial_.work.data();
  const double slope = total(size(), [=](std::size_t e) {
    const double change = last[e] - before[e];
    return change * change;
  });
  const double distance = total(size(), [=](std::size_t e) {
    const double change = y1[e] - point[e];
    return change * change;
  });
  if (h * std::sqrt(slope) > boundary * std::sqrt(distance)) {
    ++stiff_steps_;
    calm_steps_ = 0;
    stiff_spent_ += explicit_cost();
  } else if (++calm_steps_ >= most_calm) {
    stiff_steps_ = 0;
    stiff_spent_ = stiff_time_ = 0;
  }
}

// An explicit run changes over once the work that stiffness has cost it would have paid for the change: whatever comes
// then, it has done no more than twice the work of the better choice.
AGF_CORE bool Coupled::stiff_enough(double horizon) const {
  if (stiff_steps_ < fewest_stiff) return false;
  const double start = gain_.reserve * (one_step_cost(dense_) + jacobian_cost());
  const std::size_t m = m_;
  const double *const f = f_.data(), *const theta = theta_.data();
  const double rate = largest(coupled(), 2 * m, [=](std::size_t k) {
    return positive(norm(m, f + k * m) / std::max(norm(m, theta + k * m), 1e-300));
  });
  const double reach = std::max(h_, rate > 0 ? stride / rate : infinity);
  const double ahead = std::isfinite(horizon) ? explicit_cost() * horizon / h_ : infinity;
  return stiff_spent_ > start && ahead > start && implicit_cost(dense_) * h_ < explicit_cost() * reach;
}

AGF_CORE bool Coupled::changes_over(double horizon) {
  if (implicit_ || problem_.kinked() || !may_be_implicit()) return false;
  const bool stiff = stiff_enough(horizon);
  if (!stiff) {
    // Early steps are small for reasons of their own; a forecast from them is worth nothing.
    if (spent_ <= 20 * explicit_cost()) return false;
    const double ahead = std::isfinite(horizon) ? explicit_cost() * horizon / h_ : 0;
    if (std::max(spent_, ahead) <= gain_.reserve * patience * one_step_cost(dense_)) return false;
  }
  gain_.step = h_;
  gain_.speed = stiff ? stiff_time_ / stiff_spent_ : h_ / explicit_cost();
  gain_.time = gain_.work = 0;
  return true;
}

// Back to explicit steps where implicit ones, given time to grow, come less far than those did: where sigma'' jumps
// (elu) their order is gone. The next change must have been paid for several times over.
AGF_CORE void Coupled::look_back(double moved) {
  constexpr double fair_trial = 40, dearer = 8;
  if (!implicit_) {
    if (stiff_steps_ > 0) stiff_time_ += moved;
    return;
  }
  if (gain_.speed == 0) return;
  gain_.time += moved;
  if (gain_.work < fair_trial * one_step_cost(dense_)) return;
  if (gain_.time >= gain_.speed * gain_.work) {
    // Stretches after the first are judged by themselves.
    gain_.time = gain_.work = 0;
    return;
  }
  gain_.reserve *= dearer;
  history_.clear();
  go(false);
  h_ = gain_.step;
  // Broken off as after any step.
  uninterrupted([this]() { evaluate(false); });
}

}  // namespace AGF_SPACE
