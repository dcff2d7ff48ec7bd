// With r frozen and sigma(z) = s z, U is a quadratic form: theta' = B theta, B = hess U, the same for every neuron.
// Along the eigenvectors of B each component is c e^{beta t}. Carried as sign and logarithm it is exact for any t, so a
// component that falls by thousands of orders of magnitude behind the largest is still there when its turn comes.
#include "linear_race.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "active.hpp"
#include "crossing.hpp"
#include "interrupt.hpp"
#include "linear.hpp"

namespace agf {

namespace {

// Crossing times that agree to this relative distance are one event (exact ties by symmetry).
constexpr double tie = 1e-12;
// Beyond this many parameters the eigenvectors take longer than a Ctrl-C may wait.
constexpr std::size_t most_params = 800;
// Largest part of a component that weights which may be noise contribute.
constexpr double correction = 0.01;
// A direction further than this from its components was changed by someone else.
constexpr double stale = 1e-6;

// Overlaps of new eigenvectors with old ones below `overlap`, and differences of eigenvalues below `gap` (relative to
// the largest), may be nothing but the error of r: rounding at first, then what an active phase leaves (1e-8).
struct Noise {
  double overlap, gap;
};

// A number as sign and logarithm: its sign times exp(log).
struct Signed {
  double sign = 0, log = -infinity;
};

Signed split(double x) { return {x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0, std::log(std::abs(x))}; }

// sum_j w_j sign_j e^{log_j}. A weight below `overlap` may be noise that stands for zero. Multiplying the largest of
// components that lie 1e100 apart it would bury the truth, or nearly cancel it: it may correct what the sound weights
// give, not replace it.
Signed combine(std::size_t m, const double* w, const double* log_w, const double* sign, const double* log,
               double overlap) {
  const double least = std::log(overlap);
  auto sum = [&](bool sound, double top, double most) {
    double total = 0;
    for (std::size_t j = 0; j < m; ++j)
      if ((log_w[j] >= least) == sound && log_w[j] + log[j] <= most)
        total += (w[j] < 0 ? -sign[j] : sign[j]) * std::exp(log_w[j] + log[j] - top);
    return total;
  };
  double top = -infinity;
  for (std::size_t j = 0; j < m; ++j)
    if (log_w[j] >= least) top = std::max(top, log_w[j] + log[j]);
  if (top == -infinity) return {};
  const double main = sum(true, top, infinity);
  Signed out = split(main + sum(false, top, top + std::log(correction * std::abs(main))));
  out.log += top;
  return out;
}

// One neuron along the eigenvectors of B.
struct Modes {
  const std::vector<double>& beta;
  const double* log;  // ln|component| of the unit direction
  double log_norm;

  // lambda and its slope at time t; `weights`, where given, gets e^{log component - lambda}.
  double at(double t, double& slope, double* weights = nullptr) const {
    double top = -infinity, sum = 0, rise = 0;
    for (std::size_t l = 0; l < beta.size(); ++l) top = std::max(top, log[l] + beta[l] * t);
    for (std::size_t l = 0; l < beta.size(); ++l) {
      const double part = std::exp(log[l] + beta[l] * t - top);
      if (weights) weights[l] = part;
      sum += part * part;
      rise += beta[l] * part * part;
    }
    if (weights)
      for (std::size_t l = 0; l < beta.size(); ++l) weights[l] /= std::sqrt(sum);
    slope = rise / sum;
    return log_norm + top + 0.5 * std::log(sum);
  }

  // When lambda, which is convex in t, rises through the level; at once where it is beyond and rising. Infinite without
  // a component that grows faster than `least`.
  double crossing(double level, double least) const {
    double high = infinity;
    // lambda is above each single component.
    for (std::size_t l = 0; l < beta.size(); ++l)
      if (beta[l] > least && log[l] > -infinity) high = std::min(high, (level - log_norm - log[l]) / beta[l]);
    return rising_crossing(high, level, [this](double t, double& slope) { return at(t, slope); });
  }
};

// Eigenvalues that noise cannot tell apart leave their eigenvectors free: rows [first, last) of `vectors` and of
// `overlaps` (with the old vectors) are turned so that the old vectors, taken in `order`, are projected on as few of
// them as possible. What lay far apart in the old frame is then not mixed in the new one.
void untangle(std::size_t m, std::size_t first, std::size_t last, const std::vector<int>& order, double overlap,
              std::vector<double>& beta, std::vector<double>& vectors, std::vector<double>& overlaps) {
  const std::size_t size = last - first;
  std::vector<double> turn, row(size);
  for (int j : order) {
    if (turn.size() == size * size) break;
    for (std::size_t a = 0; a < size; ++a) row[a] = overlaps[(first + a) * m + static_cast<std::size_t>(j)];
    // Twice, for orthogonality to the last bit.
    for (int pass = 0; pass < 2; ++pass)
      for (std::size_t b = 0; b < turn.size(); b += size) {
        const double along = dot(size, &turn[b], row.data());
        for (std::size_t a = 0; a < size; ++a) row[a] -= along * turn[b + a];
      }
    const double length = norm(size, row.data());
    if (length < overlap) continue;
    for (double e : row) turn.push_back(e / length);
  }
  auto apply = [&](std::vector<double>& matrix) {
    std::vector<double> turned(size * m, 0.0);
    for (std::size_t a = 0; a < size; ++a)
      for (std::size_t b = 0; b < size; ++b)
        for (std::size_t e = 0; e < m; ++e) turned[a * m + e] += turn[a * size + b] * matrix[(first + b) * m + e];
    std::copy(turned.begin(), turned.end(), &matrix[first * m]);
  };
  apply(vectors);
  apply(overlaps);
  const std::vector<double> old(&beta[first], &beta[first] + size);
  for (std::size_t a = 0; a < size; ++a) {
    beta[first + a] = 0;
    for (std::size_t b = 0; b < size; ++b) beta[first + a] += turn[a * size + b] * turn[a * size + b] * old[b];
  }
}

// The neuron's row of components, from its direction where it has none that belong to it.
void refresh(std::size_t m, const double* direction, const std::vector<double>& frame, double* sign, double* log) {
  std::vector<double> sum(direction, direction + m);
  for (std::size_t l = 0; l < m; ++l) {
    const double part = sign[l] * std::exp(log[l]);
    for (std::size_t e = 0; e < m && part != 0; ++e) sum[e] -= part * frame[l * m + e];
  }
  if (norm(m, sum.data()) <= stale) return;
  for (std::size_t l = 0; l < m; ++l) {
    const Signed part = split(dot(m, &frame[l * m], direction));
    sign[l] = part.sign;
    log[l] = part.log;
  }
}

RaceOutcome run(const Problem& problem, Backend& backend, Stats& stats, const Signal& residual,
                const RaceOptions& options, const std::vector<int>& members, std::vector<Dormant>& neurons,
                Components& components) {
  const std::size_t m = problem.params(), count = neurons.size();
  RaceOutcome outcome;
  if (count == 0) return outcome;

  const bool fresh = components.empty();
  const double rounding = 100 * problem.epsilon(), error = residual_error(problem);
  const Noise noise = fresh ? Noise{rounding, rounding} : Noise{100 * error, 10 * error};
  std::vector<double> frame = components.frame;
  if (fresh) {
    frame.assign(m * m, 0.0);
    for (std::size_t l = 0; l < m; ++l) frame[l * m + l] = 1;
  }
  std::vector<double> sign(count * m), log(count * m);
  for (std::size_t i = 0; i < count; ++i) {
    const auto row = static_cast<std::size_t>(members[i]) * m;
    std::copy_n(&components.sign[row], m, &sign[i * m]);
    std::copy_n(&components.log[row], m, &log[i * m]);
    refresh(m, neurons[i].direction.data(), frame, &sign[i * m], &log[i * m]);
  }

  // B = V^T diag(beta) V and W = V q^T.
  std::vector<double> beta(m), vectors(m * m), overlaps(m * m);
  problem.utility_hessian(neurons[0].direction.data(), 1, residual, vectors.data(), Shape{true, nullptr});
  ++stats.hessians;
  backend.eigen(m, vectors.data(), beta.data());
  backend.parallel(m, [&](std::size_t l) {
    for (std::size_t j = 0; j < m; ++j) overlaps[l * m + j] = dot(m, &vectors[l * m], &frame[j * m]);
  });
  std::vector<int> order(m);
  std::iota(order.begin(), order.end(), 0);
  std::vector<double> scale(m, -infinity);
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t j = 0; j < m; ++j) scale[j] = std::max(scale[j], neurons[i].log_norm + log[i * m + j]);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return scale[static_cast<std::size_t>(a)] > scale[static_cast<std::size_t>(b)];
  });
  const double width = noise.gap * std::max(std::abs(beta.front()), std::abs(beta.back()));
  for (std::size_t first = 0, last = 0; first < m; first = last) {
    while (last < m && beta[last] - beta[first] <= width) ++last;
    if (!fresh && last - first > 1) untangle(m, first, last, order, noise.overlap, beta, vectors, overlaps);
  }

  std::vector<double> log_overlaps(m * m), new_sign(count * m), new_log(count * m), crossed(count);
  for (std::size_t e = 0; e < m * m; ++e) log_overlaps[e] = std::log(std::abs(overlaps[e]));
  backend.parallel(count, [&](std::size_t i) {
    for (std::size_t l = 0; l < m; ++l) {
      const Signed part = combine(m, &overlaps[l * m], &log_overlaps[l * m], &sign[i * m], &log[i * m], noise.overlap);
      new_sign[i * m + l] = part.sign;
      new_log[i * m + l] = part.log;
    }
    const Modes modes{beta, &new_log[i * m], neurons[i].log_norm};
    crossed[i] = modes.crossing(options.threshold, problem.kappa() * options.inert);
  });

  const double limit = std::exp(options.log_limit);
  const double finish = std::min(limit, *std::min_element(crossed.begin(), crossed.end()));
  if (finish == infinity) return outcome;
  components.reset(components.log.size() / m, m);
  components.frame = vectors;
  for (std::size_t i = 0; i < count; ++i) {
    Dormant& neuron = neurons[i];
    const Modes modes{beta, &new_log[i * m], neuron.log_norm};
    std::vector<double> weights(m);
    double slope = 0;
    const double start = neuron.log_norm;
    neuron.log_norm = modes.at(finish, slope, weights.data());
    neuron.direction.assign(m, 0.0);
    const auto row = static_cast<std::size_t>(members[i]) * m;
    for (std::size_t l = 0; l < m; ++l) {
      components.sign[row + l] = new_sign[i * m + l];
      components.log[row + l] = new_log[i * m + l] + beta[l] * finish + (start - neuron.log_norm);
      const double part = new_sign[i * m + l] * weights[l];
      for (std::size_t e = 0; e < m && part != 0; ++e) neuron.direction[e] += part * vectors[l * m + e];
    }
    const double length = norm(m, neuron.direction.data());
    for (double& e : neuron.direction) e /= length;
    if (crossed[i] <= finish * (1 + tie)) {
      if (finish > 0) neuron.log_norm = options.threshold;
      outcome.winners.push_back(static_cast<int>(i));
    }
  }
  outcome.log_elapsed = std::log(finish);
  outcome.end = outcome.winners.empty() ? RaceEnd::limit : RaceEnd::crossed;
  if (outcome.winners.empty()) return outcome;
  const double* direction = neurons[static_cast<std::size_t>(outcome.winners.front())].direction.data();
  std::vector<double> gradient(m);
  problem.utility(direction, 1, residual, &outcome.utility, gradient.data(), Shape{true, nullptr});
  ++stats.evaluations;
  const double steepest = norm(m, gradient.data());
  outcome.alignment = steepest > 0 ? dot(m, direction, gradient.data()) / steepest : 0;
  return outcome;
}

}  // namespace

bool linear_race_applies(const Problem& problem) {
  return problem.kappa() == 2 && !problem.kinked() && problem.params() <= most_params;
}

RaceOutcome linear_race(const Problem& problem, Backend& backend, Control& control, Stats& stats,
                        const Signal& residual, const RaceOptions& options, const std::vector<int>& members,
                        std::vector<Dormant>& neurons, Components& components) {
  RaceOutcome outcome;
  outcome.end = RaceEnd::stopped;
  if (control.poll()) return outcome;
  try {
    return run(problem, backend, stats, residual, options, members, neurons, components);
  } catch (const Interrupted&) {
    return outcome;
  }
}

}  // namespace agf
