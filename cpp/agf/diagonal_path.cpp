#include "diagonal_path.hpp"

#include <algorithm>
#include <cmath>

#include "clock.hpp"
#include "diagonal_state.hpp"
#include "entries.hpp"
#include "interrupt.hpp"
#include "signed_least_squares.hpp"

namespace AGF_SPACE {

namespace {

// Gradients below this, relative to the largest of the zero network's, have nothing to teach.
AGF_TABLE double inert_part = 1e-10;
// Crossing times that agree to this, relative to the time from one end to the other, are one event.
AGF_TABLE double same_moment = 1e-12;
// ln of the norm of a dormant neuron in the limit: below every scale.
AGF_TABLE double vanished = -1e300;
// Jumps expected times neurons up to which every jump carries the network's state: some tens of megabytes.
AGF_TABLE double most_state_rows = 1e5;

// Lies in an array with all it has: many threads look at its neurons.
class DiagonalPath {
 public:
  AGF_CORE DiagonalPath(const Design& design, const double* y, Control& control, const State* start,
                        const DiagonalPathOptions& options)
      : design_(design),
        control_(control),
        options_(options),
        count_(design.columns()),
        samples_(static_cast<double>(design.rows())),
        depth_(static_cast<double>(options.depth)),
        problem_(design, y),
        gradient_(count_),
        wait_(count_),
        who_(count_),
        travelled_(count_, 0.0),
        low_(count_, -1.0),
        high_(count_, 1.0),
        side_(count_, 0),
        active_(count_, 0) {
    keeps_states_ =
        static_cast<double>(std::min(design.rows(), count_)) * static_cast<double>(count_) <= most_state_rows;
    const double *const correlation = problem_.correlation().data(), n = samples_;
    least_ = inert_part * largest(count_, [=](std::size_t i) { return std::abs(correlation[i]) / n; });
    if (start) {
      state_ = *start;
      network_ = make_owned<DiagonalNetwork>(*start, options.adaptive_rate);
      if (std::isnan(state_.log_eta)) state_.log_eta = log_mean_threshold(state_, options.adaptive_rate ? 2 : depth_);
      place();
    } else {
      state_.count = count_;
      state_.params = options.depth;
      state_.direction.assign(count_ * options.depth, std::sqrt(1 / depth_));
      state_.log_norm.assign(count_, vanished);
      state_.active.assign(count_, 0);
      state_.log_eta = 0;
      state_.phase_elapsed = infinity;
      log_unit_ = std::log(diagonal_limit_time(options.depth, options.adaptive_rate));
    }
  }

  AGF_CORE Trajectory go() {
    if (!uninterrupted([this]() { run(); })) path_.status = control_.stop;
    if (path_.points.empty()) path_.points.push_back({state_.time, state_.scaled_time, problem_.loss(), state_.time});
    share();
    write();
    path_.state = state_;
    path_.conserved_drift = 0;
    path_.stats.seconds = control_.seconds();
    return std::move(path_);
  }

 private:
  AGF_CORE void run() {
    const bool any = !all_are(0);
    if (any) {
      if (!problem_.solve(control_)) return static_cast<void>(finish(control_.stop));
      // A phase that was over has nobody to send back; one that goes on from here may.
      if (std::isfinite(state_.phase_elapsed)) send_back();
    }
    state_.phase_elapsed = infinity;
    double loss = problem_.loss();
    path_.points.push_back({state_.time, state_.scaled_time, loss, state_.time});
    if (!any && !(loss > 0)) return static_cast<void>(finish(Status::nothing_to_learn));
    while (next(loss)) loss = problem_.loss();
  }

  const Design& design_;
  Control& control_;
  const DiagonalPathOptions options_;
  std::size_t count_;
  double samples_, depth_;
  SignedLeastSquares problem_;
  Owned<DiagonalNetwork> network_;  // none in the limit
  Array<double> gradient_;          // g
  Array<double> wait_;              // of the dormant, until they reach an end, in units of e^log_unit_
  Array<std::size_t> who_;
  Array<double> travelled_, low_, high_;  // T of the dormant and its two ends, in units of e^log_unit_
  Array<signed char> side_;               // of the active: the sign that beta keeps; 0 if it may have any
  Array<unsigned char> active_;
  double log_unit_ = 0, least_ = 0;
  bool keeps_states_;
  State state_;
  Trajectory path_;

  AGF_CORE bool all_are(unsigned char state) const {
    const unsigned char* const active = active_.data();
    return every(count_, [=](std::size_t i) { return active[i] == state; });
  }

  // Ends and places of a start at a scale.
  AGF_CORE void place() {
    const std::size_t kinds = network_->kinds();
    log_unit_ = -infinity;
    if (options_.depth > 2) {
      const double of_kinds = least(kinds, long_work, [this](std::size_t k) {
        const DiagonalNeuron& neuron = network_->of_kind(k);
        return neuron.free() || neuron.pinned() ? infinity : -neuron.log_travel(0, neuron.end());
      });
      const double of_pinned = least(count_, long_work, [this](std::size_t i) {
        const DiagonalNeuron& neuron = network_->neuron(i);
        const bool goes = neuron.pinned() && !neuron.free() && !network_->still(i);
        if (!goes || !(network_->log_v(i) < neuron.end())) return infinity;
        return -neuron.log_travel(network_->log_v(i), neuron.end());
      });
      log_unit_ = -std::min(of_kinds, of_pinned);
    }
    if (log_unit_ == -infinity) log_unit_ = 0;
    Array<double> ways(kinds, infinity);
    double* const way = ways.data();
    each_task(kinds, [=, this](std::size_t k) {
      if (const DiagonalNeuron& neuron = network_->of_kind(k); !neuron.free() && !neuron.pinned())
        way[k] = neuron.travel(0, neuron.end(), log_unit_);
    });
    each_task(count_, [=, this](std::size_t i) { put(i, way[network_->kind(i)]); });
    const Extra* side = state_.extra.find("side");
    if (side && side->values.size() != count_) side = nullptr;
    for (std::size_t i = 0; i < count_; ++i) {
      const DiagonalNeuron& neuron = network_->neuron(i);
      if (network_->still(i) || !(neuron.free() || state_.active[i])) continue;
      int kept = neuron.free() ? 0 : network_->sign(i);
      if (kept && side && side->values[i] != 0) kept = side->values[i] > 0 ? 1 : -1;
      activate(i, kept);
    }
  }

  // A neuron's ends, `way` off where there are two, and its own place.
  AGF_CORE void put(std::size_t i, double way) {
    const DiagonalNeuron& neuron = network_->neuron(i);
    const int sign = network_->sign(i);
    if (network_->still(i)) {
      active_[i] = neuron.free() || state_.active[i];
      high_[i] = infinity;
      low_[i] = -infinity;
      return;
    }
    if (neuron.free()) return;
    const double x = neuron.position(network_->log_v(i));
    if (neuron.pinned()) {
      // One end only: T = 0 there.
      high_[i] = sign > 0 ? 0 : infinity;
      low_[i] = sign > 0 ? -infinity : 0;
      travelled_[i] = x <= neuron.end() ? -sign * neuron.travel(x, neuron.end(), log_unit_)
                                        : sign * neuron.travel(neuron.end(), x, log_unit_);
    } else {
      high_[i] = way;
      low_[i] = -way;
      travelled_[i] = sign * neuron.travel(0, x, log_unit_);
    }
  }

  AGF_CORE void activate(std::size_t i, int side) {
    active_[i] = 1;
    side_[i] = static_cast<signed char>(side);
    problem_.allow(i, side);
  }

  // The active at zero whose utility is negative fall dormant, at their end; those of rounding stay. Returns who.
  AGF_CORE Array<int> send_back() {
    Array<int> gone;
    const Array<std::size_t> idle = problem_.idle();
    for (std::size_t k = 0; k < idle.size(); ++k) {
      const std::size_t i = idle[k];
      if (side_[i] * problem_.idle_correlation()[k] >= -problem_.noise(i)) continue;
      gone.push_back(static_cast<int>(i));
    }
    for (int j : gone) {
      const auto i = static_cast<std::size_t>(j);
      problem_.shut(i);
      travelled_[i] = side_[i] > 0 ? high_[i] : low_[i];
      active_[i] = 0;
      side_[i] = 0;
    }
    std::sort(gone.begin(), gone.end());
    return gone;
  }

  AGF_CORE bool finish(Status status) {
    path_.status = status;
    return false;
  }

  AGF_CORE bool next(double loss) {
    if (control_.poll()) return finish(control_.stop);
    if (!std::isfinite(loss)) return finish(Status::non_finite);
    if (loss <= options_.loss_tol) return finish(Status::loss_tol);
    if (all_are(1)) return finish(Status::all_active);
    if (options_.max_jumps >= 0 && path_.jumps.size() >= static_cast<std::size_t>(options_.max_jumps))
      return finish(Status::max_jumps);
    const double *const correlation = problem_.correlation().data(), n = samples_;
    double* const g = gradient_.data();
    each(count_, [=](std::size_t i) { g[i] = correlation[i] / n; });
    ++path_.stats.evaluations;
    const ColumnLoops& loops = design_.loops();
    const double soonest =
        loops.waits(count_, g, travelled_.data(), low_.data(), high_.data(), active_.data(), least_, wait_.data());
    if (soonest == infinity) return finish(Status::inert);

    // Everybody who arrives now, and when the next one would have come.
    double second = infinity;
    const std::size_t many =
        loops.arrivals(count_, wait_.data(), g, low_.data(), high_.data(), soonest, same_moment, who_.data(), &second);
    Array<std::size_t> arrived(who_.data(), who_.data() + many);
    loops.travel(count_, soonest, g, active_.data(), travelled_.data());
    Jump jump;
    pass(state_, std::log(soonest) + log_unit_);
    const double further = arrived.size() > 1 ? 0 : std::exp(std::log(second - soonest) + log_unit_ - state_.log_eta);
    jump.gap = further == infinity ? 1 : further / (state_.scaled_time + further);
    std::sort(arrived.begin(), arrived.end(), [=](std::size_t i, std::size_t j) {
      return std::abs(g[i]) != std::abs(g[j]) ? std::abs(g[i]) > std::abs(g[j]) : i < j;
    });
    jump.time = state_.time;
    jump.scaled_time = state_.scaled_time;
    jump.neuron = static_cast<int>(arrived.front());
    describe(arrived.front(), jump);
    jump.loss_before = loss;
    for (std::size_t i : arrived) {
      jump.activated.push_back(static_cast<int>(i));
      activate(i, g[i] > 0 ? 1 : -1);
    }
    if (options_.activation_window > 0) open_window(jump);
    bool solved = false;
    if (!uninterrupted([&]() { solved = problem_.solve(control_); }) || !solved) {
      // Broken off in the middle of a phase: the phase begins again.
      state_.phase_elapsed = 0;
      finish_jump(jump, false);
      return finish(control_.stop);
    }
    jump.returned = send_back();
    if (finish_jump(jump, true)) return finish(Status::callback);
    return true;
  }

  AGF_CORE void open_window(Jump& jump) {
    each_task(count_, [this](std::size_t i) {
      if (!active_[i]) settle(i);
    });
    for (const std::size_t i : where(count_, [this](std::size_t at) {
           return !active_[at] && !network_->still(at) && !(network_->log_norm(at) < -options_.activation_window);
         })) {
      jump.activated.push_back(static_cast<int>(i));
      activate(i, network_->sign(i));
    }
  }

  // Utility and alignment at norm 1 on the side that neuron i has come to.
  AGF_CORE void describe(std::size_t i, Jump& jump) const {
    const double g = gradient_[i];
    const int side = g > 0 ? 1 : -1;
    jump.direction.assign(options_.depth, std::sqrt(1 / depth_));
    double log_product = -0.5 * depth_ * std::log(depth_);
    if (network_) {
      const DiagonalNeuron& neuron = network_->neuron(i);
      const double log_v = neuron.log_v(neuron.end());
      network_->direction(i, side, log_v, jump.direction.data());
      log_product = neuron.log_product(log_v);
    } else if (side < 0) {
      jump.direction.back() = -jump.direction.back();
    }
    jump.utility = std::exp(log_product) * std::abs(g);
    // The gradient of U has the entries U / u_l.
    double sum = 0;
    for (double u : jump.direction) sum += 1 / (u * u);
    jump.alignment = depth_ / std::sqrt(sum);
  }

  AGF_CORE bool finish_jump(Jump& jump, bool over) {
    share();
    jump.converged = over;
    jump.loss_after = problem_.loss();
    jump.active_time = infinity;
    jump.relaxation = std::numeric_limits<double>::quiet_NaN();
    path_.stats.active_time.push_back(infinity);
    ++path_.stats.steps;
    const Array<double> left = problem_.basis_correlation();
    // |grad beta_i|^2 = sum_l (beta / u_l)^2 >= depth |beta|^(2 - 2 / depth), with equality where layers are equal.
    const double power = 2 - 2 / depth_;
    const double* const correlation = left.data();
    const double square = total(problem_.basis().size(), long_work, [=, this](std::size_t k) {
      const double beta = std::abs(problem_.value(problem_.basis()[k]));
      return correlation[k] * correlation[k] * depth_ * (options_.depth == 2 ? beta : std::pow(beta, power));
    });
    jump.gradient_norm = std::sqrt(square) / samples_;
    path_.points.push_back({state_.time, state_.scaled_time, jump.loss_after, state_.time});
    if (keeps_states_ || options_.observer) {
      write();
      jump.state = state_;
    }
    path_.jumps.push_back(std::move(jump));
    const bool enough = options_.observer && options_.observer(path_.jumps.back());
    if (!keeps_states_) path_.jumps.back().state = {};
    return enough;
  }

  // Equal columns on one side have grown alike: the flow shares beta between them.
  AGF_CORE void share() {
    shares_.clear();
    if (problem_.idle().empty()) return;
    Array<double> mine(design_.rows()), other(design_.rows());
    for (std::size_t i : problem_.idle()) {
      design_.column(i, mine.data());
      for (std::size_t j : problem_.basis()) {
        if (problem_.length(i) != problem_.length(j)) continue;
        design_.column(j, other.data());
        const double flip = side_[i] == side_[j] ? 1 : -1;
        const double *const a = mine.data(), *const b = other.data();
        if (!every(mine.size(), [=](std::size_t e) { return a[e] == flip * b[e]; })) continue;
        shares_.push_back({i, j});
        break;
      }
    }
  }

  struct Share {
    std::size_t idle, basis;
  };
  Array<Share> shares_;

  AGF_CORE Array<double> coefficients() const {
    Array<double> beta(count_, 0.0);
    Array<double> heads(count_, 1.0);
    for (const Share& s : shares_) heads[s.basis] += 1;
    double* const to = beta.data();
    const double* const head = heads.data();
    each(problem_.basis().size(), [=, this](std::size_t k) {
      const std::size_t j = problem_.basis()[k];
      to[j] = problem_.value(j) / head[j];
    });
    for (const Share& s : shares_) beta[s.idle] = side_[s.idle] == side_[s.basis] ? beta[s.basis] : -beta[s.basis];
    return beta;
  }

  // Brings the network's own variable of a dormant neuron up to date.
  AGF_CORE void settle(std::size_t i) {
    const DiagonalNeuron& neuron = network_->neuron(i);
    if (neuron.free() || network_->still(i)) return;
    if (neuron.pinned()) {
      const int sign = network_->sign(i);
      const double left = -sign * travelled_[i];
      network_->set(i, sign, neuron.log_v(neuron.arrival(std::max(left, 0.0), log_unit_)));
    } else {
      const double way = std::min(std::abs(travelled_[i]), high_[i]);
      const double x = way == high_[i] ? neuron.end() : neuron.arrival(way, log_unit_);
      network_->set(i, travelled_[i] < 0 ? -1 : 1, neuron.log_v(x));
    }
  }

  // The state as it is now.
  AGF_CORE void write() {
    const Array<double> now = coefficients();
    const double* const beta = now.data();
    state_.active = active_;
    if (network_) {
      each_task(count_, [=, this](std::size_t i) {
        if (!active_[i]) return settle(i);
        const int sign = beta[i] != 0 ? (beta[i] > 0 ? 1 : -1) : network_->sign(i);
        if (network_->neuron(i).pinned() && beta[i] == 0) return;
        network_->set(i, sign, network_->neuron(i).log_v_of_product(std::log(std::abs(beta[i]))));
      });
      network_->write(state_, side_);
      return;
    }
    each_task(count_, [=, this](std::size_t i) {
      double& last = state_.direction[(i + 1) * options_.depth - 1];
      const double toward = active_[i] ? side_[i] : travelled_[i];
      last = toward < 0 ? -std::abs(last) : std::abs(last);
      state_.log_norm[i] = vanished;
      if (active_[i] && beta[i] != 0)
        state_.log_norm[i] = std::log(std::abs(beta[i])) / depth_ + 0.5 * std::log(depth_);
      else if (!active_[i] && std::abs(travelled_[i]) >= 1)
        state_.log_norm[i] = 0;
    });
    Array<double> dual = travelled_;
    double* const place = dual.data();
    each(count_, [=, this](std::size_t i) {
      if (active_[i]) place[i] = side_[i];
    });
    state_.extra.put("dual", dual, {count_});
  }
};

}  // namespace

AGF_CORE double diagonal_limit_time(std::size_t depth, bool adaptive) {
  // T / eta with eta = ln(1/|theta|) where rates adapt (and at depth 2), |theta|^(2 - depth) / (depth - 2) beyond:
  // int_0^inf sech^(depth - 2) = sqrt(pi)/2 Gamma((depth - 2)/2) / Gamma((depth - 1)/2).
  const double l = static_cast<double>(depth);
  if (depth == 2) return 1;
  if (adaptive) return std::pow(l, 0.5 * (l - 2));
  return std::pow(l - 1, 0.5 * (l - 2)) * (l - 2) * 0.5 * std::sqrt(M_PI) *
         std::exp(std::lgamma(0.5 * (l - 2)) - std::lgamma(0.5 * (l - 1)));
}

AGF_CORE AGF_APART Trajectory diagonal_path(const Design& design, const double* y, Control& control, const State* start,
                                            const DiagonalPathOptions& options) {
  const Owned<DiagonalPath> path = make_owned<DiagonalPath>(design, y, control, start, options);
  // From here on a run that is broken off has something to give back.
  const Listening listening(control);
  return path->go();
}

}  // namespace AGF_SPACE
