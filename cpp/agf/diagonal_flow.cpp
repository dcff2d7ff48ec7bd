#include "diagonal_flow.hpp"

#include <algorithm>
#include <cmath>

#include "clock.hpp"
#include "diagonal_field.hpp"
#include "entries.hpp"
#include "interrupt.hpp"
#include "linear.hpp"
#include "tableau.hpp"

namespace AGF_SPACE {

namespace {

AGF_TABLE long most_diagonal_steps = 5'000'000;
// What a neuron may take off the residual, relative to the targets, unseen: below rounding of r even once the loss has
// fallen to 1e-10 of itself. And from where on its growth is followed at one e-fold per step at most.
AGF_TABLE double unfelt = 1e-17, in_sight = 1e-3;
// A felt neuron whose log-norm is this far below that level is felt no more.
AGF_TABLE double hysteresis = 2;
AGF_TABLE double inert_rate = 1e-10;
// x from which on v is a pure exponential of it.
AGF_TABLE double exponential_from = 20;

// Lies in an array with all it has: many threads look at its neurons.
class DiagonalFlow {
 public:
  AGF_CORE DiagonalFlow(const Design& design, const double* y, Backend& backend, Control& control, const State& start,
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

  AGF_CORE Trajectory go() {
    if (!uninterrupted([this]() { integrate(); })) finish(control_.stop);
    gather(y_, state_);
    if (path_.points.empty()) {
      // Stopped within the first evaluation, which is then made here.
      field_.look(y_.data());
      path_.points.push_back({state_.time, state_.scaled_time, field_.loss(), elapsed_});
    }
    path_.state = state_;
    path_.conserved_drift = 0;
    path_.stats.evaluations = field_.evaluations();
    path_.stats.hessians = field_.factorisations();
    path_.stats.seconds = control_.seconds();
    return std::move(path_);
  }

 private:
  Control& control_;
  const FlowOptions options_;
  std::size_t count_;
  State state_;
  DiagonalNetwork network_;
  double log_unit_ = 0;  // set by unit(), before the field is made
  DiagonalField field_;
  Trajectory path_;
  Array<double> y_;            // x or ln v of the felt, T of the others
  Array<unsigned char> logs_;  // whether it is ln v
  Array<double> level_;  // |x| or ln v from which on a neuron is felt; -infinity: always; infinity: it never moves
  Array<double> shown_;  // |x| or ln v where its growth is to be followed closely
  Array<double> edge_;   // |T| at level_; of pinned neurons T, 0 there
  Array<unsigned char> felt_;
  Array<signed char> side_;  // of the felt whose variable is ln v
  Trial trial_;
  const Array<int> which_ = Array<int>(1, 0);     // systems: one
  Array<double> length_ = Array<double>(1, 0.0);  // of its step
  double least_ = 0, zero_loss_ = 0;
  double step_ = 0, elapsed_ = 0;
  std::size_t next_ = 0;
  bool done_ = false;

  // ln of the unit of T: the longest way to the end that a neuron has.
  AGF_CORE double unit() {
    if (network_.depth() == 2) return log_unit_ = 0;
    const double longest = -least(count_, long_work, [this](std::size_t i) {
      const DiagonalNeuron& neuron = network_.neuron(i);
      if (neuron.free() || network_.still(i) || (i > 0 && !neuron.pinned() && network_.kind(i) == network_.kind(i - 1)))
        return infinity;
      const double from = neuron.pinned() ? network_.log_v(i) : 0;
      return from < neuron.end() ? -neuron.log_travel(from, neuron.end()) : infinity;
    });
    return log_unit_ = longest == -infinity ? 0 : longest;
  }

  AGF_CORE double clock() const { return options_.scaled_clock ? state_.scaled_time : state_.time; }
  AGF_CORE void finish(Status status) {
    path_.status = status;
    done_ = true;
  }
  AGF_CORE double target() const {
    const bool saves = !options_.save_all && next_ < options_.save_at.size();
    return saves ? std::min(options_.save_at[next_], options_.t_end) : options_.t_end;
  }

  AGF_CORE void place(const Design& design, const double* y) {
    const double n = static_cast<double>(design.rows());
    Array<double> length(count_), g(count_);
    design.lengths(length.data());
    design.correlate(y, g.data());
    double square = long_dot(design.rows(), y, y);
    zero_loss_ = 0.5 * square / n;
    if (!(square > 0)) {
      // Without targets the network's own outputs are what there is to learn away.
      Array<std::size_t> all(count_);
      Array<double> beta(count_), image(design.rows(), 0.0);
      std::size_t* const which = all.data();
      double *const of = beta.data(), *const f = image.data();
      each_task(count_, [=, this](std::size_t i) {
        which[i] = i;
        of[i] = network_.product(i);
      });
      design.combine(all, of, f);
      square = plus_total(square, design.rows(), [=](std::size_t e) { return f[e] * f[e]; });
    }
    const double *const slope = g.data(), *const lengths = length.data();
    least_ = inert_rate * largest(count_, [=](std::size_t i) { return std::abs(slope[i]) / n; });
    each_task(count_, [=, this](std::size_t i) { put(i, square, lengths[i]); });
    field_.set_felt(where(count_, [this](std::size_t i) { return felt_[i] != 0; }), side_);
  }

  // A neuron's levels and its own variable, where |y|^2 is `square` and its column so long.
  AGF_CORE void put(std::size_t i, double square, double length) {
    const DiagonalNeuron& neuron = network_.neuron(i);
    // ln v at which |x_i beta| is a part of |y|.
    const double log_beta = 0.5 * std::log(square) - std::log(length);
    const auto log_v_at = [&](double part) {
      return std::isfinite(log_beta) ? neuron.log_v_of_product(log_beta + std::log(part)) : infinity;
    };
    const double level = log_v_at(unfelt), shown = log_v_at(in_sight);
    logs_[i] = neuron.pinned() || neuron.position(level) > exponential_from + hysteresis;
    level_[i] = logs_[i] ? level : neuron.position(level);
    shown_[i] = logs_[i] ? shown : neuron.position(shown);
    edge_[i] = 0;
    if (network_.still(i)) level_[i] = infinity;
    if (level_[i] == infinity) {
      edge_[i] = infinity;
      return;
    }
    // Where conserved quantities keep a neuron from ever getting small, it is always felt.
    if (!logs_[i] && level_[i] < 2 * hysteresis) level_[i] = -infinity;
    const double x = neuron.position(network_.log_v(i));
    if ((logs_[i] ? network_.log_v(i) : x) >= level_[i]) {
      felt_[i] = 1;
      if (logs_[i]) side_[i] = static_cast<signed char>(network_.sign(i));
      y_[i] = logs_[i] ? network_.log_v(i) : network_.sign(i) * x;
    } else {
      y_[i] = mirror(i, network_.sign(i), network_.log_v(i));
    }
    if (!neuron.pinned() && level_[i] > -infinity) edge_[i] = neuron.travel(0, neuron.position(level), log_unit_);
  }

  // ln v of the level.
  AGF_CORE double log_v_of_level(std::size_t i) const {
    return logs_[i] ? level_[i] : network_.neuron(i).log_v(level_[i]);
  }

  // T of an unfelt neuron from ln v, and back. Of pinned ones counted from the level on.
  AGF_CORE double mirror(std::size_t i, int sign, double log_v) const {
    const DiagonalNeuron& neuron = network_.neuron(i);
    const double x = neuron.position(log_v);
    return neuron.pinned() ? -sign * neuron.travel(x, level_[i], log_unit_) : sign * neuron.travel(0, x, log_unit_);
  }
  AGF_CORE double log_v_of_mirror(std::size_t i, double t) const {
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

  AGF_CORE void gather(const Array<double>& y, State& state) {
    const double* const at = y.data();
    each_task(count_, [=, this](std::size_t i) {
      if (level_[i] == infinity) return;
      if (felt_[i])
        network_.set(i, field_.sign(i, at[i]), field_.log_v(i, at[i]));
      else
        network_.set(i, network_.neuron(i).pinned() ? network_.sign(i) : (at[i] < 0 ? -1 : 1),
                     log_v_of_mirror(i, at[i]));
    });
    network_.write(state, Array<signed char>(count_, 0));
    const double* const log_norm = state.log_norm.data();
    unsigned char* const active = state.active.data();
    each(count_, [=](std::size_t i) { active[i] = log_norm[i] >= 0; });
    state.phase_elapsed = elapsed_;
  }

  AGF_CORE void integrate() {
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
      } else if (path_.stats.steps > most_diagonal_steps) {
        finish(Status::work_limit);
      } else if (at_rest()) {
        plateau();
      } else {
        move();
      }
    }
  }

  AGF_CORE bool push(const Point& point, const State* state) {
    path_.points.push_back(point);
    if (state) path_.states.push_back(*state);
    if (options_.observer && options_.observer(point, state)) {
      finish(Status::callback);
      return true;
    }
    return false;
  }
  AGF_CORE bool record(bool with_state) {
    const Point point{state_.time, state_.scaled_time, field_.loss(), elapsed_};
    if (!with_state) return push(point, nullptr);
    gather(y_, state_);
    return push(point, &state_);
  }

  AGF_CORE double tolerance() const { return 0.1 * options_.rtol; }

  // Everybody felt would move by less than the accuracy asked for, were time endless: then they are put where they
  // would come to, because late in a run E[x r] is a difference that small.
  AGF_CORE bool at_rest() {
    const std::size_t* const felt = field_.felt().data();
    const double* const g = field_.gradient().data();
    double* const y = y_.data();
    const double fastest = largest(field_.felt().size(), [=](std::size_t a) { return std::abs(g[felt[a]]); });
    // Worth a factorisation only where nearly nothing is left to do.
    if (fastest > 1e4 * least_) return false;
    Array<double> change;
    double most = field_.way_to_rest(change);
    if (!(most <= tolerance())) return false;
    for (int round = 0; round < 4 && most > 0; ++round) {
      const double* const by = change.data();
      each(change.size(), [=](std::size_t a) { y[felt[a]] += by[a]; });
      field_.look(y_.data());
      const double before = most;
      most = field_.way_to_rest(change);
      if (!(most <= 0.1 * before)) break;
    }
    return true;
  }

  // The place of T where an unfelt neuron is felt, on the side it moves to.
  AGF_CORE double edge(std::size_t i, double g) const {
    const DiagonalNeuron& neuron = network_.neuron(i);
    if (!neuron.pinned()) return g > 0 ? edge_[i] : -edge_[i];
    if ((g > 0) != (network_.sign(i) > 0)) return g > 0 ? infinity : -infinity;
    return level_[i] == infinity ? (g > 0 ? infinity : -infinity) : 0;
  }

  // r stands still: the others travel in closed form, to where the first of them is felt or to the next time to stop
  // at.
  AGF_CORE void plateau() {
    const double* const g = field_.gradient().data();
    const double soonest = least(count_, [=, this](std::size_t i) {
      if (felt_[i] || !(std::abs(g[i]) > least_)) return infinity;
      return std::max((edge(i, g[i]) - y_[i]) / g[i], 0.0);
    });
    const double goal = target();
    const double log_left = std::log(goal - clock()) + (options_.scaled_clock ? state_.log_eta : 0);
    if (soonest == infinity && !std::isfinite(goal)) return finish(Status::inert);
    const bool arrives = std::log(soonest) + log_unit_ <= log_left;
    const double log_elapsed = arrives ? std::log(soonest) + log_unit_ : log_left;
    const double travelled = arrives ? soonest : std::exp(log_left - log_unit_);
    const Array<std::size_t> there = where(arrives ? count_ : 0, [=, this](std::size_t i) {
      return !felt_[i] && std::abs(g[i]) > least_ && (edge(i, g[i]) - y_[i]) / g[i] <= soonest * (1 + 1e-15);
    });
    each(count_, [=, this](std::size_t i) {
      if (!felt_[i]) y_[i] += g[i] * travelled;
    });
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
  AGF_CORE bool arrived(std::size_t i, double t, double g) const {
    const double e = edge(i, g), slack = 4 * std::numeric_limits<double>::epsilon() * std::abs(e);
    return std::isfinite(e) && g != 0 && (g > 0 ? t >= e - slack : t <= e + slack);
  }

  AGF_CORE void enter(std::size_t i, int sign, double log_v) {
    felt_[i] = 1;
    if (logs_[i]) side_[i] = static_cast<signed char>(sign);
    y_[i] = logs_[i] ? log_v : sign * network_.neuron(i).position(log_v);
  }

  AGF_CORE void regroup() {
    field_.set_felt(where(count_, [this](std::size_t i) { return felt_[i] != 0; }), side_);
    field_.look(y_.data());
  }

  // Longest step after which nobody has grown past where it must be followed, on either side of zero, nor fallen to
  // where ln v is no variable any more.
  AGF_CORE double reach(const Array<double>& rates) const {
    const double* const f = rates.data();
    return least(count_, [=, this](std::size_t i) {
      if (f[i] == 0) return infinity;
      if (felt_[i]) {
        const double size = logs_[i] ? y_[i] : std::abs(y_[i]);
        double way = std::max(shown_[i] - size, 1.0);
        if (logs_[i] ? f[i] < 0 : f[i] * field_.sign(i, y_[i]) < 0)
          way = logs_[i] ? std::max(size - level_[i] + hysteresis, 0.0) + 1 : size + std::max(shown_[i], 1.0);
        return way / std::abs(f[i]);
      }
      if (!(std::abs(field_.gradient()[i]) > least_)) return infinity;
      // To its edge; at depth 2, where nothing depends on it yet, an e-fold beyond.
      const double slack = network_.depth() == 2 ? 1 : 0;
      return (std::abs(edge(i, f[i]) - y_[i]) + slack) / std::abs(f[i]);
    });
  }

  AGF_CORE void move() {
    Array<double> f(count_);
    // The slopes of the last look, without another evaluation.
    field_.rates(f.data());
    double left = options_.t_end - clock();
    if (options_.scaled_clock) left *= std::exp(state_.log_eta);
    const double limit = reach(f);
    if (!(step_ > 0)) step_ = 0.1 * limit;
    bool rejected = false;
    const Array<double> before = y_;
    for (;;) {
      if (control_.poll()) return;
      const double h = std::min({step_, limit, left});
      if (!(h > 0) || !std::isfinite(h)) return finish(Status::non_finite);
      double error = infinity;
      if (field_.factorise(1 / (Rodas5P::gamma * h))) {
        length_[0] = h;
        implicit_step(field_, which_, length_.data(), before.data(), f.data(), trial_);
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
  AGF_CORE bool overshot() const {
    return !every(count_, long_work, [this](std::size_t i) {
      if (felt_[i] || !arrived(i, trial_.y1[i], field_.gradient()[i])) return true;
      return !(log_v_of_mirror(i, trial_.y1[i]) > log_v_of_level(i) + hysteresis);
    });
  }

  AGF_CORE double scaled_error() const {
    const double *const y1 = trial_.y1.data(), *const error = trial_.error.data(), allowed = tolerance();
    const double worst =
        largest(count_, [=](std::size_t i) { return std::isfinite(y1[i]) ? std::abs(error[i]) / allowed : infinity; });
    return std::isfinite(worst) ? worst : infinity;
  }

  AGF_CORE void advance(const Array<double>& before, double h, bool to_end) {
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
      Array<double> y(count_);
      const Trial::Curve curve = trial_.curve(before.data());
      double* const to = y.data();
      each(count_, [=](std::size_t i) { to[i] = curve(i, s); });
      undisturbed([&]() { field_.look(y.data()); });
      State state = state_;
      state.time = time + s * h;
      state.scaled_time = scaled + s * h * unit;
      (options_.scaled_clock ? state.scaled_time : state.time) = at;
      const Point point{state.time, state.scaled_time, field_.loss(), elapsed + s * h};
      gather(y, state);
      push(point, &state);
    }
    // How many are felt from here on, or no more.
    const double changes = total(count_, long_work, [this](std::size_t i) {
      if (felt_[i]) {
        if (!((logs_[i] ? y_[i] : std::abs(y_[i])) < level_[i] - hysteresis)) return 0.0;
        felt_[i] = 0;
        y_[i] = mirror(i, field_.sign(i, y_[i]), field_.log_v(i, y_[i]));
        side_[i] = 0;
        return 1.0;
      }
      const double g = field_.gradient()[i];
      if (!arrived(i, y_[i], g)) return 0.0;
      enter(i, g > 0 ? 1 : -1, std::max(log_v_of_mirror(i, y_[i]), log_v_of_level(i)));
      return 1.0;
    });
    if (changes > 0)
      regroup();
    else
      field_.look(y_.data());
    if (options_.save_all && !done_) record(false);
  }
};

}  // namespace

AGF_CORE AGF_APART Trajectory diagonal_flow(const Design& design, const double* y, Backend& backend, Control& control,
                                            const State& start, const FlowOptions& options) {
  const Owned<DiagonalFlow> run = make_owned<DiagonalFlow>(design, y, backend, control, start, options);
  // From here on a run that is broken off has something to give back.
  const Listening listening(control);
  return run->go();
}

}  // namespace AGF_SPACE
