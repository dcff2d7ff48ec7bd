#include "direction_flow.hpp"

#include <algorithm>
#include <cmath>

#include "alternate.hpp"
#include "clock.hpp"
#include "coupled.hpp"
#include "directions.hpp"
#include "drift.hpp"
#include "entries.hpp"
#include "interrupt.hpp"
#include "linear.hpp"
#include "modes.hpp"
#include "transport.hpp"

namespace AGF_SPACE {

namespace {

AGF_TABLE double quiet_part = 3e-4;
AGF_TABLE long most_quiet_steps = 1000;
// Least squared pivot of the visible columns' cosines: below it a small column is little beside what it shares with a
// large one, and the error of the large one drowns it.
AGF_TABLE double least_independence = 0.01;

class DirectionFlow {
 public:
  AGF_CORE DirectionFlow(const Problem& problem, Backend& backend, Control& control, const State& start,
                         const FlowOptions& options)
      : problem_(problem),
        backend_(backend),
        control_(control),
        options_(options),
        state_(start),
        transport_(directions_),
        flow_(problem, backend, control, path_.stats, {options.rtol, false}),
        drift_(problem),
        signal_(problem.make_signal()) {
    state_.components = {};
    if (std::isnan(state_.log_eta)) state_.log_eta = log_mean_threshold(state_, 2);
    scale_ = problem.residual(nullptr, 0, *signal_);
    level_ = faint_log_norm(problem, scale_ > 0 ? scale_ : 1, options.rtol);
  }

  AGF_CORE Trajectory go() {
    const bool done = uninterrupted([this]() {
      directions_ = Directions::of(state_, known_);
      transport_.expect(known_);
      integrate();
    });
    if (!done) {
      finish(control_.stop);
      if (!begun_) return std::move(unbegun(problem_, state_, path_));
    }
    if (path_.points.empty()) path_.points.push_back({state_.time, state_.scaled_time, flow_.loss(), elapsed_});
    write(flow_.theta(), flow_.residual(), state_);
    path_.state = state_;
    if (drift_.has()) path_.conserved_drift = drift_.worst();
    path_.stats.seconds = control_.seconds();
    return std::move(path_);
  }

 private:
  const Problem& problem_;
  Backend& backend_;
  Control& control_;
  const FlowOptions& options_;
  Trajectory path_;
  State state_;
  bool known_ = false, begun_ = false;
  Directions directions_;  // its visible columns are those at the last regrouping; the present ones are the flow's
  Transport transport_;
  Coupled flow_;
  Drift drift_;
  Owned<Signal> signal_;
  double scale_ = 0, level_ = 0, threshold_ = 0;
  double elapsed_ = 0, onset_ = 0, since_regroup_ = 0;
  double reach_ = 0;  // time left until a faint column comes into sight, as far as the last frame tells
  double top_rate_ = 0;
  double moved_ = 0;
  long late_steps_ = 0;
  std::size_t next_ = 0;  // in save_at
  Array<double> scratch_, unit_, cosines_;
  bool done_ = false;

  AGF_CORE double clock() const { return options_.scaled_clock ? state_.scaled_time : state_.time; }
  AGF_CORE bool empty() const { return flow_.theta().empty(); }

  AGF_CORE void finish(Status status) {
    path_.status = status;
    done_ = true;
  }

  AGF_CORE void integrate() {
    if (known_) {
      regroup();
    } else {
      show(level_);
    }
    while (next_ < options_.save_at.size() && !options_.save_all && options_.save_at[next_] <= clock()) {
      record_state();
      ++next_;
    }
    if (options_.save_all) record();
    if (empty() && !(scale_ > 0)) return finish(Status::nothing_to_learn);
    while (!done_) {
      if (control_.poll()) {
        finish(control_.stop);
      } else if (options_.loss_tol >= 0 && flow_.loss() <= options_.loss_tol) {
        finish(Status::loss_tol);
      } else if (!(options_.t_end - clock() >= std::numeric_limits<double>::min())) {
        // Shorter than any step that arithmetic can take.
        finish(Status::t_end);
      } else if (path_.stats.steps > most_flow_steps) {
        finish(Status::work_limit);
      } else if (empty() || at_rest()) {
        plateau();
      } else {
        move();
      }
    }
  }

  AGF_CORE double target() const {
    const bool saves = !options_.save_all && next_ < options_.save_at.size();
    return saves ? std::min(options_.save_at[next_], options_.t_end) : options_.t_end;
  }

  // Faint columns, orthogonal to one another, come into sight.
  AGF_CORE void show(double level) {
    while (directions_.count() > 0 && directions_.log_norm(0) >= level) directions_.show(0, directions_.log_norm(0));
    threshold_ = level_;
    begin();
  }

  // All columns are made orthogonal again and divided anew.
  AGF_CORE void regroup() {
    Directions all = directions_;
    all.hide();
    all.orthogonalize();
    directions_ = std::move(all);
    show(level_ - 1);
  }

  // Hands the present division to the joint flow.
  AGF_CORE void begin() {
    // First, since the rest may be interrupted.
    transport_.begin();
    const double hint = flow_.step_hint();
    begun_ = true;
    flow_.reset(directions_.visible, {});
    flow_.set_step_hint(hint);
    drift_.begin(flow_.theta());
    const std::size_t m = state_.params;
    scratch_.resize(directions_.visible_count());
    const double *const theta = flow_.theta().data(), *const slope = flow_.gradient().data();
    double* const rate = scratch_.data();
    each_task(scratch_.size(), [=](std::size_t k) { rate[k] = relative_rate(m, theta + k * m, slope + k * m); });
    onset_ = 0;
    for (const double one : scratch_) onset_ = std::max(onset_, one);
    onset_ = onset_ > 0 ? 1 / onset_ : 0;
    since_regroup_ = 0;
    late_steps_ = 0;
    settle(modes(problem_, backend_, path_.stats, flow_.residual()));
  }

  AGF_CORE void settle(const Modes& now) {
    transport_.settle(now);
    top_rate_ = now.rate.back();
    const double least = std::max(inert_part * top_rate_, 1e-300);
    reach_ = directions_.count() > 0 ? Growth(directions_, now.rate, backend_).crossing(level_ + 1, least) : infinity;
  }

  AGF_CORE static double relative_rate(std::size_t m, const double* theta, const double* slope) {
    return norm(m, slope) / norm(m, theta);
  }

  AGF_CORE void record() { push({state_.time, state_.scaled_time, flow_.loss(), elapsed_}, nullptr); }

  AGF_CORE void record_state() {
    State state = state_;
    undisturbed([&]() { write(flow_.theta(), flow_.residual(), state); });
    push({state.time, state.scaled_time, flow_.loss(), elapsed_}, &state);
  }

  // The state of these visible columns, at whose residual the faint ones have arrived.
  AGF_CORE void write(const Array<double>& theta, const Signal& residual, State& state) {
    transport_.settle(modes(problem_, backend_, path_.stats, residual));
    directions_.visible = theta;
    directions_.learned = -1;
    directions_.write(state);
  }

  AGF_CORE void push(const Point& point, const State* state) {
    path_.points.push_back(point);
    if (state) path_.states.push_back(*state);
    if (options_.observer && options_.observer(point, state)) finish(Status::callback);
  }

  // As in `gradient_flow`. An unstable hidden direction is no reason to go on where a faint column carries it too: the
  // column was its equal before, and grows faster.
  AGF_CORE bool at_rest() {
    if (!flow_.implicit()) return false;
    const double time = since_regroup_ + onset_;
    const double left = flow_.gradient_square() * time;
    const double loss = flow_.loss();
    const double accuracy = std::max(0.1 * options_.rtol, 10 * problem_.epsilon());
    const bool settled = left <= std::max(accuracy * accuracy * loss, 1e-20 * scale_);
    bool quiet = left <= std::max(quiet_part * loss, 1e-20 * scale_);
    if (quiet) {
      const std::size_t m = state_.params;
      scratch_.resize(directions_.visible_count());
      const double *const theta = flow_.theta().data(), *const slope = flow_.gradient().data();
      double* const moving = scratch_.data();
      each_task(scratch_.size(), [=](std::size_t k) {
        const double *const x = theta + k * m, *const g = slope + k * m;
        const double square = dot(m, x, x);
        moving[k] =
            relative_rate(m, x, g) * time <= 1 && !(square < 0.1 && dot(m, x, g) * time > 1e-3 * square) ? 0 : 1;
      });
      for (const double one : scratch_) quiet = quiet && one == 0;
    }
    late_steps_ = quiet ? late_steps_ + 1 : 0;
    if (!quiet || (!settled && late_steps_ <= most_quiet_steps)) return false;
    if (!flow_.stable(slowest_growth) && !(settled && std::isfinite(reach_))) {
      // It will be left along a direction that has fallen below rounding.
      if (settled) path_.note(Note::direction_unresolved);
      return false;
    }
    if (!settled) path_.note(Note::valley_frozen);
    return true;
  }

  AGF_CORE void plateau() {
    const Modes now = modes(problem_, backend_, path_.stats, flow_.residual());
    settle(now);
    const double least = std::max(2 * inert_part * std::sqrt(2 * scale_) * problem_.input_scale(), 1e-300);
    const double goal = target();
    const double unit = options_.scaled_clock ? std::exp(state_.log_eta) : 1;
    const double left = (goal - clock()) * unit;
    double time = directions_.count() > 0 ? Growth(directions_, now.rate, backend_).crossing(level_, least) : infinity;
    if (!std::isfinite(time) && !std::isfinite(goal)) return finish(Status::inert);
    const bool crossed = time <= left;
    if (!crossed) time = left;
    transport_.grow(now, time);
    state_.time += time;
    state_.scaled_time += time * std::exp(-state_.log_eta);
    elapsed_ += time;
    if (!crossed) (options_.scaled_clock ? state_.scaled_time : state_.time) = goal;
    directions_.visible = flow_.theta();
    if (crossed) {
      directions_.orthogonalize();
      elapsed_ = 0;
      flow_.set_step_hint(0);
      // To rounding at the level.
      show(level_ - 1e-6);
    } else {
      reach_ -= time;
    }
    if (options_.save_all) {
      record();
    } else if (!crossed && next_ < options_.save_at.size() && options_.save_at[next_] == goal) {
      record_state();
      ++next_;
    }
  }

  AGF_CORE void move() {
    const double unit = options_.scaled_clock ? std::exp(state_.log_eta) : 1;
    // Points to save are read off the dense output; only the end is stepped to.
    const double to_end = (options_.t_end - clock()) * unit;
    // A faint column must not grow far into sight before it is seen.
    const double limit = std::min(to_end, std::max(reach_, 0.1 / std::max(top_rate_, 1e-300)));
    const double time_before = state_.time, scaled_before = state_.scaled_time;
    const double from = clock(), elapsed_before = elapsed_;
    const auto step = flow_.advance(limit, to_end, moved_);
    if (step == Coupled::Step::stopped) return;
    if (step == Coupled::Step::failed) return finish(Status::non_finite);
    state_.time += moved_;
    state_.scaled_time += moved_ * std::exp(-state_.log_eta);
    elapsed_ += moved_;
    since_regroup_ += moved_;
    if (moved_ == to_end && std::isfinite(options_.t_end))
      (options_.scaled_clock ? state_.scaled_time : state_.time) = options_.t_end;
    drift_.look(flow_.theta());
    double reached = 0;
    while (!options_.save_all && !done_ && next_ < options_.save_at.size() && options_.save_at[next_] <= clock()) {
      const double at = options_.save_at[next_];
      const double s = std::clamp((at - from) / (moved_ / unit), reached, 1.0);
      carry(reached, s);
      reached = s;
      const Array<double> theta = visible(s);
      Point point;
      point.time = time_before + s * moved_;
      point.scaled_time = scaled_before + s * moved_ * std::exp(-state_.log_eta);
      (options_.scaled_clock ? point.scaled_time : point.time) = at;
      point.elapsed = elapsed_before + s * moved_;
      State state = state_;
      state.time = point.time;
      state.scaled_time = point.scaled_time;
      // The columns in sight have made the whole step: the faint ones must too.
      undisturbed([&]() {
        point.loss = problem_.residual(theta.data(), theta.size() / state_.params, *signal_);
        write(theta, *signal_, state);
      });
      ++next_;
      push(point, &state);
    }
    carry(reached, 1);
    if (options_.save_all) record();
    if (done_) return;
    if (transport_.log_size() >= threshold_) {
      settle(modes(problem_, backend_, path_.stats, flow_.residual()));
      directions_.orthogonalize();
      directions_.visible = flow_.theta();
      if (directions_.log_norm(0) >= level_) return show(level_);
      transport_.begin();
      // The sum over all columns is that much above the largest of them.
      threshold_ = level_ + transport_.log_size() - directions_.log_norm(0) + 1e-9;
    }
    if (crowded()) {
      settle(modes(problem_, backend_, path_.stats, flow_.residual()));
      directions_.visible = flow_.theta();
      regroup();
    }
  }

  // Visible columns have faded, or share so much that they had better be made orthogonal.
  AGF_CORE bool crowded() {
    const std::size_t m = state_.params, k = directions_.visible_count();
    unit_.resize(k * m);
    cosines_.resize(k * k);
    scratch_.resize(k);
    const double* const theta = flow_.theta().data();
    double *const unit = unit_.data(), *const log_length = scratch_.data(), *const cosine = cosines_.data();
    each_task(k, [=](std::size_t i) {
      const double length = norm(m, theta + i * m);
      log_length[i] = std::log(length);
      for (std::size_t e = 0; e < m; ++e) unit[i * m + e] = theta[i * m + e] / length;
    });
    for (const double one : scratch_)
      if (one < level_ - 2) return true;
    each_below(k, [=](std::size_t i, std::size_t j) { cosine[i * k + j] = dot(m, unit + i * m, unit + j * m); });
    for (std::size_t i = 0; i < k; ++i) {
      // Cholesky's factor, row by row.
      for (std::size_t j = 0; j <= i; ++j) {
        double sum = cosine[i * k + j];
        for (std::size_t l = 0; l < j; ++l) sum -= cosine[i * k + l] * cosine[j * k + l];
        if (j < i) {
          cosine[i * k + j] = sum / cosine[j * k + j];
        } else if (sum < least_independence) {
          return true;
        } else {
          cosine[i * k + i] = std::sqrt(sum);
        }
      }
    }
    return false;
  }

  AGF_CORE Array<double> visible(double s) const {
    Array<double> theta;
    flow_.between(s, theta);
    return theta;
  }

  // B at a fraction of the last step. The step is done and counts: who interrupts it has to wait for this.
  AGF_CORE Array<double> form(double s) {
    const Array<double> theta = visible(s);
    Array<double> out;
    undisturbed([&]() {
      problem_.residual(theta.data(), theta.size() / state_.params, *signal_);
      quadratic_form(problem_, path_.stats, *signal_, out);
    });
    return out;
  }

  // Moves the faint columns from one fraction of the last step to another.
  AGF_CORE void carry(double from, double to) {
    if (directions_.count() == 0 || !(to > from)) return;
    const Array<double> b1 = form(from + Transport::first * (to - from)), b2 = form(0.5 * (from + to)),
                        b3 = form(from + Transport::last * (to - from));
    const double h = (to - from) * moved_;
    if (transport_.step(b1, b2, b3, h)) {
      reach_ -= h;
      if (transport_.strained()) settle(modes(b3, backend_, path_.stats));
    } else if (Transport::still(b1, b2, b3, h)) {
      reach_ -= h;
      transport_.grow(modes(b2, backend_, path_.stats), h);
    } else {
      const double middle = 0.5 * (from + to);
      carry(from, middle);
      carry(middle, to);
    }
  }
};

}  // namespace

AGF_CORE AGF_APART Trajectory gradient_flow_of_directions(const Problem& problem, Backend& backend, Control& control,
                                                          const State& start, const FlowOptions& options) {
  const Listening listening(control);
  return DirectionFlow(problem, backend, control, start, options).go();
}

}  // namespace AGF_SPACE
