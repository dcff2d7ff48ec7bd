#include "dormant.hpp"

#include <algorithm>
#include <array>
#include <numeric>

#include "integrate.hpp"
#include "interrupt.hpp"
#include "sphere.hpp"
#include "tableau.hpp"

namespace agf {

namespace {

// Crossing times that agree to this relative distance are one event (exact ties by symmetry).
constexpr double tie = 1e-12;
constexpr long most_rounds = 100000;
// A log-norm this close to the threshold has landed: what is left is closed along the tangent, to its square.
constexpr double landed = 1e-8;
// An aligned neuron's plateau is a straight line, and its steps grow by this factor.
constexpr double longest_stride = 30;
// ln(1 / rounding error), and the speed (relative to the growth of small displacements) of a neuron at rest as far as
// an active phase's residual tells.
constexpr double forgetting = 36, at_rest = 1e-6;
// Beyond these the matrices of all neurons no longer fit comfortably: conjugate gradients instead.
constexpr std::size_t most_dense_params = 512, most_dense_entries = 60'000'000;

class DormantField final : public Field {
 public:
  DormantField(const Problem& problem, Backend& backend, Stats& stats, const Signal& residual, std::size_t count,
               Accuracy accuracy)
      : problem_(problem),
        backend_(backend),
        stats_(stats),
        residual_(residual),
        m_(problem.params()),
        kappa_(problem.kappa()),
        tolerance_(accuracy.local),
        dense_(m_ <= most_dense_params && count * m_ * m_ <= most_dense_entries),
        direction(count * m_),
        gradient(count * m_),
        failed(count, 0),
        stale_(count, 1),
        shift_(count, 0.0),
        coupling_(count * m_),
        ramp_(problem.kinked() ? count : 0, accuracy.ramp * problem.input_scale()) {
    if (dense_) {
      jacobian_.resize(count * m_ * m_);
      factor_.resize(count * m_ * m_);
    }
  }

  std::size_t size() const override { return m_ + 1; }

  Shape shape() const { return Shape{true, ramp_.empty() ? nullptr : ramp_.data()}; }

  void rhs(const std::vector<int>& which, const double* y, double* f) override {
    const std::size_t count = which.size();
    points_.resize(count * m_);
    slopes_.resize(count * m_);
    for (std::size_t k = 0; k < count; ++k)
      for (std::size_t i = 0; i < m_; ++i)
        points_[k * m_ + i] = direction[static_cast<std::size_t>(which[k]) * m_ + i] + y[k * (m_ + 1) + i];
    problem_.utility(points_.data(), count, residual_, nullptr, slopes_.data(), shape());
    ++stats_.evaluations;
    for (std::size_t k = 0; k < count; ++k)
      sphere::flow(m_, kappa_, &direction[static_cast<std::size_t>(which[k]) * m_], y + k * (m_ + 1), &slopes_[k * m_],
                   f + k * (m_ + 1));
  }

  // F at v = 0, and the gradient there for the Jacobian.
  void start(const std::vector<int>& which, double* f) {
    const std::vector<double> zero(which.size() * (m_ + 1), 0.0);
    rhs(which, zero.data(), f);
    for (std::size_t k = 0; k < which.size(); ++k) {
      const auto i = static_cast<std::size_t>(which[k]);
      std::copy_n(&slopes_[k * m_], m_, &gradient[i * m_]);
      stale_[i] = 1;
    }
  }

  void linearize(const std::vector<int>& which) {
    std::vector<int> need;
    for (int i : which)
      if (stale_[static_cast<std::size_t>(i)]) need.push_back(i);
    if (need.empty()) return;
    ++stats_.hessians;
    gather(need);
    if (dense_) {
      scratch_.resize(need.size() * m_ * m_);
      problem_.utility_hessian(points_.data(), need.size(), residual_, scratch_.data(), shape());
    } else {
      scratch_.resize(need.size() * m_);
      problem_.curvature_vector(points_.data(), points_.data(), need.size(), residual_, nullptr, scratch_.data(),
                                shape());
    }
    for (std::size_t k = 0; k < need.size(); ++k) {
      const auto i = static_cast<std::size_t>(need[k]);
      const double* u = &direction[i * m_];
      if (dense_) {
        std::copy_n(&scratch_[k * m_ * m_], m_ * m_, &jacobian_[i * m_ * m_]);
        sphere::linearize(m_, u, &gradient[i * m_], &jacobian_[i * m_ * m_], &coupling_[i * m_]);
      } else {
        for (std::size_t e = 0; e < m_; ++e) coupling_[i * m_ + e] = scratch_[k * m_ + e] + gradient[i * m_ + e];
        sphere::project(m_, u, &coupling_[i * m_]);
      }
      stale_[i] = 0;
    }
  }

  // Prepares the step sizes h; failed[i] where the step is too long for an unstable direction to be followed: an
  // L-stable method would damp a mode of growth rate mu once mu h > 1 / gamma, and see no error if it is still tiny.
  void factor(const std::vector<int>& which, const double* h) {
    auto one = [&](std::size_t k) {
      const auto i = static_cast<std::size_t>(which[k]);
      failed[i] = 0;
      shift_[i] = 1 / (Rodas5P::gamma * h[k]);
      if (!dense_) return;
      double* matrix = &factor_[i * m_ * m_];
      for (const double shift : {1 / h[k], shift_[i]}) {
        for (std::size_t e = 0; e < m_ * m_; ++e) matrix[e] = -jacobian_[i * m_ * m_ + e];
        for (std::size_t e = 0; e < m_; ++e) matrix[e * m_ + e] += shift;
        if (!backend_.cholesky(m_, matrix)) {
          failed[i] = 1;
          return;
        }
      }
    };
    if (which.size() > 1 && m_ >= 48)
      backend_.parallel(which.size(), one);
    else
      for (std::size_t k = 0; k < which.size(); ++k) one(k);
  }

  bool solve(const std::vector<int>& which, double* x) override {
    for (std::size_t k = 0; k < which.size(); ++k) {
      const auto i = static_cast<std::size_t>(which[k]);
      double* row = x + k * (m_ + 1);
      if (failed[i]) {
        std::fill_n(row, m_ + 1, 0.0);
        continue;
      }
      if (dense_)
        backend_.cholesky_solve(m_, &factor_[i * m_ * m_], row, 1);
      else if (!krylov(i, row))
        failed[i] = 1;
      row[m_] = (row[m_] + dot(m_, &coupling_[i * m_], row)) / shift_[i];
    }
    return true;
  }

  // Whether by the latest linearisation every tangent displacement decays faster than e^{-rate s}.
  bool contracts(int neuron, double rate) {
    if (!dense_) return false;
    const auto i = static_cast<std::size_t>(neuron);
    const double* u = &direction[i * m_];
    const double* jacobian = &jacobian_[i * m_ * m_];
    double along = 0;
    for (std::size_t a = 0; a < m_; ++a) along -= u[a] * dot(m_, jacobian + a * m_, u);
    // The normal direction is none of them.
    const double normal = std::max(rate, 0.0) + std::abs(along) - along;
    double* matrix = &factor_[i * m_ * m_];
    for (std::size_t a = 0; a < m_; ++a) {
      for (std::size_t b = 0; b < m_; ++b) matrix[a * m_ + b] = normal * u[a] * u[b] - jacobian[a * m_ + b];
      matrix[a * m_ + a] -= rate;
    }
    return backend_.cholesky(m_, matrix);
  }

  // Largest growth rate of a small tangent displacement; `mode` gets its direction.
  double growth(int neuron, double* mode) {
    const auto i = static_cast<std::size_t>(neuron);
    const double* u = &direction[i * m_];
    std::vector<double> matrix(m_ * m_), values(m_);
    gather({neuron});
    problem_.utility_hessian(points_.data(), 1, residual_, matrix.data(), shape());
    std::vector<double> coupling(m_);
    sphere::linearize(m_, u, &gradient[i * m_], matrix.data(), coupling.data());
    double bound = 0;
    for (double e : matrix) bound += e * e;
    bound = 2 * std::sqrt(bound) + 1e-300;
    for (std::size_t a = 0; a < m_; ++a)
      for (std::size_t b = 0; b < m_; ++b) matrix[a * m_ + b] -= bound * u[a] * u[b];
    backend_.eigen(m_, matrix.data(), values.data());
    std::copy_n(&matrix[(m_ - 1) * m_], m_, mode);
    return values[m_ - 1];
  }

 private:
  const Problem& problem_;
  Backend& backend_;
  Stats& stats_;
  const Signal& residual_;
  std::size_t m_;
  double kappa_, tolerance_;
  bool dense_;

 public:
  std::vector<double> direction, gradient;
  std::vector<char> failed;

 private:
  std::vector<char> stale_;
  std::vector<double> shift_, coupling_, ramp_;
  std::vector<double> points_, slopes_, scratch_, jacobian_, factor_;

  void gather(const std::vector<int>& which) {
    points_.resize(which.size() * m_);
    for (std::size_t k = 0; k < which.size(); ++k)
      std::copy_n(&direction[static_cast<std::size_t>(which[k]) * m_], m_, &points_[k * m_]);
  }

  bool krylov(std::size_t i, double* b) {
    const double* u = &direction[i * m_];
    const double radial = dot(m_, u, &gradient[i * m_]);
    // An error e of the residual moves the step by gamma h e: two digits below what the step is tested for.
    const auto close = [&](const std::vector<double>& residual) {
      return norm(m_, residual.data()) <= 0.01 * tolerance_ * shift_[i];
    };
    return conjugate_gradients(m_, b, close, 1000, [&](const double* v, double* out) {
      problem_.curvature_vector(u, v, 1, residual_, nullptr, out, shape());
      sphere::project(m_, u, out);
      for (std::size_t e = 0; e < m_; ++e) out[e] = (shift_[i] + radial) * v[e] - out[e];
    });
  }
};

// lambda over one accepted step as the dense output's polynomial, and the physical time that it takes.
struct LogNormPath {
  double start = 0, end = 0, h = 0;
  std::array<double, 3> dense{};

  double at(double s) const {
    return (1 - s) * start + s * (end + (1 - s) * (dense[0] + s * (dense[1] + s * dense[2])));
  }
  double slope(double s) const {
    const double inner = dense[0] + s * (dense[1] + s * dense[2]);
    return end - start + (1 - 2 * s) * inner + s * (1 - s) * (dense[1] + 2 * s * dense[2]);
  }

  // First s at which lambda rises through the level; > 1 where it does not.
  double crossing(double level) const {
    constexpr int cells = 32;
    double before = start - level;
    for (int i = 1; i <= cells; ++i) {
      const double after = at(static_cast<double>(i) / cells) - level;
      if (after > 0 && before <= 0) {
        double low = static_cast<double>(i - 1) / cells, high = static_cast<double>(i) / cells;
        for (int k = 0; k < 100 && high - low > 1e-16 * high; ++k) {
          const double middle = 0.5 * (low + high);
          (at(middle) - level > 0 ? high : low) = middle;
        }
        return high;
      }
      before = after;
    }
    return 2;
  }

  // int_0^s exp(-degree (lambda - reference)) h ds', degree = kappa - 2 of the clock.
  double duration(double degree, double reference, double s) const {
    if (degree == 0) return s * h;
    static constexpr double node[4] = {0.1834346424956498, 0.5255324099163290, 0.7966664774136267, 0.9602898564975363};
    static constexpr double weight[4] = {0.3626837833783620, 0.3137066458778873, 0.2223810344533745,
                                         0.1012285362903763};
    double sum = 0, from = 0;
    while (from < s) {
      const double exponent = -degree * (at(from) - reference);
      // What is left beyond here is below rounding of what came before.
      if (exponent < -60 && slope(from) >= 0) break;
      const double to = std::min(s, from + 0.5 / (degree * std::abs(slope(from)) + 1));
      const double middle = 0.5 * (from + to), half = 0.5 * (to - from);
      double cell = 0;
      for (int i = 0; i < 4; ++i)
        cell += weight[i] * (std::exp(-degree * (at(middle - half * node[i]) - reference)) +
                             std::exp(-degree * (at(middle + half * node[i]) - reference)));
      sum += half * cell;
      if (to == from) break;
      from = to;
    }
    return sum * h;
  }

  // The s at which `duration` reaches `target`; 1 if it does not.
  double moment(double degree, double reference, double target) const {
    if (degree == 0) return std::clamp(target / h, 0.0, 1.0);
    if (duration(degree, reference, 1) <= target) return 1;
    double low = 0, high = 1;
    for (int k = 0; k < 60 && high - low > 1e-15; ++k) {
      const double middle = 0.5 * (low + high);
      (duration(degree, reference, middle) > target ? high : low) = middle;
    }
    return 0.5 * (low + high);
  }
};

struct Runner {
  double log_norm = 0;   // lambda now
  double reference = 0;  // lambda at the start of the phase
  double elapsed = 0;    // physical time in units of exp((2 - clock) reference)
  double h = 0;
  double crossed = infinity;  // ln of the crossing time
  double spent = 0;           // its own clock
  bool rejected = false, inert = false;
  // The last accepted step, to go back into.
  LogNormPath path;
  std::vector<double> before;
  double elapsed_before = 0;
};

}  // namespace

static RaceOutcome run_race(const Problem& problem, Backend& backend, Control& control, Stats& stats,
                            const Signal& residual, const RaceOptions& options, std::vector<Dormant>& neurons) {
  const std::size_t m = problem.params(), count = neurons.size(), size = m + 1;
  const double degree = options.clock - 2;
  const Accuracy accuracy = agf::accuracy(options.rtol, problem, true);
  const double tolerance = accuracy.local;
  RaceOutcome outcome;
  if (count == 0) return outcome;

  DormantField field(problem, backend, stats, residual, count, accuracy);
  std::vector<Runner> runners(count);
  std::vector<double> f(count * size);
  std::vector<int> all(count);
  std::iota(all.begin(), all.end(), 0);
  for (std::size_t i = 0; i < count; ++i) {
    std::copy_n(neurons[i].direction.data(), m, &field.direction[i * m]);
    runners[i].log_norm = runners[i].reference = neurons[i].log_norm;
  }
  field.start(all, f.data());
  for (std::size_t i = 0; i < count; ++i) {
    const double rate = norm(m, &field.gradient[i * m]);
    runners[i].h = neurons[i].hint > 0 ? neurons[i].hint : (rate > 0 ? 0.05 / rate : 1.0);
    if (neurons[i].log_norm >= options.threshold && f[i * size + m] > 0) runners[i].crossed = -infinity;
  }

  std::vector<int> forgetful;
  for (int i : all)
    if (neurons[static_cast<std::size_t>(i)].contracted) forgetful.push_back(i);
  field.linearize(forgetful);
  for (int i : forgetful) {
    // On an unstable point, what it would leave along was forgotten on the way there.
    std::vector<double> mode(m);
    outcome.unresolved = outcome.unresolved ||
                         (!field.contracts(i, -10 * options.inert) &&
                          norm(m, &f[static_cast<std::size_t>(i) * size]) <= at_rest * field.growth(i, mode.data()));
  }

  auto log_time = [&](const Runner& runner, double elapsed) { return std::log(elapsed) - degree * runner.reference; };
  double finish = options.log_limit;
  for (const auto& runner : runners) finish = std::min(finish, runner.crossed);

  // Between kinks a long step is soon too long.
  const double stride = problem.kinked() ? usual_stride : longest_stride;
  Trial trial;
  std::vector<int> which, accepted;
  std::vector<double> h, y0, f0, rows(size);

  // One step of each system in `which` with sizes h; leaves rows of `trial` in that order.
  auto step = [&]() {
    y0.assign(which.size() * size, 0.0);
    f0.resize(which.size() * size);
    for (std::size_t k = 0; k < which.size(); ++k) {
      const auto i = static_cast<std::size_t>(which[k]);
      y0[k * size + m] = runners[i].log_norm;
      std::copy_n(&f[i * size], size, &f0[k * size]);
    }
    field.linearize(which);
    field.factor(which, h.data());
    implicit_step(field, which, h.data(), y0.data(), f0.data(), trial);
  };
  auto path_of = [&](std::size_t k) {
    const std::size_t e = k * size + m;
    return LogNormPath{y0[e], trial.y1[e], h[k], {trial.dense[0][e], trial.dense[1][e], trial.dense[2][e]}};
  };
  auto settle = [&](std::size_t i, std::size_t k) {
    sphere::rebase(m, &field.direction[i * m], &trial.y1[k * size]);
    runners[i].log_norm = trial.y1[k * size + m];
  };
  auto restart = [&](const std::vector<int>& moved) {
    if (moved.empty()) return;
    rows.resize(moved.size() * size);
    field.start(moved, rows.data());
    for (std::size_t k = 0; k < moved.size(); ++k)
      std::copy_n(&rows[k * size], size, &f[static_cast<std::size_t>(moved[k]) * size]);
  };

  long rounds = 0;
  for (;; ++rounds) {
    if (control.poll() || rounds > most_rounds) {
      outcome.end = control.stopping ? RaceEnd::stopped : RaceEnd::exhausted;
      return outcome;
    }
    which.clear();
    h.clear();
    for (std::size_t i = 0; i < count; ++i) {
      const Runner& runner = runners[i];
      if (runner.crossed < infinity || (runner.inert && finish == infinity)) continue;
      // Slightly past the finish, so that ties are seen.
      if (log_time(runner, runner.elapsed) > finish + 2 * tie) continue;
      which.push_back(static_cast<int>(i));
      h.push_back(runner.h);
    }
    if (which.empty() || finish == -infinity) break;
    step();

    accepted.clear();
    std::vector<int> landing;
    std::vector<double> landing_h;
    for (std::size_t k = 0; k < which.size(); ++k) {
      const auto i = static_cast<std::size_t>(which[k]);
      Runner& runner = runners[i];
      double error = infinity;
      if (!field.failed[i]) {
        const double change = std::abs(trial.y1[k * size + m] - y0[k * size + m]);
        error = std::max(norm(m, &trial.error[k * size]) / tolerance,
                         std::abs(trial.error[k * size + m]) / (tolerance * std::max(1.0, change)));
        // Beyond a turn of about a radian the chart is a poor one.
        if (!(norm(m, &trial.y1[k * size]) < 2)) error = infinity;
      }
      const double factor = step_factor(error, runner.rejected, stride);
      if (!(error <= 1)) {
        ++stats.rejected;
        runner.rejected = true;
        runner.h *= field.failed[i] ? 0.5 : std::min(factor, 0.9);
        continue;
      }
      ++stats.steps;
      runner.rejected = false;
      const LogNormPath path = path_of(k);
      const double s = path.crossing(options.threshold);
      if (s <= 1) {
        landing.push_back(static_cast<int>(i));
        landing_h.push_back(s * h[k]);
        continue;
      }
      runner.path = path;
      runner.before.assign(&field.direction[i * m], &field.direction[i * m] + m);
      runner.elapsed_before = runner.elapsed;
      runner.elapsed += path.duration(degree, runner.reference, 1);
      runner.spent += h[k];
      settle(i, k);
      runner.h = h[k] * factor;
      accepted.push_back(static_cast<int>(i));
    }

    // Land on the threshold by a step of its own, so that the crossing has the method's accuracy, not its
    // interpolant's.
    if (!landing.empty()) {
      for (int pass = 0; pass < 3; ++pass) {
        which = landing;
        h = landing_h;
        step();
        bool there = true;
        for (std::size_t k = 0; k < landing.size(); ++k) {
          const std::size_t e = k * size + m;
          there = there && std::abs(trial.y1[e] - options.threshold) <= landed;
          const double rate = (trial.y1[e] - y0[e]) / h[k];
          const double slope = std::max(path_of(k).slope(1) / h[k], 0.1 * std::abs(rate));
          if (pass < 2 && slope > 0)
            landing_h[k] = std::max(0.5 * h[k], h[k] - (trial.y1[e] - options.threshold) / slope);
        }
        if (there) break;
      }
      for (std::size_t k = 0; k < landing.size(); ++k) {
        const auto i = static_cast<std::size_t>(landing[k]);
        Runner& runner = runners[i];
        const LogNormPath path = path_of(k);
        runner.path = path;
        runner.before.assign(&field.direction[i * m], &field.direction[i * m] + m);
        runner.elapsed_before = runner.elapsed;
        runner.elapsed += path.duration(degree, runner.reference, 1);
        runner.spent += h[k];
        settle(i, k);
        const double slope = path.slope(1) / h[k];
        // What rounding leaves of the distance is closed along the tangent.
        if (slope > 0)
          runner.elapsed += (options.threshold - runner.log_norm) / slope *
                            std::exp(-degree * (options.threshold - runner.reference));
        runner.log_norm = options.threshold;
        runner.crossed = log_time(runner, runner.elapsed);
        finish = std::min(finish, runner.crossed);
        accepted.push_back(landing[k]);
      }
    }
    restart(accepted);

    for (int a : accepted) {
      const auto i = static_cast<std::size_t>(a);
      Runner& runner = runners[i];
      if (runner.crossed < infinity || runner.inert) continue;
      const double speed = norm(m, &f[i * size]);
      const double rate = f[i * size + m];
      if (rate > problem.kappa() * options.inert || speed > 10 * options.inert) continue;
      std::vector<double> mode(m);
      const double growth = field.growth(a, mode.data());
      if (growth <= 10 * options.inert) {
        runner.inert = true;
      } else if (speed <= 4 * problem.epsilon() * growth) {
        // On an unstable resting point to the last bit: what exact arithmetic would have left of the unstable
        // component is below rounding, so it is taken to be one rounding error.
        outcome.unresolved = true;
        for (auto& e : mode) e *= problem.epsilon();
        sphere::rebase(m, &field.direction[i * m], mode.data());
        restart({a});
      }
    }
  }

  if (finish == infinity) {
    outcome.end = RaceEnd::inert;
    return outcome;
  }

  // Everyone to the finish.
  std::vector<int> back, again;
  std::vector<double> back_h;
  for (std::size_t i = 0; i < count; ++i) {
    Runner& runner = runners[i];
    if (runner.crossed <= finish + tie) {
      outcome.winners.push_back(static_cast<int>(i));
      continue;
    }
    const double target = std::exp(finish + degree * runner.reference);
    if (runner.elapsed <= target) continue;
    if (runner.elapsed_before > target) {
      again.push_back(static_cast<int>(i));
      continue;
    }
    const double s = runner.path.moment(degree, runner.reference, target - runner.elapsed_before);
    std::copy_n(runner.before.data(), m, &field.direction[i * m]);
    runner.log_norm = runner.path.start;
    back.push_back(static_cast<int>(i));
    back_h.push_back(s * runner.path.h);
  }
  restart(back);
  which.clear();
  h.clear();
  for (std::size_t k = 0; k < back.size(); ++k)
    if (back_h[k] > 0) {
      which.push_back(back[k]);
      h.push_back(back_h[k]);
    }
  if (!which.empty()) {
    step();
    for (std::size_t k = 0; k < which.size(); ++k) settle(static_cast<std::size_t>(which[k]), k);
  }
  if (!again.empty()) {
    // Ran ahead by more than a step: once more from the start, to the finish.
    std::vector<Dormant> late;
    for (int i : again) {
      late.push_back(neurons[static_cast<std::size_t>(i)]);
      late.back().hint = 0;
    }
    RaceOptions limited = options;
    limited.log_limit = finish;
    limited.threshold = infinity;
    const RaceOutcome rerun = run_race(problem, backend, control, stats, residual, limited, late);
    if (rerun.end == RaceEnd::stopped || rerun.end == RaceEnd::exhausted) {
      outcome.end = rerun.end;
      return outcome;
    }
    for (std::size_t k = 0; k < again.size(); ++k) {
      const auto i = static_cast<std::size_t>(again[k]);
      std::copy_n(late[k].direction.data(), m, &field.direction[i * m]);
      runners[i].log_norm = late[k].log_norm;
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    neurons[i].direction.assign(&field.direction[i * m], &field.direction[i * m] + m);
    neurons[i].log_norm = runners[i].log_norm;
    neurons[i].hint = runners[i].h;
    neurons[i].contracted |=
        runners[i].spent > 0 && field.contracts(static_cast<int>(i), forgetting / runners[i].spent);
  }
  outcome.log_elapsed = finish;
  if (outcome.winners.empty()) {
    outcome.end = RaceEnd::limit;
    return outcome;
  }
  outcome.end = RaceEnd::crossed;
  const auto first = static_cast<std::size_t>(outcome.winners.front());
  restart({outcome.winners.front()});
  const double rate = f[first * size + m];
  outcome.utility = rate / problem.kappa();
  const double gradient = norm(m, &field.gradient[first * m]);
  outcome.alignment = gradient > 0 ? rate / gradient : 0;
  return outcome;
}

RaceOutcome race(const Problem& problem, Backend& backend, Control& control, Stats& stats, const Signal& residual,
                 const RaceOptions& options, std::vector<Dormant>& neurons) {
  try {
    return run_race(problem, backend, control, stats, residual, options, neurons);
  } catch (const Interrupted&) {
    RaceOutcome outcome;
    outcome.end = RaceEnd::stopped;
    return outcome;
  }
}

}  // namespace agf
