#include "diagonal_path.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

#include "clock.hpp"
#include "diagonal_state.hpp"
#include "interrupt.hpp"
#include "signed_least_squares.hpp"

namespace agf {

namespace {

// Gradients below this, relative to the largest of the zero network's, have nothing to teach.
constexpr double inert = 1e-10;
// Crossing times that agree to this, relative to the time from one end to the other, are one event.
constexpr double tie = 1e-12;
// ln of the norm of a dormant neuron in the limit: below every scale.
constexpr double vanished = -1e300;
// Jumps expected times neurons up to which every jump carries the network's state: some tens of megabytes.
constexpr double most_state_rows = 1e5;

class Path {
 public:
  Path(const Design& design, const double* y, Control& control, const State* start, const DiagonalPathOptions& options)
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
    for (double c : problem_.correlation()) least_ = std::max(least_, std::abs(c) / samples_);
    least_ *= inert;
    if (start) {
      state_ = *start;
      network_ = std::make_unique<DiagonalNetwork>(*start, options.adaptive_rate);
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

  Trajectory go() {
    try {
      run();
    } catch (const Interrupted&) {
      path_.status = control_.stop;
    }
    if (path_.points.empty()) path_.points.push_back({state_.time, state_.scaled_time, problem_.loss(), state_.time});
    share();
    write();
    path_.state = state_;
    path_.conserved_drift = 0;
    path_.stats.seconds = control_.seconds();
    return std::move(path_);
  }

 private:
  void run() {
    const bool any = std::find(active_.begin(), active_.end(), 1) != active_.end();
    if (any) {
      if (!problem_.solve([this]() { return control_.poll(); })) return static_cast<void>(finish(control_.stop));
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
  const DiagonalPathOptions& options_;
  std::size_t count_;
  double samples_, depth_;
  SignedLeastSquares problem_;
  std::unique_ptr<DiagonalNetwork> network_;  // none in the limit
  std::vector<double> gradient_;              // g
  std::vector<double> wait_;                  // of the dormant, until they reach an end, in units of e^log_unit_
  std::vector<std::size_t> who_;
  std::vector<double> travelled_, low_, high_;  // T of the dormant and its two ends, in units of e^log_unit_
  std::vector<signed char> side_;               // of the active: the sign that beta keeps; 0 if it may have any
  std::vector<unsigned char> active_;
  double log_unit_ = 0, least_ = 0;
  bool keeps_states_;
  State state_;
  Trajectory path_;

  // Ends and places of a start at a scale.
  void place() {
    log_unit_ = -infinity;
    std::vector<double> way(network_->kinds(), infinity);
    for (std::size_t k = 0; k < way.size(); ++k) {
      const DiagonalNeuron& neuron = network_->of_kind(k);
      if (neuron.free() || neuron.pinned() || options_.depth == 2) continue;
      log_unit_ = std::max(log_unit_, neuron.log_travel(0, neuron.end()));
    }
    for (std::size_t i = 0; i < count_; ++i)
      if (const DiagonalNeuron& neuron = network_->neuron(i); neuron.pinned() && !neuron.free() &&
                                                              !network_->still(i) && options_.depth > 2 &&
                                                              network_->log_v(i) < neuron.end())
        log_unit_ = std::max(log_unit_, neuron.log_travel(network_->log_v(i), neuron.end()));
    if (log_unit_ == -infinity) log_unit_ = 0;
    for (std::size_t k = 0; k < way.size(); ++k)
      if (const DiagonalNeuron& neuron = network_->of_kind(k); !neuron.free() && !neuron.pinned())
        way[k] = neuron.travel(0, neuron.end(), log_unit_);
    const Extra* side = state_.extra.find("side");
    for (std::size_t i = 0; i < count_; ++i) {
      const DiagonalNeuron& neuron = network_->neuron(i);
      const int sign = network_->sign(i);
      if (network_->still(i)) {
        active_[i] = neuron.free() || state_.active[i];
        high_[i] = infinity;
        low_[i] = -infinity;
        continue;
      }
      if (neuron.free() || state_.active[i]) {
        int kept = neuron.free() ? 0 : sign;
        if (kept && side && side->values.size() == count_ && side->values[i] != 0) kept = side->values[i] > 0 ? 1 : -1;
        activate(i, kept);
      }
      if (neuron.free()) continue;
      const double x = neuron.position(network_->log_v(i));
      if (neuron.pinned()) {
        // One end only: T = 0 there.
        high_[i] = sign > 0 ? 0 : infinity;
        low_[i] = sign > 0 ? -infinity : 0;
        travelled_[i] = x <= neuron.end() ? -sign * neuron.travel(x, neuron.end(), log_unit_)
                                          : sign * neuron.travel(neuron.end(), x, log_unit_);
      } else {
        const double end = way[network_->kind(i)];
        high_[i] = end;
        low_[i] = -end;
        travelled_[i] = sign * neuron.travel(0, x, log_unit_);
      }
    }
  }

  void activate(std::size_t i, int side) {
    active_[i] = 1;
    side_[i] = static_cast<signed char>(side);
    problem_.allow(i, side);
  }

  // The active at zero whose utility is negative fall dormant, at their end; those of rounding stay. Returns who.
  std::vector<int> send_back() {
    std::vector<int> gone;
    const std::vector<std::size_t> idle = problem_.idle();
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

  bool finish(Status status) {
    path_.status = status;
    return false;
  }

  bool next(double loss) {
    if (control_.poll()) return finish(control_.stop);
    if (!std::isfinite(loss)) return finish(Status::non_finite);
    if (loss <= options_.loss_tol) return finish(Status::loss_tol);
    if (std::find(active_.begin(), active_.end(), 0) == active_.end()) return finish(Status::all_active);
    if (options_.max_jumps >= 0 && path_.jumps.size() >= static_cast<std::size_t>(options_.max_jumps))
      return finish(Status::max_jumps);
    for (std::size_t i = 0; i < count_; ++i) gradient_[i] = problem_.correlation()[i] / samples_;
    ++path_.stats.evaluations;
    const ColumnLoops& loops = design_.loops();
    const double soonest = loops.waits(count_, gradient_.data(), travelled_.data(), low_.data(), high_.data(),
                                       active_.data(), least_, wait_.data());
    if (soonest == infinity) return finish(Status::inert);

    // Everybody who arrives now, and when the next one would have come.
    double second = infinity;
    const std::size_t many = loops.arrivals(count_, wait_.data(), gradient_.data(), low_.data(), high_.data(), soonest,
                                            tie, who_.data(), &second);
    std::vector<std::size_t> arrived(who_.begin(), who_.begin() + static_cast<std::ptrdiff_t>(many));
    loops.travel(count_, soonest, gradient_.data(), active_.data(), travelled_.data());
    Jump jump;
    pass(state_, std::log(soonest) + log_unit_);
    const double further = arrived.size() > 1 ? 0 : std::exp(std::log(second - soonest) + log_unit_ - state_.log_eta);
    jump.gap = further == infinity ? 1 : further / (state_.scaled_time + further);
    std::sort(arrived.begin(), arrived.end(), [&](std::size_t i, std::size_t j) {
      return std::abs(gradient_[i]) != std::abs(gradient_[j]) ? std::abs(gradient_[i]) > std::abs(gradient_[j]) : i < j;
    });
    jump.time = state_.time;
    jump.scaled_time = state_.scaled_time;
    jump.neuron = static_cast<int>(arrived.front());
    describe(arrived.front(), jump);
    jump.loss_before = loss;
    for (std::size_t i : arrived) {
      jump.activated.push_back(static_cast<int>(i));
      activate(i, gradient_[i] > 0 ? 1 : -1);
    }
    if (options_.activation_window > 0) open_window(jump);
    bool solved = false;
    try {
      solved = problem_.solve([this]() { return control_.poll(); });
    } catch (const Interrupted&) {
    }
    if (!solved) {
      // Broken off in the middle of a phase: the phase begins again.
      state_.phase_elapsed = 0;
      finish_jump(jump, false);
      return finish(control_.stop);
    }
    jump.returned = send_back();
    if (finish_jump(jump, true)) return finish(Status::callback);
    return true;
  }

  void open_window(Jump& jump) {
    for (std::size_t i = 0; i < count_; ++i) {
      if (active_[i] || network_->still(i)) continue;
      settle(i);
      if (network_->log_norm(i) < -options_.activation_window) continue;
      jump.activated.push_back(static_cast<int>(i));
      activate(i, network_->sign(i));
    }
  }

  // Utility and alignment at norm 1 on the side that neuron i has come to.
  void describe(std::size_t i, Jump& jump) const {
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

  bool finish_jump(Jump& jump, bool converged) {
    share();
    jump.converged = converged;
    jump.loss_after = problem_.loss();
    jump.active_time = infinity;
    jump.relaxation = std::numeric_limits<double>::quiet_NaN();
    path_.stats.active_time.push_back(infinity);
    ++path_.stats.steps;
    const std::vector<std::size_t>& basis = problem_.basis();
    const std::vector<double> left = problem_.basis_correlation();
    double square = 0;
    // |grad beta_i|^2 = sum_l (beta / u_l)^2 >= depth |beta|^(2 - 2 / depth), with equality where layers are equal.
    const double power = 2 - 2 / depth_;
    for (std::size_t k = 0; k < basis.size(); ++k) {
      const double beta = std::abs(problem_.value(basis[k]));
      square += left[k] * left[k] * depth_ * (options_.depth == 2 ? beta : std::pow(beta, power));
    }
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
  void share() {
    shares_.clear();
    if (problem_.idle().empty()) return;
    std::vector<double> mine(design_.rows()), other(design_.rows());
    for (std::size_t i : problem_.idle()) {
      design_.column(i, mine.data());
      for (std::size_t j : problem_.basis()) {
        if (problem_.length(i) != problem_.length(j)) continue;
        design_.column(j, other.data());
        const double flip = side_[i] == side_[j] ? 1 : -1;
        if (!std::equal(mine.begin(), mine.end(), other.begin(), [&](double a, double b) { return a == flip * b; }))
          continue;
        shares_.push_back({i, j});
        break;
      }
    }
  }

  struct Share {
    std::size_t idle, basis;
  };
  std::vector<Share> shares_;

  std::vector<double> coefficients() const {
    std::vector<double> beta(count_, 0.0);
    std::vector<double> heads(count_, 1.0);
    for (const Share& s : shares_) heads[s.basis] += 1;
    for (std::size_t j : problem_.basis()) beta[j] = problem_.value(j) / heads[j];
    for (const Share& s : shares_) beta[s.idle] = side_[s.idle] == side_[s.basis] ? beta[s.basis] : -beta[s.basis];
    return beta;
  }

  // Brings the network's own variable of a dormant neuron up to date.
  void settle(std::size_t i) {
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
  void write() {
    const std::vector<double> beta = coefficients();
    state_.active = active_;
    if (network_) {
      for (std::size_t i = 0; i < count_; ++i) {
        if (!active_[i]) {
          settle(i);
        } else {
          const int sign = beta[i] != 0 ? (beta[i] > 0 ? 1 : -1) : network_->sign(i);
          if (network_->neuron(i).pinned() && beta[i] == 0) continue;
          network_->set(i, sign, network_->neuron(i).log_v_of_product(std::log(std::abs(beta[i]))));
        }
      }
      network_->write(state_, side_);
      return;
    }
    for (std::size_t i = 0; i < count_; ++i) {
      double& last = state_.direction[(i + 1) * options_.depth - 1];
      const double toward = active_[i] ? side_[i] : travelled_[i];
      last = toward < 0 ? -std::abs(last) : std::abs(last);
      state_.log_norm[i] = vanished;
      if (active_[i] && beta[i] != 0)
        state_.log_norm[i] = std::log(std::abs(beta[i])) / depth_ + 0.5 * std::log(depth_);
      else if (!active_[i] && std::abs(travelled_[i]) >= 1)
        state_.log_norm[i] = 0;
    }
    std::vector<double> dual = travelled_;
    for (std::size_t i = 0; i < count_; ++i)
      if (active_[i]) dual[i] = side_[i];
    state_.extra.put("dual", dual, {count_});
  }
};

}  // namespace

double diagonal_limit_time(std::size_t depth, bool adaptive) {
  // T / eta with eta = ln(1/|theta|) where rates adapt (and at depth 2), |theta|^(2 - depth) / (depth - 2) beyond:
  // int_0^inf sech^(depth - 2) = sqrt(pi)/2 Gamma((depth - 2)/2) / Gamma((depth - 1)/2).
  const double l = static_cast<double>(depth);
  if (depth == 2) return 1;
  if (adaptive) return std::pow(l, 0.5 * (l - 2));
  return std::pow(l - 1, 0.5 * (l - 2)) * (l - 2) * 0.5 * std::sqrt(M_PI) *
         std::exp(std::lgamma(0.5 * (l - 2)) - std::lgamma(0.5 * (l - 1)));
}

Trajectory diagonal_path(const Design& design, const double* y, Control& control, const State* start,
                         const DiagonalPathOptions& options) {
  Path path(design, y, control, start, options);
  // From here on a run that is broken off has something to give back.
  const std::function<bool()> ask = [&control]() { return !control.stopping && control.poll(); };
  const InterruptionScope scope(ask);
  return path.go();
}

}  // namespace agf
