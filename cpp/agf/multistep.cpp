#include "multistep.hpp"

#include <algorithm>
#include <utility>

namespace AGF_SPACE {

namespace {

AGF_TABLE double kappa[] = {0, -0.1850, -1.0 / 9, -0.0823, -0.0415, 0, 0};

AGF_CORE double alpha(int order) { return (1 - kappa[order]) * Differences::gamma(order); }

}  // namespace

AGF_CORE double Differences::shift() const { return alpha(order_) / step_; }

AGF_CORE double Differences::error_constant(int order) {
  return kappa[order] * Differences::gamma(order) + 1.0 / (order + 1);
}

AGF_CORE void Differences::involution(int count, double* values) {
  // nabla^i y_n = sum_j (-1)^j C(i, j) y_{n-j}: i rounds of neighbouring differences.
  for (int i = 1; i < count; ++i)
    for (int j = count - 1; j >= i; --j) values[j] = values[j - 1] - values[j];
}

AGF_CORE void Differences::start(int order, double step, const Array<double>& points) {
  const int count = order + 1;
  order_ = order;
  step_ = step;
  equal_ = 0;
  size_ = points.size() / static_cast<std::size_t>(count);
  rows_.resize(held * size_);
  const std::size_t size = size_;
  const double* const from = points.data();
  double* const to = rows_.data();
  each(size, held, [=](std::size_t e) {
    double values[held] = {};
    for (int j = 0; j < count; ++j) values[j] = from[static_cast<std::size_t>(j) * size + e];
    involution(count, values);
    for (std::size_t j = 0; j < held; ++j) to[j * size + e] = values[j];
  });
}

AGF_CORE void Differences::change(int order, double factor) {
  // R(q)_{ij} = prod_{l=1..i} (l - 1 - q j) / l takes the differences at spacing q h to values, and R(1) is its own
  // inverse, so D <- (R(q) R(1))^T D.
  order_ = order;
  equal_ = 0;
  step_ *= factor;
  if (factor == 1) return;
  double at_new[most + 1][most + 1], at_old[most + 1][most + 1], both[most + 1][most + 1] = {};
  for (int j = 0; j <= order; ++j) {
    at_new[0][j] = at_old[0][j] = 1;
    for (int i = 1; i <= order; ++i) {
      at_new[i][j] = at_new[i - 1][j] * (i - 1 - factor * j) / i;
      at_old[i][j] = at_old[i - 1][j] * (i - 1 - j) / i;
    }
  }
  for (int i = 0; i <= order; ++i)
    for (int j = 0; j <= order; ++j) {
      both[i][j] = 0;
      for (int l = 0; l <= order; ++l) both[i][j] += at_new[i][l] * at_old[l][j];
    }
  const std::size_t size = size_;
  double* const rows = rows_.data();
  each(size, most * most, [=](std::size_t e) {
    // The value itself stays, and has no part in the others.
    double old[most + 1];
    for (int j = 1; j <= order; ++j) old[j] = rows[static_cast<std::size_t>(j) * size + e];
    for (int j = 1; j <= order; ++j) {
      double sum = 0;
      for (int i = 1; i <= order; ++i) sum += both[i][j] * old[i];
      rows[static_cast<std::size_t>(j) * size + e] = sum;
    }
  });
}

AGF_CORE Differences::Prediction Differences::prediction() const {
  return {rows_.data(), size_, order_, 1 / alpha(order_)};
}

AGF_CORE Differences::Advance Differences::advance_from(const Differences& before) {
  size_ = before.size_;
  step_ = before.step_;
  order_ = before.order_;
  equal_ = before.equal_ + 1;
  rows_.resize(held * size_);
  return {before.rows_.data(), rows_.data(), size_, order_};
}

AGF_CORE void Differences::between(double s, const Array<double>& d, Array<double>& y) const {
  // Newton's form: y = sum_j D_j prod_{l<j} (x + l) / (l + 1), x = (t - t_{n+1}) / h, with the differences after the
  // step.
  const double x = s - 1;
  double weight[most + 1] = {1};
  for (int j = 1; j <= order_; ++j) weight[j] = weight[j - 1] * ((x + j - 1) / j);
  const int order = order_;
  const std::size_t size = size_;
  const double *rows = rows_.data(), *end = d.data();
  y.resize(size);
  double* const out = y.data();
  each(size, 3 * most, [=](std::size_t e) {
    double after[most + 1] = {}, next = end[e];
    for (int j = order; j >= 0; --j) after[j] = next += rows[static_cast<std::size_t>(j) * size + e];
    double sum = after[0];
    for (int j = 1; j <= order; ++j) sum += weight[j] * after[j];
    out[e] = sum;
  });
}

}  // namespace AGF_SPACE
