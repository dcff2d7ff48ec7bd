#include "multistep.hpp"

#include <algorithm>
#include <utility>

namespace agf {

namespace {

constexpr double kappa[] = {0, -0.1850, -1.0 / 9, -0.0823, -0.0415, 0, 0};
constexpr double gamma[] = {0, 1, 3.0 / 2, 11.0 / 6, 25.0 / 12, 137.0 / 60, 147.0 / 60};

double alpha(int order) { return (1 - kappa[order]) * gamma[order]; }

}  // namespace

double Differences::shift() const { return alpha(order_) / step_; }

double Differences::error_constant(int order) { return kappa[order] * gamma[order] + 1.0 / (order + 1); }

void Differences::involution(int count, double* values) {
  // nabla^i y_n = sum_j (-1)^j C(i, j) y_{n-j}: i rounds of neighbouring differences.
  for (int i = 1; i < count; ++i)
    for (int j = count - 1; j >= i; --j) values[j] = values[j - 1] - values[j];
}

void Differences::start(int order, double step, const std::vector<std::vector<double>>& points) {
  order_ = order;
  step_ = step;
  equal_ = 0;
  const std::size_t size = points[0].size();
  for (auto& row : rows_) row.assign(size, 0.0);
  double values[most + 1];
  for (std::size_t e = 0; e < size; ++e) {
    for (int j = 0; j <= order; ++j) values[j] = points[static_cast<std::size_t>(j)][e];
    involution(order + 1, values);
    for (int j = 0; j <= order; ++j) rows_[j][e] = values[j];
  }
}

void Differences::change(int order, double factor) {
  // R(q)_{ij} = prod_{l=1..i} (l - 1 - q j) / l takes the differences at spacing q h to values, and R(1) is its own
  // inverse, so D <- (R(q) R(1))^T D.
  order_ = order;
  equal_ = 0;
  step_ *= factor;
  if (factor == 1) return;
  double at_new[most + 1][most + 1], at_old[most + 1][most + 1], both[most + 1][most + 1];
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
  double old[most + 1];
  for (std::size_t e = 0; e < size(); ++e) {
    for (int j = 0; j <= order; ++j) old[j] = rows_[j][e];
    for (int j = 0; j <= order; ++j) {
      double sum = 0;
      for (int i = 0; i <= order; ++i) sum += both[i][j] * old[i];
      rows_[j][e] = sum;
    }
  }
}

void Differences::predict(std::vector<double>& predicted, std::vector<double>& psi) const {
  predicted = rows_[0];
  psi.assign(size(), 0.0);
  for (int j = 1; j <= order_; ++j)
    for (std::size_t e = 0; e < size(); ++e) {
      predicted[e] += rows_[j][e];
      psi[e] += gamma[j] * rows_[j][e];
    }
  const double scale = 1 / alpha(order_);
  for (double& x : psi) x *= scale;
}

void Differences::accept(const std::vector<double>& d) {
  ++equal_;
  for (std::size_t e = 0; e < size(); ++e) {
    rows_[order_ + 2][e] = d[e] - rows_[order_ + 1][e];
    rows_[order_ + 1][e] = d[e];
    for (int j = order_; j >= 0; --j) rows_[j][e] += rows_[j + 1][e];
  }
}

void Differences::at(double s, std::vector<double>& y) const {
  // Newton's form: y = sum_j D_j prod_{l<j} (x + l) / (l + 1), x = (t - t_n) / h.
  const double x = s - 1;
  y = rows_[0];
  double weight = 1;
  for (int j = 1; j <= order_; ++j) {
    weight *= (x + j - 1) / j;
    for (std::size_t e = 0; e < size(); ++e) y[e] += weight * rows_[j][e];
  }
}

}  // namespace agf
