// With r frozen and sigma(z) = s z, U is a quadratic form: theta' = B theta, B = hess U, the same for every neuron.
// Along the eigenvectors of B each component is c e^{beta t}. Carried as sign and logarithm it is exact for any t, so a
// component that falls by thousands of orders of magnitude behind the largest is still there when its turn comes.
#include "linear_race.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "active.hpp"
#include "crossing.hpp"
#include "entries.hpp"
#include "interrupt.hpp"
#include "linear.hpp"

namespace AGF_SPACE {

namespace {

// Beyond this many parameters the eigenvectors take longer than a Ctrl-C may wait.
AGF_TABLE std::size_t most_params = 800;
// Largest part of a component that weights which may be noise contribute.
AGF_TABLE double correction = 0.01;
// A direction further than this from its components was changed by someone else.
AGF_TABLE double changed_direction = 1e-6;

// Overlaps of new eigenvectors with old ones below `overlap`, and differences of eigenvalues below `gap` (relative to
// the largest), may be nothing but the error of r: rounding at first, then what an active phase leaves (1e-8).
struct Noise {
  double overlap, gap;
};

// A number as sign and logarithm: its sign times exp(log).
struct Signed {
  double sign = 0, log = -infinity;
};

AGF_CORE Signed split(double x) { return {x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0, std::log(std::abs(x))}; }

// sum_j w_j sign_j e^{log_j}. A weight below `overlap` may be noise that stands for zero. Multiplying the largest of
// components that lie 1e100 apart it would bury the truth, or nearly cancel it: it may correct what the sound weights
// give, not replace it.
AGF_CORE Signed combine(std::size_t m, const double* w, const double* log_w, const double* sign, const double* log,
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
struct NeuronModes {
  std::size_t m;
  const double* beta;
  const double* log;  // ln|component| of the unit direction
  double log_norm;

  // lambda and its slope at time t; `weights`, where given, gets e^{log component - lambda}.
  AGF_CORE double at(double t, double& slope, double* weights = nullptr) const {
    double top = -infinity, sum = 0, rise = 0;
    for (std::size_t l = 0; l < m; ++l) top = std::max(top, log[l] + beta[l] * t);
    for (std::size_t l = 0; l < m; ++l) {
      const double part = std::exp(log[l] + beta[l] * t - top);
      if (weights) weights[l] = part;
      sum += part * part;
      rise += beta[l] * part * part;
    }
    if (weights)
      for (std::size_t l = 0; l < m; ++l) weights[l] /= std::sqrt(sum);
    slope = rise / sum;
    return log_norm + top + 0.5 * std::log(sum);
  }

  // When lambda, which is convex in t, rises through the level; at once where it is beyond and rising. Infinite without
  // a component that grows faster than `least`.
  AGF_CORE double crossing(double level, double least) const {
    double high = infinity;
    // lambda is above each single component.
    for (std::size_t l = 0; l < m; ++l)
      if (beta[l] > least && log[l] > -infinity) high = std::min(high, (level - log_norm - log[l]) / beta[l]);
    return rising_crossing(high, level, [this](double t, double& slope) { return at(t, slope); });
  }
};

// Eigenvalues that noise cannot tell apart leave their eigenvectors free: rows [first, last) of `vectors` and of
// `overlaps` (with the old vectors) are turned so that the old vectors, taken in `order`, are projected on as few of
// them as possible. What lay far apart in the old frame is then not mixed in the new one.
AGF_CORE void untangle(std::size_t m, std::size_t first, std::size_t last, const Array<int>& order, double overlap,
                       Array<double>& beta, Array<double>& vectors, Array<double>& overlaps) {
  const std::size_t size = last - first;
  Array<double> turn, row(size);
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
  const double* const by = turn.data();
  auto apply = [&](Array<double>& matrix) {
    Array<double> turned(size * m, 0.0);
    double* const to = turned.data();
    double* const at = &matrix[first * m];
    add_product(size, size, m, [=](std::size_t a, std::size_t b) { return by[a * size + b]; }, at, to);
    each(size * m, [=](std::size_t e) { at[e] = to[e]; });
  };
  apply(vectors);
  apply(overlaps);
  const Array<double> old(&beta[first], &beta[first] + size);
  const double* const before = old.data();
  double* const now = &beta[first];
  each_task(size, [=](std::size_t a) {
    now[a] = 0;
    for (std::size_t b = 0; b < size; ++b) now[a] += by[a * size + b] * by[a * size + b] * before[b];
  });
}

// The neuron's row of components, from its direction where it has none that belong to it. sum (m): scratch.
AGF_CORE void refresh(std::size_t m, const double* direction, const double* frame, double* sum, double* sign,
                      double* log) {
  for (std::size_t e = 0; e < m; ++e) sum[e] = direction[e];
  for (std::size_t l = 0; l < m; ++l) {
    const double part = sign[l] * std::exp(log[l]);
    for (std::size_t e = 0; e < m && part != 0; ++e) sum[e] -= part * frame[l * m + e];
  }
  if (norm(m, sum) <= changed_direction) return;
  for (std::size_t l = 0; l < m; ++l) {
    const Signed part = split(dot(m, frame + l * m, direction));
    sign[l] = part.sign;
    log[l] = part.log;
  }
}

AGF_CORE RaceOutcome run(const Problem& problem, Backend& backend, Stats& stats, const Signal& residual,
                         const RaceOptions& options, const Array<int>& members, Array<Dormant>& neurons,
                         Components& components) {
  const std::size_t m = problem.params(), count = neurons.size();
  RaceOutcome outcome;
  if (count == 0) return outcome;

  const bool fresh = components.empty();
  const double rounded = 100 * problem.epsilon(), error = residual_error(problem);
  const Noise noise = fresh ? Noise{rounded, rounded} : Noise{100 * error, 10 * error};
  Array<double> frame = components.frame;
  if (fresh) {
    frame.assign(m * m, 0.0);
    for (std::size_t l = 0; l < m; ++l) frame[l * m + l] = 1;
  }
  const double* const axes = frame.data();
  const int* const member = members.data();
  Dormant* const neuron_of = neurons.data();
  Array<double> sign(count * m), log(count * m), new_sign(count * m), new_log(count * m);
  double *const signs = sign.data(), *const logs = log.data();
  double *const new_signs = new_sign.data(), *const new_logs = new_log.data();
  {
    const double *const old_signs = components.sign.data(), *const old_logs = components.log.data();
    each_task(count, [=](std::size_t i) {
      const auto row = static_cast<std::size_t>(member[i]) * m;
      for (std::size_t l = 0; l < m; ++l) {
        signs[i * m + l] = old_signs[row + l];
        logs[i * m + l] = old_logs[row + l];
      }
      refresh(m, neuron_of[i].direction.data(), axes, new_signs + i * m, signs + i * m, logs + i * m);
    });
  }

  // B = V^T diag(beta) V and W = V q^T.
  Array<double> beta(m), vectors(m * m), overlaps(m * m), log_overlaps(m * m);
  problem.utility_hessian(neurons[0].direction.data(), 1, residual, vectors.data(), Shape{true, nullptr});
  ++stats.hessians;
  backend.eigen(m, vectors.data(), beta.data());
  const double *const rates = beta.data(), *const modes = vectors.data();
  double *const across = overlaps.data(), *const log_across = log_overlaps.data();
  each_row(
      backend, m, m, [=](std::size_t l, std::size_t j) { across[l * m + j] = dot(m, modes + l * m, axes + j * m); },
      [](std::size_t) {});
  Array<int> order(m);
  std::iota(order.begin(), order.end(), 0);
  Array<double> scale(m, -infinity);
  double* const most = scale.data();
  each(m, [=](std::size_t j) {
    for (std::size_t i = 0; i < count; ++i) most[j] = std::max(most[j], neuron_of[i].log_norm + logs[i * m + j]);
  });
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    const double left = scale[static_cast<std::size_t>(a)], right = scale[static_cast<std::size_t>(b)];
    return left != right ? left > right : a < b;
  });
  const double width = noise.gap * std::max(std::abs(beta.front()), std::abs(beta.back()));
  for (std::size_t first = 0, last = 0; first < m; first = last) {
    while (last < m && beta[last] - beta[first] <= width) ++last;
    if (!fresh && last - first > 1) untangle(m, first, last, order, noise.overlap, beta, vectors, overlaps);
  }

  each(m * m, [=](std::size_t e) { log_across[e] = std::log(std::abs(across[e])); });
  Array<double> crossed(count);
  double* const crossing = crossed.data();
  const double threshold = options.threshold, least = problem.kappa() * options.inert;
  each_row(
      backend, count, m,
      [=](std::size_t i, std::size_t l) {
        const Signed part = combine(m, across + l * m, log_across + l * m, signs + i * m, logs + i * m, noise.overlap);
        new_signs[i * m + l] = part.sign;
        new_logs[i * m + l] = part.log;
      },
      [=](std::size_t i) {
        crossing[i] = NeuronModes{m, rates, new_logs + i * m, neuron_of[i].log_norm}.crossing(threshold, least);
      });

  const double limit = std::exp(options.log_limit);
  const double finish = std::min(limit, *std::min_element(crossed.begin(), crossed.end()));
  if (finish == infinity) return outcome;
  components.reset(components.log.size() / m, m);
  components.frame = vectors;
  double *const kept_signs = components.sign.data(), *const kept_logs = components.log.data();
  each_task(count, [=](std::size_t i) {
    Dormant& neuron = neuron_of[i];
    double* const weights = signs + i * m;
    double slope = 0;
    const double start = neuron.log_norm;
    neuron.log_norm = NeuronModes{m, rates, new_logs + i * m, start}.at(finish, slope, weights);
    double* const direction = neuron.direction.data();
    for (std::size_t e = 0; e < m; ++e) direction[e] = 0;
    const auto row = static_cast<std::size_t>(member[i]) * m;
    for (std::size_t l = 0; l < m; ++l) {
      kept_signs[row + l] = new_signs[i * m + l];
      kept_logs[row + l] = new_logs[i * m + l] + rates[l] * finish + (start - neuron.log_norm);
      const double part = new_signs[i * m + l] * weights[l];
      for (std::size_t e = 0; e < m && part != 0; ++e) direction[e] += part * modes[l * m + e];
    }
    const double length = norm(m, direction);
    for (std::size_t e = 0; e < m; ++e) direction[e] /= length;
    if (crossing[i] <= finish * (1 + tie) && finish > 0) neuron.log_norm = threshold;
  });
  for (std::size_t i = 0; i < count; ++i)
    if (crossed[i] <= finish * (1 + tie)) outcome.winners.push_back(static_cast<int>(i));
  outcome.log_elapsed = std::log(finish);
  outcome.end = outcome.winners.empty() ? RaceEnd::limit : RaceEnd::crossed;
  if (outcome.winners.empty()) return outcome;
  const double* direction = neurons[static_cast<std::size_t>(outcome.winners.front())].direction.data();
  Array<double> gradient(m);
  Array<double> utility(1);
  problem.utility(direction, 1, residual, utility.data(), gradient.data(), Shape{true, nullptr});
  outcome.utility = utility[0];
  ++stats.evaluations;
  const double steepest = norm(m, gradient.data());
  outcome.alignment = steepest > 0 ? dot(m, direction, gradient.data()) / steepest : 0;
  return outcome;
}

}  // namespace

AGF_CORE bool linear_race_applies(const Problem& problem) {
  return problem.kappa() == 2 && !problem.kinked() && problem.params() <= most_params;
}

AGF_CORE AGF_APART RaceOutcome linear_race(const Problem& problem, Backend& backend, Control& control, Stats& stats,
                                           const Signal& residual, const RaceOptions& options,
                                           const Array<int>& members, Array<Dormant>& neurons, Components& components) {
  RaceOutcome outcome;
  outcome.end = RaceEnd::stopped;
  if (control.poll()) return outcome;
  uninterrupted([&]() { outcome = run(problem, backend, stats, residual, options, members, neurons, components); });
  return outcome;
}

}  // namespace AGF_SPACE
