#include "dormant.hpp"

#include <algorithm>
#include <numeric>

#include "entries.hpp"
#include "integrate.hpp"
#include "interrupt.hpp"
#include "sphere.hpp"
#include "systems.hpp"
#include "tableau.hpp"

namespace AGF_SPACE {

namespace {

AGF_TABLE long most_rounds = 100000;
// A log-norm this close to the threshold has landed: what is left is closed along the tangent, to its square.
AGF_TABLE double landed = 1e-8;
// An aligned neuron's plateau is a straight line, and its steps grow by this factor.
AGF_TABLE double longest_stride = 30;
// ln(1 / rounding error), and the speed (relative to the growth of small displacements) of a neuron at rest as far as
// an active phase's residual tells.
AGF_TABLE double forgetting = 36, at_rest = 1e-6;
// Beyond these the matrices of all neurons no longer fit comfortably: conjugate gradients instead.
AGF_TABLE std::size_t most_dense_params = 512, most_dense_entries = 60'000'000;

class DormantField final : public StiffField {
 public:
  AGF_CORE DormantField(const Problem& problem, Backend& backend, Stats& stats, const Signal& residual,
                        std::size_t count, Accuracy accuracy)
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
        ramp_(problem.kinked() ? count : 0, accuracy.ramp * problem.input_scale()),
        origin_(m_, 0.0),
        systems_(backend) {
    if (dense_) {
      jacobian_.resize(count * m_ * m_);
      systems_.resize(count, m_);
    }
  }

  AGF_CORE std::size_t size() const override { return m_ + 1; }

  AGF_CORE Shape shape() const { return Shape{true, ramp_.empty() ? nullptr : ramp_.data()}; }

  AGF_CORE bool stage(const Array<int>& which, const double* y, const double* add, double* x) override {
    const std::size_t count = which.size(), m = m_;
    const int* const at = which.data();
    const double* const u = direction.data();
    if (y) {
      points_.resize(count * m);
      double* const points = points_.data();
      each_entry(count, m, [=](std::size_t k, std::size_t e) {
        points[k * m + e] = u[static_cast<std::size_t>(at[k]) * m + e] + y[k * (m + 1) + e];
      });
      evaluate(count);
    }
    const double *const slopes = slopes_.data(), *const coupling = coupling_.data(), *const shift = shift_.data();
    const char* const lost = failed.data();
    const double kappa = kappa_;
    const auto flow = [=](std::size_t k) {
      const std::size_t first = k * (m + 1);
      if (y) sphere::flow(m, kappa, u + static_cast<std::size_t>(at[k]) * m, y + first, slopes + k * m, x + first);
      for (std::size_t e = first; e <= first + m; ++e) x[e] = y ? x[e] + add[e] : add[e];
    };
    const auto grow = [=](std::size_t k) {
      const auto i = static_cast<std::size_t>(at[k]);
      double* const row = x + k * (m + 1);
      if (lost[i])
        for (std::size_t e = 0; e <= m; ++e) row[e] = 0;
      else
        row[m] = (row[m] + dot(m, coupling + i * m, row)) / shift[i];
    };
    if (dense_) {
      systems_.solve(count, at, lost, x, m + 1, flow, grow);
      return true;
    }
    each_task(count, flow);
    for (std::size_t k = 0; k < count; ++k) {
      const auto i = static_cast<std::size_t>(at[k]);
      if (!failed[i] && !krylov(i, x + k * (m + 1))) failed[i] = 1;
    }
    each_task(count, grow);
    return true;
  }

  // F at v = 0 to the neurons' own rows of f, and the gradient there for the Jacobian.
  AGF_CORE void start(const Array<int>& which, double* f) {
    if (which.empty()) return;
    const std::size_t count = which.size(), m = m_;
    gather(which);
    evaluate(count);
    const int* const at = which.data();
    const double *const u = direction.data(), *const slopes = slopes_.data(), *const origin = origin_.data();
    double* const g = gradient.data();
    char* const stale = stale_.data();
    const double kappa = kappa_;
    each_task(count, [=](std::size_t k) {
      const auto i = static_cast<std::size_t>(at[k]);
      sphere::flow(m, kappa, u + i * m, origin, slopes + k * m, f + i * (m + 1));
      for (std::size_t e = 0; e < m; ++e) g[i * m + e] = slopes[k * m + e];
      stale[i] = 1;
    });
  }

  AGF_CORE void linearize(const Array<int>& which) {
    need_.clear();
    for (int i : which)
      if (stale_[static_cast<std::size_t>(i)]) need_.push_back(i);
    if (need_.empty()) return;
    ++stats_.hessians;
    const std::size_t count = need_.size(), m = m_;
    gather(need_);
    if (dense_) {
      scratch_.resize(count * m * m);
      problem_.utility_hessian(points_.data(), count, residual_, scratch_.data(), shape());
      jacobians(need_, coupling_.data(), jacobian_.data());
    } else {
      scratch_.resize(count * m);
      problem_.curvature_vector(points_.data(), points_.data(), count, residual_, nullptr, scratch_.data(), shape());
      const int* const at = need_.data();
      const double *const u = direction.data(), *const g = gradient.data(), *const bent = scratch_.data();
      double* const coupling = coupling_.data();
      each_task(count, [=](std::size_t k) {
        const std::size_t row = static_cast<std::size_t>(at[k]) * m;
        sphere::couple(m, u + row, g + row, bent + k * m, coupling + row);
      });
    }
    for (int i : need_) stale_[static_cast<std::size_t>(i)] = 0;
  }

  // Prepares the step sizes h; failed[i] where the step is too long for an unstable direction to be followed: an
  // L-stable method would damp a mode of growth rate mu once mu h > 1 / gamma, and see no error if it is still tiny.
  AGF_CORE void factor(const Array<int>& which, const double* h) {
    const std::size_t m = m_;
    const int* const at = which.data();
    const double* const jacobian = jacobian_.data();
    double* const shift = shift_.data();
    char* const lost = failed.data();
    each(which.size(), [=](std::size_t k) {
      const auto i = static_cast<std::size_t>(at[k]);
      lost[i] = 0;
      shift[i] = 1 / (Rodas5P::gamma * h[k]);
    });
    if (!dense_) return;
    const auto shifted = [=](std::size_t k, int time) {
      const auto i = static_cast<std::size_t>(at[k]);
      const double by = time == 0 ? 1 / h[k] : shift[i];
      const double* const own = jacobian + i * m * m;
      return [=](std::size_t a, std::size_t b) { return a == b ? by - own[a * m + b] : -own[a * m + b]; };
    };
    systems_.factor(which.size(), at, 2, shifted, lost);
  }

  // Those of the list where by the latest linearisation every tangent displacement decays faster than e^{-rate s}; the
  // steps' factors are lost.
  AGF_CORE void contracts(const Array<int>& which, const double* rates, char* out) {
    const std::size_t m = m_;
    const int* const at = which.data();
    const double *const u = direction.data(), *const jacobian = jacobian_.data();
    char* const lost = failed.data();
    if (!dense_) {
      each(which.size(), [=](std::size_t k) { out[k] = 0; });
      return;
    }
    bent_.resize(which.size() * m);
    double* const bent = bent_.data();
    each_entry(which.size(), m, [=](std::size_t k, std::size_t a) {
      const auto i = static_cast<std::size_t>(at[k]);
      bent[k * m + a] = dot(m, jacobian + (i * m + a) * m, u + i * m);
    });
    const auto faster = [=](std::size_t k, int) {
      const auto i = static_cast<std::size_t>(at[k]);
      const double *const ui = u + i * m, *const own = jacobian + i * m * m, rate = rates[k];
      const double along = -dot(m, ui, bent + k * m);
      // The normal direction is none of them.
      const double normal = std::max(rate, 0.0) + std::abs(along) - along;
      return [=](std::size_t a, std::size_t b) {
        const double entry = normal * ui[a] * ui[b] - own[a * m + b];
        return a == b ? entry - rate : entry;
      };
    };
    systems_.factor(which.size(), at, 1, faster, lost);
    each(which.size(), [=](std::size_t k) { out[k] = lost[at[k]] ? 0 : 1; });
  }

  // Largest growth rate of a small tangent displacement; `mode` gets its direction.
  AGF_CORE double growth(int neuron, double* mode) {
    const std::size_t m = m_;
    const double* const u = &direction[static_cast<std::size_t>(neuron) * m];
    need_.assign(1, neuron);
    gather(need_);
    scratch_.resize(m * m);
    problem_.utility_hessian(points_.data(), 1, residual_, scratch_.data(), shape());
    Array<double> matrix(m * m), values(m);
    jacobians(need_, nullptr, matrix.data());
    double* const entries = matrix.data();
    const double bound = 2 * std::sqrt(total(m * m, [=](std::size_t e) { return entries[e] * entries[e]; })) + 1e-300;
    each_below(m, [=](std::size_t a, std::size_t b) { entries[a * m + b] -= bound * u[a] * u[b]; });
    backend_.eigen(m, entries, values.data());
    each(m, [=](std::size_t e) { mode[e] = entries[(m - 1) * m + e]; });
    return values[m - 1];
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
  Array<double> direction, gradient;
  Array<char> failed;

 private:
  Array<char> stale_;
  Array<double> shift_, coupling_, ramp_;
  Array<double> origin_;  // (params) zeros
  Array<double> points_, slopes_, scratch_, bent_, radial_, along_, jacobian_;
  Array<int> need_;
  Systems systems_;

  AGF_CORE void gather(const Array<int>& which) {
    const std::size_t m = m_;
    points_.resize(which.size() * m);
    const int* const at = which.data();
    const double* const u = direction.data();
    double* const points = points_.data();
    each_entry(which.size(), m,
               [=](std::size_t k, std::size_t e) { points[k * m + e] = u[static_cast<std::size_t>(at[k]) * m + e]; });
  }

  AGF_CORE void evaluate(std::size_t count) {
    slopes_.resize(count * m_);
    problem_.utility(points_.data(), count, residual_, nullptr, slopes_.data(), shape());
    ++stats_.evaluations;
  }

  // The Jacobians from the Hessians in `scratch_`. To the neurons' own places, with the couplings; those of the list
  // without.
  AGF_CORE void jacobians(const Array<int>& which, double* couplings, double* out) {
    const std::size_t count = which.size(), m = m_;
    bent_.resize(count * m);
    radial_.resize(count);
    along_.resize(count);
    const int* const at = which.data();
    const double *const u = direction.data(), *const g = gradient.data(), *const hessian = scratch_.data();
    double *const bent = bent_.data(), *const radial = radial_.data(), *const along = along_.data();
    each_entry(count, m, [=](std::size_t k, std::size_t a) {
      bent[k * m + a] = dot(m, hessian + (k * m + a) * m, u + static_cast<std::size_t>(at[k]) * m);
    });
    each_task(count, [=](std::size_t k) {
      const std::size_t row = static_cast<std::size_t>(at[k]) * m;
      radial[k] = dot(m, u + row, g + row);
      along[k] = dot(m, u + row, bent + k * m);
      if (couplings) sphere::couple(m, u + row, g + row, bent + k * m, couplings + row);
    });
    const bool own = couplings != nullptr;
    each_entry(count, m, m, [=](std::size_t k, std::size_t a, std::size_t b) {
      const auto i = static_cast<std::size_t>(at[k]);
      const double *const ui = u + i * m, *const bu = bent + k * m;
      out[((own ? i : k) * m + a) * m + b] =
          sphere::project_entry(hessian[(k * m + a) * m + b], ui[a], ui[b], bu[a], bu[b], along[k]) -
          (a == b ? radial[k] : 0);
    });
  }

  AGF_CORE bool krylov(std::size_t i, double* b) {
    const std::size_t m = m_;
    const double* const u = &direction[i * m];
    const double moved = shift_[i] + dot(m, u, &gradient[i * m]);
    // An error e of the residual moves the step by gamma h e: two digits below what the step is tested for.
    const auto close = [&](const Array<double>& residual) {
      return norm(m_, residual.data()) <= 0.01 * tolerance_ * shift_[i];
    };
    return conjugate_gradients(m_, b, close, 1000, [&](const double* v, double* out) {
      problem_.curvature_vector(u, v, 1, residual_, nullptr, out, shape());
      const double along = total(m, [=](std::size_t e) { return u[e] * out[e]; });
      each(m, [=](std::size_t e) { out[e] = moved * v[e] - (out[e] - along * u[e]); });
    });
  }
};

// lambda over one accepted step as the dense output's polynomial, and the physical time that it takes.
struct LogNormPath {
  double start = 0, end = 0, h = 0;
  double dense[3] = {};

  AGF_CORE double at(double s) const {
    return (1 - s) * start + s * (end + (1 - s) * (dense[0] + s * (dense[1] + s * dense[2])));
  }
  AGF_CORE double slope(double s) const {
    const double inner = dense[0] + s * (dense[1] + s * dense[2]);
    return end - start + (1 - 2 * s) * inner + s * (1 - s) * (dense[1] + 2 * s * dense[2]);
  }

  // First s at which lambda rises through the level; > 1 where it does not.
  AGF_CORE double crossing(double level) const {
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
  AGF_CORE double duration(double degree, double reference, double s) const {
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
  AGF_CORE double moment(double degree, double reference, double target) const {
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
  double log_elapsed = -infinity;
  double h = 0;
  double crossed = infinity;  // ln of the crossing time
  double spent = 0;           // its own clock
  bool rejected = false, inert = false;
  // The last accepted step, to go back into.
  LogNormPath path;
  double elapsed_before = 0;

  // An accepted step of size `step`; degree = kappa - 2 of the clock.
  AGF_CORE void pass(const LogNormPath& along, double degree, double step) {
    path = along;
    elapsed_before = elapsed;
    elapsed += path.duration(degree, reference, 1);
    spent += step;
    log_norm = path.end;
  }
  AGF_CORE void look_at_clock(double degree) { log_elapsed = std::log(elapsed) - degree * reference; }
};

enum class Tried : char { rejected, landing, accepted };

// What a step leaves, a row for each neuron that tried: its place among all, where it was and where it came.
struct Rows {
  std::size_t m = 0;
  const int* which = nullptr;
  const double *h = nullptr, *y0 = nullptr, *y1 = nullptr, *error = nullptr, *dense[3] = {};

  AGF_CORE std::size_t neuron(std::size_t k) const { return static_cast<std::size_t>(which[k]); }
  AGF_CORE LogNormPath path(std::size_t k) const {
    const std::size_t e = k * (m + 1) + m;
    return {y0[e], y1[e], h[k], {dense[0][e], dense[1][e], dense[2][e]}};
  }
};

}  // namespace

AGF_CORE static RaceOutcome run_race(const Problem& problem, Backend& backend, Control& control, Stats& stats,
                                     const Signal& residual, const RaceOptions& options, Array<Dormant>& neurons) {
  const std::size_t m = problem.params(), count = neurons.size(), size = m + 1;
  const double degree = options.clock - 2;
  const Accuracy accuracy = agf::accuracy(options.rtol, problem, true);
  const double tolerance = accuracy.local;
  RaceOutcome outcome;
  if (count == 0) return outcome;

  DormantField field(problem, backend, stats, residual, count, accuracy);
  Array<Runner> runners(count);
  Array<double> f(count * size), before(count * m);
  Array<int> all(count);
  std::iota(all.begin(), all.end(), 0);
  Runner* const runner_of = runners.data();
  double *const direction = field.direction.data(), *const earlier = before.data();
  {
    const Dormant* const from = neurons.data();
    each_entry(count, m, [=](std::size_t i, std::size_t e) { direction[i * m + e] = from[i].direction[e]; });
    field.start(all, f.data());
    const double *const gradient = field.gradient.data(), *const flow = f.data();
    const double threshold = options.threshold;
    each_task(count, [=](std::size_t i) {
      Runner& runner = runner_of[i];
      runner.log_norm = runner.reference = from[i].log_norm;
      const double rate = norm(m, gradient + i * m);
      runner.h = from[i].hint > 0 ? from[i].hint : (rate > 0 ? 0.05 / rate : 1.0);
      if (from[i].log_norm >= threshold && flow[i * size + m] > 0) runner.crossed = -infinity;
    });
  }

  Array<int> forgetful;
  for (int i : all)
    if (neurons[static_cast<std::size_t>(i)].contracted) forgetful.push_back(i);
  field.linearize(forgetful);
  Array<double> rates(forgetful.size(), -10 * options.inert);
  Array<char> contracting(forgetful.size());
  field.contracts(forgetful, rates.data(), contracting.data());
  for (std::size_t k = 0; k < forgetful.size(); ++k) {
    // On an unstable point, what it would leave along was forgotten on the way there.
    const int i = forgetful[k];
    Array<double> mode(m);
    outcome.unresolved = outcome.unresolved || (!contracting[k] && norm(m, &f[static_cast<std::size_t>(i) * size]) <=
                                                                       at_rest * field.growth(i, mode.data()));
  }

  double finish = options.log_limit;
  for (const auto& runner : runners) finish = std::min(finish, runner.crossed);

  // Between kinks a long step is soon too long.
  const double stride = problem.kinked() ? usual_stride : longest_stride;
  Trial trial;
  Array<int> which, accepted;
  Array<double> h, y0, f0, reach;
  Array<Tried> tried;

  // One step of each system in `which` with sizes h; leaves rows of `trial` in that order.
  auto step = [&]() {
    y0.resize(which.size() * size);
    f0.resize(which.size() * size);
    const int* const at = which.data();
    const double* const flow = f.data();
    double *const y = y0.data(), *const slope = f0.data();
    each_entry(which.size(), size, [=](std::size_t k, std::size_t e) {
      const auto i = static_cast<std::size_t>(at[k]);
      y[k * size + e] = e < m ? 0 : runner_of[i].log_norm;
      slope[k * size + e] = flow[i * size + e];
    });
    field.linearize(which);
    field.factor(which, h.data());
    implicit_step(field, which, h.data(), y0.data(), f0.data(), trial);
    return Rows{m,
                which.data(),
                h.data(),
                y0.data(),
                trial.y1.data(),
                trial.error.data(),
                {trial.dense[0].data(), trial.dense[1].data(), trial.dense[2].data()}};
  };
  auto restart = [&](const Array<int>& moved) { field.start(moved, f.data()); };

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
      if (runner.log_elapsed > finish + 2 * tie) continue;
      which.push_back(static_cast<int>(i));
      h.push_back(runner.h);
    }
    if (which.empty() || finish == -infinity) break;
    const Rows rows = step();

    tried.resize(which.size());
    reach.resize(which.size());
    {
      Tried* const verdict = tried.data();
      double* const fraction = reach.data();
      const char* const failed = field.failed.data();
      const double threshold = options.threshold;
      each_task(which.size(), [=](std::size_t k) {
        const std::size_t i = rows.neuron(k);
        Runner& runner = runner_of[i];
        const double *const y1 = rows.y1 + k * size, *const off = rows.error + k * size;
        double error = infinity;
        if (!failed[i]) {
          const double change = std::abs(y1[m] - rows.y0[k * size + m]);
          error = std::max(norm(m, off) / tolerance, std::abs(off[m]) / (tolerance * std::max(1.0, change)));
          // Beyond a turn of about a radian the chart is a poor one.
          if (!(norm(m, y1) < 2)) error = infinity;
        }
        const double factor = step_factor(error, runner.rejected, stride);
        if (!(error <= 1)) {
          verdict[k] = Tried::rejected;
          runner.rejected = true;
          runner.h *= failed[i] ? 0.5 : std::min(factor, 0.9);
          return;
        }
        runner.rejected = false;
        const LogNormPath path = rows.path(k);
        fraction[k] = path.crossing(threshold);
        if (fraction[k] <= 1) {
          verdict[k] = Tried::landing;
          return;
        }
        verdict[k] = Tried::accepted;
        for (std::size_t e = 0; e < m; ++e) earlier[i * m + e] = direction[i * m + e];
        runner.pass(path, degree, rows.h[k]);
        runner.look_at_clock(degree);
        sphere::rebase(m, direction + i * m, y1);
        runner.h = rows.h[k] * factor;
      });
    }
    accepted.clear();
    Array<int> landing;
    Array<double> landing_h;
    for (std::size_t k = 0; k < which.size(); ++k) {
      ++(tried[k] == Tried::rejected ? stats.rejected : stats.steps);
      if (tried[k] == Tried::accepted) accepted.push_back(which[k]);
      if (tried[k] != Tried::landing) continue;
      landing.push_back(which[k]);
      landing_h.push_back(reach[k] * h[k]);
    }

    // Land on the threshold by a step of its own, so that the crossing has the method's accuracy, not its
    // interpolant's.
    if (!landing.empty()) {
      Rows last;
      for (int pass = 0; pass < 3; ++pass) {
        which = landing;
        h = landing_h;
        last = step();
        bool there = true;
        for (std::size_t k = 0; k < landing.size(); ++k) {
          const LogNormPath path = last.path(k);
          there = there && std::abs(path.end - options.threshold) <= landed;
          const double rate = (path.end - path.start) / h[k];
          const double slope = std::max(path.slope(1) / h[k], 0.1 * std::abs(rate));
          if (pass < 2 && slope > 0) landing_h[k] = std::max(0.5 * h[k], h[k] - (path.end - options.threshold) / slope);
        }
        if (there) break;
      }
      const double threshold = options.threshold;
      each_task(landing.size(), [=](std::size_t k) {
        const std::size_t i = last.neuron(k);
        Runner& runner = runner_of[i];
        const LogNormPath path = last.path(k);
        for (std::size_t e = 0; e < m; ++e) earlier[i * m + e] = direction[i * m + e];
        runner.pass(path, degree, last.h[k]);
        sphere::rebase(m, direction + i * m, last.y1 + k * size);
        const double slope = path.slope(1) / last.h[k];
        // What rounding leaves of the distance is closed along the tangent.
        if (slope > 0)
          runner.elapsed += (threshold - runner.log_norm) / slope * std::exp(-degree * (threshold - runner.reference));
        runner.log_norm = threshold;
        runner.look_at_clock(degree);
        runner.crossed = runner.log_elapsed;
      });
      for (int i : landing) {
        finish = std::min(finish, runners[static_cast<std::size_t>(i)].crossed);
        accepted.push_back(i);
      }
    }
    restart(accepted);

    for (int a : accepted) {
      const auto i = static_cast<std::size_t>(a);
      Runner& runner = runners[i];
      if (runner.crossed < infinity || runner.inert) continue;
      if (f[i * size + m] > problem.kappa() * options.inert) continue;
      const double speed = norm(m, &f[i * size]);
      if (speed > 10 * options.inert) continue;
      Array<double> mode(m);
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
  Array<int> back, again;
  Array<double> back_h;
  reach.resize(count);
  {
    // Negative: it is not beyond; above 1: by more than the last step.
    double* const fraction = reach.data();
    const double end = finish;
    each_task(count, [=](std::size_t i) {
      Runner& runner = runner_of[i];
      fraction[i] = -1;
      if (runner.crossed <= end + tie) return;
      const double target = std::exp(end + degree * runner.reference);
      if (runner.elapsed <= target) return;
      fraction[i] = 2;
      if (runner.elapsed_before > target) return;
      fraction[i] = runner.path.moment(degree, runner.reference, target - runner.elapsed_before);
      for (std::size_t e = 0; e < m; ++e) direction[i * m + e] = earlier[i * m + e];
      runner.log_norm = runner.path.start;
    });
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (runners[i].crossed <= finish + tie) outcome.winners.push_back(static_cast<int>(i));
    if (reach[i] < 0) continue;
    (reach[i] > 1 ? again : back).push_back(static_cast<int>(i));
    if (!(reach[i] > 1)) back_h.push_back(reach[i] * runners[i].path.h);
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
    const Rows rows = step();
    each_task(which.size(), [=](std::size_t k) {
      const std::size_t i = rows.neuron(k);
      sphere::rebase(m, direction + i * m, rows.y1 + k * size);
      runner_of[i].log_norm = rows.y1[k * size + m];
    });
  }
  if (!again.empty()) {
    // Ran ahead by more than a step: once more from the start, to the finish.
    Array<Dormant> late;
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
    const int* const at = again.data();
    const Dormant* const from = late.data();
    each_task(again.size(), [=](std::size_t k) {
      const auto i = static_cast<std::size_t>(at[k]);
      for (std::size_t e = 0; e < m; ++e) direction[i * m + e] = from[k].direction[e];
      runner_of[i].log_norm = from[k].log_norm;
    });
  }
  Dormant* const to = neurons.data();
  each_task(count, [=](std::size_t i) {
    for (std::size_t e = 0; e < m; ++e) to[i].direction[e] = direction[i * m + e];
    to[i].log_norm = runner_of[i].log_norm;
    to[i].hint = runner_of[i].h;
  });
  which.clear();
  rates.clear();
  for (std::size_t i = 0; i < count; ++i)
    if (runners[i].spent > 0) {
      which.push_back(static_cast<int>(i));
      rates.push_back(forgetting / runners[i].spent);
    }
  contracting.resize(which.size());
  field.contracts(which, rates.data(), contracting.data());
  for (std::size_t k = 0; k < which.size(); ++k)
    neurons[static_cast<std::size_t>(which[k])].contracted |= contracting[k] != 0;
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

AGF_CORE RaceOutcome race(const Problem& problem, Backend& backend, Control& control, Stats& stats,
                          const Signal& residual, const RaceOptions& options, Array<Dormant>& neurons) {
  RaceOutcome outcome;
  const bool done =
      uninterrupted([&]() { outcome = run_race(problem, backend, control, stats, residual, options, neurons); });
  if (!done) {
    outcome = {};
    outcome.end = RaceEnd::stopped;
  }
  return outcome;
}

}  // namespace AGF_SPACE
