#include "diagonal_field.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "linear.hpp"

namespace agf {

DiagonalField::DiagonalField(const Design& design, const double* y, Backend& backend, const DiagonalNetwork& network,
                             double log_unit)
    : design_(design),
      y_(y),
      backend_(backend),
      network_(network),
      unit_(std::exp(-log_unit)),
      residual_(design.rows()),
      gradient_(design.columns()),
      image_(design.rows()),
      pulled_(design.columns()),
      column_(design.rows()) {}

double DiagonalField::log_v(std::size_t i, double x) const {
  return side_[i] ? x : network_.neuron(i).log_v(std::abs(x));
}

void DiagonalField::set_felt(const std::vector<std::size_t>& felt, const std::vector<signed char>& side) {
  side_ = side;
  const std::size_t k = felt.size();
  const double n = static_cast<double>(design_.rows());
  // Those of a larger group are forgotten, and made again when it has become small.
  const bool small = k <= design_.rows();
  if (gram_.empty()) felt_.clear();
  std::vector<double> gram(small ? k * k : 0), row(k);
  for (std::size_t a = 0; small && a < k; ++a) {
    // Known ones are copied.
    const auto old = std::lower_bound(felt_.begin(), felt_.end(), felt[a]);
    const bool known = old != felt_.end() && *old == felt[a];
    if (!known) {
      design_.column(felt[a], column_.data());
      design_.correlate(felt, column_.data(), row.data());
    }
    for (std::size_t b = 0; b < k; ++b) {
      if (known) {
        const auto other = std::lower_bound(felt_.begin(), felt_.end(), felt[b]);
        if (other == felt_.end() || *other != felt[b]) continue;
        gram[a * k + b] = gram_[static_cast<std::size_t>(old - felt_.begin()) * felt_.size() +
                                static_cast<std::size_t>(other - felt_.begin())];
      } else {
        gram[a * k + b] = gram[b * k + a] = row[b] / n;
      }
    }
  }
  gram_ = std::move(gram);
  felt_ = felt;
  for (auto* values : {&beta_, &rate_, &slope_, &push_, &pull_, &root_, &scale_}) values->resize(k);
}

void DiagonalField::evaluate(const double* y) {
  ++evaluations_;
  for (std::size_t a = 0; a < felt_.size(); ++a) {
    const std::size_t i = felt_[a];
    const DiagonalNeuron& neuron = network_.neuron(i);
    const double v = log_v(i, y[i]);
    beta_[a] = -sign(i, y[i]) * std::exp(neuron.log_product(v));
    rate_[a] = std::exp(neuron.log_rate(v));
  }
  residual_.assign(y_, y_ + design_.rows());
  design_.combine(felt_, beta_.data(), residual_.data());
  design_.correlate(residual_.data(), gradient_.data());
  for (double& g : gradient_) g /= static_cast<double>(design_.rows());
}

void DiagonalField::rhs(const std::vector<int>&, const double* y, double* f) {
  evaluate(y);
  rates(f);
}

void DiagonalField::rates(double* f) const {
  for (std::size_t i = 0; i < size(); ++i) f[i] = gradient_[i] * unit_;
  for (std::size_t a = 0; a < felt_.size(); ++a) {
    const std::size_t i = felt_[a];
    f[i] = gradient_[i] * rate_[a] * (side_[i] < 0 ? -1 : 1);
  }
}

void DiagonalField::look(const double* y) {
  evaluate(y);
  loss_ = 0.5 * dot(design_.rows(), residual_.data(), residual_.data()) / static_cast<double>(design_.rows());
  for (std::size_t a = 0; a < felt_.size(); ++a) {
    const std::size_t i = felt_[a];
    const DiagonalNeuron& neuron = network_.neuron(i);
    const double v = log_v(i, y[i]);
    // ln v grows with |beta|.
    slope_[a] = std::exp(neuron.log_slope(v)) * (side_[i] < 0 ? -1 : 1);
    scale_[a] = std::copysign(std::sqrt(std::abs(slope_[a]) / rate_[a]), slope_[a]);
    root_[a] = std::sqrt(std::abs(slope_[a]) * rate_[a]);
    push_[a] = gradient_[i] * rate_[a] * neuron.log_rate_slope(v) * sign(i, y[i]);
  }
}

bool DiagonalField::factorise(double shift) {
  ++factorisations_;
  shift_ = shift;
  const std::size_t k = felt_.size();
  if (by_samples()) return factorise_by_samples();
  factor_.resize(k * k);
  for (std::size_t a = 0; a < k; ++a) {
    for (std::size_t b = 0; b <= a; ++b) factor_[a * k + b] = root_[a] * gram_[a * k + b] * root_[b];
    factor_[a * k + a] += shift - push_[a];
  }
  return k == 0 || backend_.cholesky(k, factor_.data());
}

// The inverse of D + W X^T X W / n, D = shift - push, through the n x n matrix n + X W D^-1 W X^T (Woodbury).
bool DiagonalField::factorise_by_samples() {
  const std::size_t n = design_.rows();
  for (double p : push_)
    if (!(shift_ - p > 0)) return false;
  factor_.assign(n * n, 0.0);
  for (std::size_t a = 0; a < felt_.size(); ++a) pull_[a] = root_[a] * root_[a] / (shift_ - push_[a]);
  design_.outer(felt_, pull_.data(), factor_.data());
  for (std::size_t e = 0; e < n; ++e) factor_[e * n + e] += static_cast<double>(n);
  return backend_.cholesky(n, factor_.data());
}

void DiagonalField::solve_by_samples(double* x) {
  const std::size_t k = felt_.size();
  for (std::size_t a = 0; a < k; ++a) pull_[a] = root_[a] * (x[a] /= shift_ - push_[a]);
  std::fill(image_.begin(), image_.end(), 0.0);
  design_.combine(felt_, pull_.data(), image_.data());
  backend_.cholesky_solve(design_.rows(), factor_.data(), image_.data(), 1);
  design_.correlate(felt_, image_.data(), pull_.data());
  for (std::size_t a = 0; a < k; ++a) x[a] -= root_[a] / (shift_ - push_[a]) * pull_[a];
}

bool DiagonalField::solve(const std::vector<int>&, double* x) {
  const std::size_t k = felt_.size();
  std::vector<double> felt(k);
  if (k > 0) {
    for (std::size_t a = 0; a < k; ++a) felt[a] = x[felt_[a]] * scale_[a];
    if (by_samples())
      solve_by_samples(felt.data());
    else
      backend_.cholesky_solve(k, factor_.data(), felt.data(), 1);
    for (std::size_t a = 0; a < k; ++a) felt[a] /= scale_[a];
  }
  if (k < size()) {
    for (std::size_t a = 0; a < k; ++a) pull_[a] = -slope_[a] * felt[a];
    std::fill(image_.begin(), image_.end(), 0.0);
    design_.combine(felt_, pull_.data(), image_.data());
    design_.correlate(image_.data(), pulled_.data());
    const double n = static_cast<double>(design_.rows());
    for (std::size_t i = 0; i < size(); ++i) x[i] = (x[i] + unit_ * pulled_[i] / n) / shift_;
  }
  for (std::size_t a = 0; a < k; ++a) x[felt_[a]] = felt[a];
  return true;
}

double DiagonalField::way_to_rest(std::vector<double>& change) {
  const std::size_t k = felt_.size();
  change.assign(k, 0.0);
  if (k == 0) return 0;
  if (by_samples()) return std::numeric_limits<double>::infinity();
  double trace = 0;
  for (std::size_t a = 0; a < k; ++a) trace += root_[a] * root_[a] * gram_[a * k + a];
  // Dependent columns leave directions along which nothing moves: a trace of a shift keeps them still.
  if (!factorise(1e-13 * trace)) return std::numeric_limits<double>::infinity();
  for (std::size_t a = 0; a < k; ++a) change[a] = gradient_[felt_[a]] * rate_[a] * std::abs(scale_[a]);
  backend_.cholesky_solve(k, factor_.data(), change.data(), 1);
  double most = 0;
  for (std::size_t a = 0; a < k; ++a) most = std::max(most, std::abs(change[a] /= scale_[a]));
  return most;
}

}  // namespace agf
