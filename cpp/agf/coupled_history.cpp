// The history of the multistep method: how it begins, and how it follows the neurons.
#include "coupled.hpp"

#include <algorithm>

#include "sphere.hpp"

namespace AGF_SPACE {

// From the continuous output of the one step that starts it.
AGF_CORE void Coupled::begin_history() {
  constexpr int order = 4;
  const std::size_t total = size();
  Array<double> points((order + 1) * total);
  double* const to = points.data();
  const Trial::Curve curve = trial_.curve(y_.data());
  each(total, order, [=](std::size_t e) {
    for (int j = 0; j <= order; ++j)
      to[static_cast<std::size_t>(j) * total + e] = curve(e, 1 - static_cast<double>(j) / order);
  });
  history_.start(order, last_ / order, points);
}

// The history follows the neurons: into the balance of theta_ and into the charts around the new directions.
AGF_CORE void Coupled::move_history() {
  constexpr int most = Differences::most + 2;
  const std::size_t n = theta_.size(), m = m_, stride = history_.size();
  const int points = history_.points();
  const bool balanced = !balance_.empty();
  const double *const y = y_.data(), *const y1 = trial_.y1.data();
  double* const rows = history_.row(0);
  each(n, most, [=](std::size_t e) {
    rows[e] = y[e];
    if (balanced && y1[e] != 0)
      for (int j = 1; j < points; ++j) rows[static_cast<std::size_t>(j) * stride + e] *= y[e] / y1[e];
  });
  const double *const from = before_faint_.direction.data(), *const to = faint_.direction.data();
  each(faint_.count(), most * m, [=](std::size_t k) {
    double* const differences = rows + n + k * (m + 1);
    const double *const old = from + k * m, *const now = to + k * m;
    double values[most], along[most] = {};
    const auto see = [&](std::size_t e) {
      for (int j = 0; j < points; ++j) values[j] = differences[static_cast<std::size_t>(j) * stride + e];
      Differences::involution(points, values);
      for (int j = 0; j < points; ++j) values[j] += old[e];
    };
    for (std::size_t e = 0; e < m; ++e) {
      see(e);
      for (int j = 0; j < points; ++j) along[j] += values[j] * now[e];
    }
    for (std::size_t e = 0; e < m; ++e) {
      see(e);
      for (int j = 0; j < points; ++j) values[j] = values[j] / along[j] - now[e];
      Differences::involution(points, values);
      differences[e] = 0;
      for (int j = 1; j < points; ++j) differences[static_cast<std::size_t>(j) * stride + e] = values[j];
    }
    differences[m] = y[n + k * (m + 1) + m];
  });
}

AGF_CORE void Coupled::regroup(const Array<int>& fading, const Array<int>& appearing) {
  auto member = [](const Array<int>& set, std::size_t i) {
    return std::find(set.begin(), set.end(), static_cast<int>(i)) != set.end();
  };
  // Where each neuron comes from: coupled ones by number, faint ones after them.
  Array<std::size_t> to_coupled, to_faint;
  for (std::size_t i = 0; i < coupled(); ++i) (member(fading, i) ? to_faint : to_coupled).push_back(i);
  for (std::size_t j = 0; j < faint_.count(); ++j)
    (member(appearing, j) ? to_coupled : to_faint).push_back(coupled() + j);

  const std::size_t n = theta_.size(), m = m_, seen = coupled();
  Faint faint;
  faint.direction.resize(to_faint.size() * m);
  faint.log_norm.resize(to_faint.size());
  const std::size_t *const faint_from = to_faint.data(), *const coupled_from = to_coupled.data();
  const double *const theta = theta_.data(), *const u = faint_.direction.data(),
                      *const log_norm = faint_.log_norm.data();
  double *const direction = faint.direction.data(), *const size_of = faint.log_norm.data();
  each(to_faint.size(), 2 * m, [=](std::size_t k) {
    const std::size_t i = faint_from[k];
    const bool fades = i < seen;
    const double* x = fades ? theta + i * m : u + (i - seen) * m;
    const double length = fades ? norm(m, x) : 1;
    for (std::size_t e = 0; e < m; ++e) direction[k * m + e] = x[e] / length;
    size_of[k] = fades ? std::log(length) : log_norm[i - seen];
  });

  // The points of the history (or the present one alone), each neuron in its new coordinates.
  const int order = history_.order();
  const double step = history_.step();
  const std::size_t count = static_cast<std::size_t>(order) + 1, total = size();
  Array<double> before(count * total), after(count * (to_coupled.size() * m + to_faint.size() * (m + 1)));
  const std::size_t first = to_coupled.size() * m, stride = after.size() / count;
  double *const old = before.data(), *const now = after.data();
  const double *const rows = history_.row(0), *const y = y_.data();
  each(total, count, [=](std::size_t e) {
    double values[Differences::most + 1];
    for (int j = 0; j <= order; ++j) values[j] = order > 0 ? rows[static_cast<std::size_t>(j) * total + e] : y[e];
    Differences::involution(order + 1, values);
    for (int j = 0; j <= order; ++j) old[static_cast<std::size_t>(j) * total + e] = values[j];
  });
  each(count * to_coupled.size(), m, [=](std::size_t place) {
    const std::size_t p = place % count, k = place / count, i = coupled_from[k];
    const double* x = old + p * total + (i < seen ? i * m : n + (i - seen) * (m + 1));
    double* to = now + p * stride + k * m;
    if (i < seen) {
      for (std::size_t e = 0; e < m; ++e) to[e] = x[e];
    } else {
      const double length = std::exp(x[m]) / std::sqrt(1 + dot(m, x, x));
      for (std::size_t e = 0; e < m; ++e) to[e] = length * (u[(i - seen) * m + e] + x[e]);
    }
  });
  each(count * to_faint.size(), 2 * m, [=](std::size_t place) {
    const std::size_t p = place % count, k = place / count, i = faint_from[k];
    const double* x = old + p * total + (i < seen ? i * m : n + (i - seen) * (m + 1));
    double* to = now + p * stride + first + k * (m + 1);
    if (i >= seen) {
      for (std::size_t e = 0; e <= m; ++e) to[e] = x[e];
    } else {
      const double* axis = direction + k * m;
      const double along = dot(m, axis, x);
      for (std::size_t e = 0; e < m; ++e) to[e] = p == 0 ? 0.0 : x[e] / along - axis[e];
      to[m] = std::log(norm(m, x));
    }
  });

  const bool implicit = implicit_;
  const double hint = h_;
  reset(Array<double>(now, now + first), std::move(faint));
  h_ = hint;
  if (!implicit || order == 0) return;
  if (!implicit_) {
    go_implicit();
    evaluate(true);
  }
  history_.start(order, step, after);
}

}  // namespace AGF_SPACE
