#include "diagonal_neuron.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "trajectory.hpp"

namespace AGF_SPACE {

namespace {

// Gauss and Legendre on [-1, 1], 12 points: on a panel of length 1 the integrand, analytic within a distance pi / 2 of
// the real axis, is integrated to some 1e-16.
AGF_TABLE int panel_points = 6;
AGF_TABLE double panel_node[panel_points] = {0.1252334085114689, 0.3678314989981802, 0.5873179542866175,
                                             0.7699026741943047, 0.9041172563704749, 0.9815606342467192};
AGF_TABLE double panel_weight[panel_points] = {0.2491470458134028, 0.2334925365383548, 0.2031674267230659,
                                               0.1600783285433462, 0.1069393259953184, 0.0471753363865118};

// Further than this from where two terms of a sum cross, the lesser is below rounding.
AGF_TABLE double crossing_width = 20;

// ln sinh x and its inverse, x > 0.
AGF_CORE double log_sinh(double x) {
  return x > 1 ? x + std::log(-std::expm1(-2 * x)) - M_LN2 : std::log(std::sinh(x));
}
AGF_CORE double asinh_exp(double y) { return y > 20 ? y + M_LN2 + 0.25 * std::exp(-2 * y) : std::asinh(std::exp(y)); }

}  // namespace

AGF_CORE AGF_APART double log_add(double a, double b) {
  if (a < b) std::swap(a, b);
  return b == -infinity ? a : a + std::log1p(std::exp(b - a));
}

AGF_CORE AGF_APART DiagonalNeuron::DiagonalNeuron(Array<double> log_gaps, bool adaptive)
    : log_gaps_(std::move(log_gaps)), adaptive_(adaptive && log_gaps_.size() > 1) {
  std::sort(log_gaps_.begin(), log_gaps_.end());
  double log_sum = -infinity;
  for (double c : log_gaps_) log_sum = log_add(log_sum, c);
  // |theta|^2 = depth v^2 + sum c.
  free_ = log_sum >= 0;
  end_ = free_ ? infinity : position(0.5 * std::log(-std::expm1(log_sum) / depth()));
  if (depth() == 2) return;
  if (!pinned()) zones_.push_back(0);
  log_sum = -infinity;
  for (double c : log_gaps_) {
    if (c == -infinity) continue;
    zones_.push_back(position(0.5 * c));
    log_sum = log_add(log_sum, c);
  }
  if (adaptive_ && log_sum > -infinity)
    zones_.push_back(position(0.5 * (log_sum - std::log(static_cast<double>(depth())))));
}

AGF_CORE bool DiagonalNeuron::same(const Array<double>& log_gaps) const {
  return std::equal(log_gaps.begin(), log_gaps.end(), log_gaps_.begin(), log_gaps_.end());
}

AGF_CORE bool DiagonalNeuron::pinned() const { return log_gaps_[0] == -infinity; }

AGF_CORE AGF_APART double DiagonalNeuron::position(double log_v) const {
  return pinned() ? log_v : asinh_exp(log_v - 0.5 * log_gaps_[0]);
}

AGF_CORE double DiagonalNeuron::log_v(double x) const {
  if (pinned()) return x;
  return x > 0 ? 0.5 * log_gaps_[0] + log_sinh(x) : -infinity;
}

AGF_CORE AGF_APART double DiagonalNeuron::log_norm(double log_v) const {
  double square = std::log(static_cast<double>(depth())) + 2 * log_v;
  for (double c : log_gaps_) square = log_add(square, c);
  return 0.5 * square;
}

AGF_CORE AGF_APART double DiagonalNeuron::log_product(double log_v) const {
  double sum = log_v;
  for (double c : log_gaps_) sum += 0.5 * log_add(c, 2 * log_v);
  return sum;
}

AGF_CORE AGF_APART double DiagonalNeuron::log_slope(double log_v) const {
  // d beta/dv = prod_l u_l (1 + sum_l v^2 / u_l^2), dv/dx = sqrt(c + v^2).
  double sum = 0.5 * log_add(log_gaps_[0], 2 * log_v), terms = 1;
  for (double c : log_gaps_) {
    const double square = log_add(c, 2 * log_v);
    sum += 0.5 * square;
    if (log_v > -infinity) terms += std::exp(2 * log_v - square);
  }
  return sum + std::log(terms);
}

AGF_CORE AGF_APART double DiagonalNeuron::log_rate(double log_v) const {
  double sum = 0;
  for (std::size_t l = 1; l < log_gaps_.size(); ++l) sum += 0.5 * log_add(log_gaps_[l], 2 * log_v);
  return adaptive_ ? sum + (2 - depth()) * log_norm(log_v) : sum;
}

AGF_CORE AGF_APART double DiagonalNeuron::log_rate_slope(double log_v) const {
  // d v/dx = sqrt(c + v^2), whether c = 0 or not.
  const double log_step = log_v + 0.5 * log_add(log_gaps_[0], 2 * log_v);
  double sum = 0;
  for (std::size_t l = 1; l < log_gaps_.size(); ++l) sum += std::exp(log_step - log_add(log_gaps_[l], 2 * log_v));
  return adaptive_ ? sum + (2 - depth()) * depth() * std::exp(log_step - 2 * log_norm(log_v)) : sum;
}

AGF_CORE AGF_APART double DiagonalNeuron::log_v_of_product(double log_product_wanted) const {
  // The slope in ln v lies between 1 and the depth and grows: from the right Newton's iterates fall to the root, and
  // both bounds lie right of it, since c + v^2 >= v^2 and >= c.
  if (log_product_wanted == -infinity) return -infinity;
  double y = log_product_wanted;
  for (double c : log_gaps_) y -= 0.5 * c;
  y = std::min(y, log_product_wanted / depth());
  for (int iteration = 0; iteration < 200; ++iteration) {
    double slope = 1;
    for (double c : log_gaps_) slope += std::exp(2 * y - log_add(c, 2 * y));
    const double step = (log_product(y) - log_product_wanted) / slope;
    y -= step;
    if (std::abs(step) <= 4 * std::numeric_limits<double>::epsilon() * std::abs(y)) break;
  }
  return y;
}

AGF_CORE double DiagonalNeuron::log_integrand(double x) const { return -log_rate(log_v(x)); }

// Between the places where terms of a sum cross, the integrand is a pure exponential of x. Returns the end of the panel
// that begins at `left`, `to` at most.
AGF_CORE double DiagonalNeuron::knot(double left, double to) const {
  double next = to;
  for (double center : zones_) {
    double k = std::max(std::floor(left - center), -crossing_width);
    while (k <= crossing_width && !(center + k > left)) k += 1;
    if (k <= crossing_width && center + k < next) next = center + k;
  }
  return next;
}

AGF_CORE AGF_APART double DiagonalNeuron::travel(double from, double to, double log_unit) const {
  if (depth() == 2) return (to - from) * std::exp(-log_unit);
  double sum = 0;
  for (double left = from; left < to;) {
    const double right = knot(left, to), length = right - left, start = std::exchange(left, right);
    if (length > 1.5) {
      const double low = log_integrand(start) - log_unit, rise = log_integrand(right) - log_unit - low;
      const double mean = std::abs(rise) < 1e-9 ? 1 + 0.5 * rise : std::expm1(rise) / rise;
      sum += length * std::exp(low) * mean;
      continue;
    }
    const double middle = 0.5 * (start + right);
    double panel = 0;
    for (int i = 0; i < panel_points; ++i)
      panel += panel_weight[i] * (std::exp(log_integrand(middle - 0.5 * length * panel_node[i]) - log_unit) +
                                  std::exp(log_integrand(middle + 0.5 * length * panel_node[i]) - log_unit));
    sum += 0.5 * length * panel;
  }
  return sum;
}

AGF_CORE double DiagonalNeuron::log_travel(double from, double to) const {
  const double unit = std::max(log_integrand(from), log_integrand(to));
  return unit + std::log(travel(from, to, unit));
}

AGF_CORE AGF_APART double DiagonalNeuron::arrival(double travelled, double log_unit) const {
  if (depth() == 2) return pinned() ? end_ - travelled * std::exp(log_unit) : travelled * std::exp(log_unit);
  // Newton within a bracket, each integral from the last iterate on.
  double low = 0, high = end_;
  if (pinned()) {
    for (double back = 1; travel(low = end_ - back, end_, log_unit) < travelled && back < 1e300;) back *= 2;
  }
  double x = pinned() ? end_ : 0, at = 0;
  for (int iteration = 0; iteration < 200; ++iteration) {
    const double missing = pinned() ? at - travelled : travelled - at;
    (missing > 0 ? low : high) = x;
    double next = x + missing * std::exp(log_unit - log_integrand(x));
    if (!(next > low && next < high)) next = 0.5 * (low + high);
    if (std::abs(next - x) <= 1e-15 * std::abs(x) || next == low || next == high) return next;
    const double part = next > x ? travel(x, next, log_unit) : -travel(next, x, log_unit);
    at += pinned() ? -part : part;
    x = next;
  }
  return x;
}

}  // namespace AGF_SPACE
