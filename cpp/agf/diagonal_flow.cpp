#include "diagonal_flow.hpp"

#include <algorithm>
#include <cmath>

#include "clock.hpp"
#include "diagonal_field.hpp"
#include "interrupt.hpp"
#include "tableau.hpp"

namespace agf {

namespace {

constexpr long most_steps = 5'000'000;
// What a neuron may take off the residual, relative to the targets, unseen: below rounding of r even once the loss has
// fallen to 1e-10 of itself. And from where on its growth is followed at one e-fold per step at most.
constexpr double unfelt = 1e-17, visible = 1e-3;
// A felt neuron whose log-norm is this far below that level is felt no more.
constexpr double hysteresis = 2;
constexpr double inert = 1e-10;
// x from which on v is a pure exponential of it.
constexpr double exponential = 20;

class Run {
 public:
  Run(const Design& design, const double* y, Backend& backend, Control& control, const State& start,
      const FlowOptions& options)
      : control_(control),
        options_(options),
        count_(design.columns()),
        state_(start),
        network_(start, options.adaptive_rate),
        field_(design, y, backend, network_, unit()),
        y_(count_, 0.0),
        logs_(count_, 0),
        level_(count_),
        shown_(count_),
        edge_(count_),
        felt_(count_, 0),
        side_(count_, 0) {
    if (std::isnan(state_.log_eta))
      state_.log_eta = log_mean_threshold(state_, options.adaptive_rate ? 2 : static_cast<double>(network_.depth()));
    place(design, y);
  }

  Trajectory go() {
    try {
      integrate();
    } catch (const Interrupted&) {
      finish(control_.stop);
    }
    gather(y_, state_);
    if (path_.points.empty()) path_.points.push_back({state_.time, state_.scaled_time, field_.loss(), elapsed_});
    path_.state = state_;
    path_.conserved_drift = 0;
    path_.stats.evaluations = field_.evaluations();
    path_.stats.hessians = field_.factorisations();
    path_.stats.seconds = control_.seconds();
    return std::move(path_);
  }

 private:
  Control& control_;
  const FlowOptions& options_;
  std::size_t count_;
  State state_;
  DiagonalNetwork network_;
  double log_unit_ = 0;  // set by unit(), before the field is made
  DiagonalField field_;
  Trajectory path_;
  std::vector<double> y_;            // x or ln v of the felt, T of the others
  std::vector<unsigned char> logs_;  // whether it is ln v
  std::vector<double>
      level_;  // |x| or ln v from which on a neuron is felt; -infinity: always; infinity: it never moves
  std::vector<double> shown_;  // |x| or ln v where its growth is to be followed closely
  std::vector<double> edge_;   // |T| at level_; of pinned neurons T, 0 there
  std::vector<unsigned char> felt_;
  std::vector<signed char> side_;  // of the felt whose variable is ln v
  Trial trial_;
  double least_ = 0, zero_loss_ = 0;
  double step_ = 0, elapsed_ = 0;
  std::size_t next_ = 0;
  bool done_ = false;

  // ln of the unit of T: the longest way to the end that a neuron has.
  double unit() {
    double longest = -infinity;
    for (std::size_t i = 0; i < count_ && network_.depth() > 2; ++i) {
      const DiagonalNeuron& neuron = network_.neuron(i);
      if (neuron.free() || network_.still(i) || (i > 0 && !neuron.pinned() && network_.kind(i) == network_.kind(i - 1)))
        continue;
      const double from = neuron.pinned() ? network_.log_v(i) : 0;
      if (from < neuron.end()) longest = std::max(longest, neuron.log_travel(from, neuron.end()));
    }
    return log_unit_ = longest == -infinity ? 0 : longest;
  }

  double clock() const { return options_.scaled_clock ? state_.scaled_time : state_.time; }
  void finish(Status status) {
    path_.status = status;
    done_ = true;
  }
  double target() const {
    const bool saves = !options_.save_all && next_ < options_.save_at.size();
    return saves ? std::min(options_.save_at[next_], options_.t_end) : options_.t_end;
  }

  void place(const Design& design, const double* y) {
    const double n = static_cast<double>(design.rows());
    std::vector<double> length(count_), g(count_);
    design.lengths(length.data());
    design.correlate(y, g.data());
    double square = 0;
    for (std::size_t e = 0; e < design.rows(); ++e) square += y[e] * y[e];
    zero_loss_ = 0.5 * square / n;
    if (!(square > 0)) {
      // Without targets the network's own outputs are what there is to learn away.
      std::vector<std::size_t> all(count_);
      std::vector<double> beta(count_), image(design.rows(), 0.0);
      for (std::size_t i = 0; i < count_; ++i) {
        all[i] = i;
        beta[i] = network_.product(i);
      }
      design.combine(all, beta.data(), image.data());
      for (double f : image) square += f * f;
    }
    for (double x : g) least_ = std::max(least_, std::abs(x) / n);
    least_ *= inert;
    std::vector<std::size_t> felt;
    for (std::size_t i = 0; i < count_; ++i) {
      const DiagonalNeuron& neuron = network_.neuron(i);
      // ln v at which |x_i beta| is a part of |y|.
      const double log_beta = 0.5 * std::log(square) - std::log(length[i]);
      auto where = [&](double part) {
        return std::isfinite(log_beta) ? neuron.log_v_of_product(log_beta + std::log(part)) : infinity;
      };
      const double level = where(unfelt), shown = where(visible);
      logs_[i] = neuron.pinned() || neuron.position(level) > exponential + hysteresis;
      level_[i] = logs_[i] ? level : neuron.position(level);
      shown_[i] = logs_[i] ? shown : neuron.position(shown);
      edge_[i] = 0;
      if (network_.still(i)) level_[i] = infinity;
      if (level_[i] == infinity) {
        edge_[i] = infinity;
        continue;
      }
      // Where conserved quantities keep a neuron from ever getting small, it is always felt.
      if (!logs_[i] && level_[i] < 2 * hysteresis) level_[i] = -infinity;
      const double x = neuron.position(network_.log_v(i));
      if ((logs_[i] ? network_.log_v(i) : x) >= level_[i]) {
        felt_[i] = 1;
        felt.push_back(i);
        if (logs_[i]) side_[i] = static_cast<signed char>(network_.sign(i));
        y_[i] = logs_[i] ? network_.log_v(i) : network_.sign(i) * x;
      } else {
        y_[i] = mirror(i, network_.sign(i), network_.log_v(i));
      }
      if (!neuron.pinned() && level_[i] > -infinity) edge_[i] = neuron.travel(0, neuron.position(level), log_unit_);
    }
    field_.set_felt(felt, side_);
  }

  // ln v of the level.
  double log_v_of_level(std::size_t i) const { return logs_[i] ? level_[i] : network_.neuron(i).log_v(level_[i]); }

  // T of an unfelt neuron from ln v, and back. Of pinned ones counted from the level on.
  double mirror(std::size_t i, int sign, double log_v) const {
    const DiagonalNeuron& neuron = network_.neuron(i);
    const double x = neuron.position(log_v);
    return neuron.pinned() ? -sign * neuron.travel(x, level_[i], log_unit_) : sign * neuron.travel(0, x, log_unit_);
  }
  double log_v_of_mirror(std::size_t i, double t) const {
    const DiagonalNeuron& neuron = network_.neuron(i);
    double way = std::abs(t);
    if (neuron.pinned()) {
      const double beyond = level_[i] < neuron.end() ? neuron.travel(level_[i], neuron.end(), log_unit_)
                                                     : -neuron.travel(neuron.end(), level_[i], log_unit_);
      way = std::max(beyond - network_.sign(i) * t, 0.0);
    } else if (way == edge_[i]) {
      return log_v_of_level(i);
    }
    return neuron.log_v(neuron.arrival(way, log_unit_));
  }

  void gather(const std::vector<double>& y, State& state) {
    for (std::size_t i = 0; i < count_; ++i) {
      if (level_[i] == infinity) continue;
      if (felt_[i])
        network_.set(i, field_.sign(i, y[i]), field_.log_v(i, y[i]));
      else
        network_.set(i, network_.neuron(i).pinned() ? network_.sign(i) : (y[i] < 0 ? -1 : 1), log_v_of_mirror(i, y[i]));
    }
    network_.write(state, std::vector<signed char>(count_, 0));
    for (std::size_t i = 0; i < count_; ++i) state.active[i] = state.log_norm[i] >= 0;
    state.phase_elapsed = elapsed_;
  }

  void integrate() {
    field_.look(y_.data());
    while (next_ < options_.save_at.size() && !options_.save_all && options_.save_at[next_] <= clock() && !done_) {
      ++next_;
      record(true);
    }
    if (options_.save_all) record(false);
    if (!done_ && field_.felt().empty() && !(zero_loss_ > 0)) finish(Status::nothing_to_learn);
    while (!done_) {
      if (control_.poll()) {
        finish(control_.stop);
      } else if (options_.loss_tol >= 0 && field_.loss() <= options_.loss_tol) {
        finish(Status::loss_tol);
      } else if (!(options_.t_end - clock() >= std::numeric_limits<double>::min())) {
        finish(Status::t_end);
      } else if (path_.stats.steps > most_steps) {
        finish(Status::work_limit);
      } else if (at_rest()) {
        plateau();
      } else {
        move();
      }
    }
  }

  bool push(const Point& point, const State* state) {
    path_.points.push_back(point);
    if (state) path_.states.push_back(*state);
    if (options_.observer && options_.observer(point, state)) {
      finish(Status::callback);
      return true;
    }
    return false;
  }
  bool record(bool with_state) {
    const Point point{state_.time, state_.scaled_time, field_.loss(), elapsed_};
    if (!with_state) return push(point, nullptr);
    gather(y_, state_);
    return push(point, &state_);
  }

  double tolerance() const { return 0.1 * options_.rtol; }

  // Everybody felt would move by less than the accuracy asked for, were time endless: then they are put where they
  // would come to, because late in a run E[x r] is a difference that small.
  bool at_rest() {
    double fastest = 0;
    for (std::size_t i : field_.felt()) fastest = std::max(fastest, std::abs(field_.gradient()[i]));
    // Worth a factorisation only where nearly nothing is left to do.
    if (fastest > 1e4 * least_) return false;
    std::vector<double> change;
    double most = field_.way_to_rest(change);
    if (!(most <= tolerance())) return false;
    for (int round = 0; round < 4 && most > 0; ++round) {
      for (std::size_t a = 0; a < change.size(); ++a) y_[field_.felt()[a]] += change[a];
      field_.look(y_.data());
      const double before = most;
      most = field_.way_to_rest(change);
      if (!(most <= 0.1 * before)) break;
    }
    return true;
  }

  // The place of T where an unfelt neuron is felt, on the side it moves to.
  double edge(std::size_t i, double g) const {
    const DiagonalNeuron& neuron = network_.neuron(i);
    if (!neuron.pinned()) return g > 0 ? edge_[i] : -edge_[i];
    if ((g > 0) != (network_.sign(i) > 0)) return g > 0 ? infinity : -infinity;
    return level_[i] == infinity ? (g > 0 ? infinity : -infinity) : 0;
  }

  // r stands still: the others travel in closed form, to where the first of them is felt or to the next time to stop
  // at.
  void plateau() {
    double soonest = infinity;
    const std::vector<double>& g = field_.gradient();
    for (std::size_t i = 0; i < count_; ++i)
      if (!felt_[i] && std::abs(g[i]) > least_)
        soonest = std::min(soonest, std::max((edge(i, g[i]) - y_[i]) / g[i], 0.0));
    const double goal = target();
    const double log_left = std::log(goal - clock()) + (options_.scaled_clock ? state_.log_eta : 0);
    if (soonest == infinity && !std::isfinite(goal)) return finish(Status::inert);
    const bool arrives = std::log(soonest) + log_unit_ <= log_left;
    const double log_elapsed = arrives ? std::log(soonest) + log_unit_ : log_left;
    const double travelled = arrives ? soonest : std::exp(log_left - log_unit_);
    std::vector<std::size_t> there;
    for (std::size_t i = 0; i < count_; ++i) {
      if (felt_[i]) continue;
      if (arrives && std::abs(g[i]) > least_ && (edge(i, g[i]) - y_[i]) / g[i] <= soonest * (1 + 1e-15))
        there.push_back(i);
      y_[i] += g[i] * travelled;
    }
    ++path_.stats.steps;
    pass(state_, log_elapsed);
    elapsed_ += std::exp(log_elapsed);
    if (!arrives) (options_.scaled_clock ? state_.scaled_time : state_.time) = goal;
    if (arrives) {
      elapsed_ = 0;
      for (std::size_t i : there) enter(i, g[i] > 0 ? 1 : -1, log_v_of_level(i));
      regroup();
      step_ = 0;
    }
    if (options_.save_all) {
      record(false);
    } else if (next_ < options_.save_at.size() && options_.save_at[next_] <= clock()) {
      ++next_;
      record(true);
    }
  }

  // Whether an unfelt neuron at t has come to where it is felt, to rounding, moving with the sign of g.
  bool arrived(std::size_t i, double t, double g) const {
    const double e = edge(i, g), slack = 4 * std::numeric_limits<double>::epsilon() * std::abs(e);
    return std::isfinite(e) && g != 0 && (g > 0 ? t >= e - slack : t <= e + slack);
  }

  void enter(std::size_t i, int sign, double log_v) {
    felt_[i] = 1;
    if (logs_[i]) side_[i] = static_cast<signed char>(sign);
    y_[i] = logs_[i] ? log_v : sign * network_.neuron(i).position(log_v);
  }

  void regroup() {
    std::vector<std::size_t> felt;
    for (std::size_t i = 0; i < count_; ++i)
      if (felt_[i]) felt.push_back(i);
    field_.set_felt(felt, side_);
    field_.look(y_.data());
  }

  // Longest step after which nobody has grown past where it must be followed, on either side of zero, nor fallen to
  // where ln v is no variable any more.
  double reach(const std::vector<double>& f) const {
    double longest = infinity;
    for (std::size_t i = 0; i < count_; ++i) {
      if (f[i] == 0) continue;
      if (felt_[i]) {
        const double size = logs_[i] ? y_[i] : std::abs(y_[i]);
        double way = std::max(shown_[i] - size, 1.0);
        if (logs_[i] ? f[i] < 0 : f[i] * field_.sign(i, y_[i]) < 0)
          way = logs_[i] ? std::max(size - level_[i] + hysteresis, 0.0) + 1 : size + std::max(shown_[i], 1.0);
        longest = std::min(longest, way / std::abs(f[i]));
      } else if (std::abs(field_.gradient()[i]) > least_) {
        // To its edge; at depth 2, where nothing depends on it yet, an e-fold beyond.
        const double slack = network_.depth() == 2 ? 1 : 0;
        longest = std::min(longest, (std::abs(edge(i, f[i]) - y_[i]) + slack) / std::abs(f[i]));
      }
    }
    return longest;
  }

  void move() {
    const std::vector<int> which{0};
    std::vector<double> f(count_);
    // The slopes of the last look, without another evaluation.
    field_.rates(f.data());
    double left = options_.t_end - clock();
    if (options_.scaled_clock) left *= std::exp(state_.log_eta);
    const double limit = reach(f);
    if (!(step_ > 0)) step_ = 0.1 * limit;
    bool rejected = false;
    const std::vector<double> before = y_;
    for (;;) {
      if (control_.poll()) return;
      const double h = std::min({step_, limit, left});
      if (!(h > 0) || !std::isfinite(h)) return finish(Status::non_finite);
      double error = infinity;
      if (field_.factorise(1 / (Rodas5P::gamma * h))) {
        implicit_step(field_, which, &h, before.data(), f.data(), trial_);
        error = trial_.solved ? scaled_error() : infinity;
        if (error <= 1 && overshot()) error = 1e3;
      }
      ++path_.stats.steps;
      if (error <= 1) {
        step_ = h * step_factor(error, rejected);
        // A step cut short says nothing of the one after.
        advance(before, h, h == left);
        return;
      }
      ++path_.stats.rejected;
      rejected = true;
      step_ = h * step_factor(error, true);
      field_.look(before.data());
    }
  }

  // Somebody unfelt has grown by more than an e-fold or two past where it should have been felt.
  bool overshot() const {
    for (std::size_t i = 0; i < count_; ++i) {
      const double g = field_.gradient()[i];
      if (felt_[i] || !arrived(i, trial_.y1[i], g)) continue;
      if (log_v_of_mirror(i, trial_.y1[i]) > log_v_of_level(i) + hysteresis) return true;
    }
    return false;
  }

  double scaled_error() const {
    double worst = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      if (!std::isfinite(trial_.y1[i])) return infinity;
      worst = std::max(worst, std::abs(trial_.error[i]) / tolerance());
    }
    return std::isfinite(worst) ? worst : infinity;
  }

  void advance(const std::vector<double>& before, double h, bool to_end) {
    const double time = state_.time, scaled = state_.scaled_time, elapsed = elapsed_;
    const double unit = std::exp(-state_.log_eta);
    state_.time += h;
    state_.scaled_time += h * unit;
    elapsed_ += h;
    // With the clocks: what follows may be interrupted.
    y_ = trial_.y1;
    if (to_end && std::isfinite(options_.t_end))
      (options_.scaled_clock ? state_.scaled_time : state_.time) = options_.t_end;
    while (!options_.save_all && next_ < options_.save_at.size() && options_.save_at[next_] <= clock() && !done_) {
      const double at = options_.save_at[next_++];
      const double from = options_.scaled_clock ? scaled : time;
      const double s = std::clamp((at - from) / (options_.scaled_clock ? h * unit : h), 0.0, 1.0);
      std::vector<double> y(count_);
      for (std::size_t i = 0; i < count_; ++i) y[i] = trial_.at(0, i, count_, before.data(), s);
      undisturbed([&]() { field_.look(y.data()); });
      State state = state_;
      state.time = time + s * h;
      state.scaled_time = scaled + s * h * unit;
      (options_.scaled_clock ? state.scaled_time : state.time) = at;
      const Point point{state.time, state.scaled_time, field_.loss(), elapsed + s * h};
      gather(y, state);
      push(point, &state);
    }
    bool changed = false;
    for (std::size_t i = 0; i < count_; ++i) {
      if (felt_[i]) {
        if (!((logs_[i] ? y_[i] : std::abs(y_[i])) < level_[i] - hysteresis)) continue;
        felt_[i] = 0;
        y_[i] = mirror(i, field_.sign(i, y_[i]), field_.log_v(i, y_[i]));
        side_[i] = 0;
        changed = true;
      } else if (const double g = field_.gradient()[i]; arrived(i, y_[i], g)) {
        enter(i, g > 0 ? 1 : -1, std::max(log_v_of_mirror(i, y_[i]), log_v_of_level(i)));
        changed = true;
      }
    }
    if (changed)
      regroup();
    else
      field_.look(y_.data());
    if (options_.save_all && !done_) record(false);
  }
};

}  // namespace

Trajectory diagonal_flow(const Design& design, const double* y, Backend& backend, Control& control, const State& start,
                         const FlowOptions& options) {
  Run run(design, y, backend, control, start, options);
  // From here on a run that is broken off has something to give back.
  const std::function<bool()> ask = [&control]() { return !control.stopping && control.poll(); };
  const InterruptionScope scope(ask);
  return run.go();
}

}  // namespace agf
