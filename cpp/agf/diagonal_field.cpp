#include "diagonal_field.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "entries.hpp"
#include "linear.hpp"

namespace AGF_SPACE {

AGF_CORE DiagonalField::DiagonalField(const Design& design, const double* y, Backend& backend,
                                      const DiagonalNetwork& network, double log_unit)
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

AGF_CORE double DiagonalField::log_v(std::size_t i, double x) const {
  return side_[i] ? x : network_.neuron(i).log_v(std::abs(x));
}

AGF_CORE void DiagonalField::set_felt(const Array<std::size_t>& felt, const Array<signed char>& side) {
  side_ = side;
  const std::size_t k = felt.size();
  const double n = static_cast<double>(design_.rows());
  // Those of a larger group are forgotten, and made again when it has become small.
  const bool small = k <= design_.rows();
  if (gram_.empty()) felt_.clear();
  Array<double> gram(small ? k * k : 0), row(k);
  // Known ones are copied: where each was before.
  Array<std::size_t> places(k);
  std::size_t* const place = places.data();
  const std::size_t *const wanted = felt.data(), *const known = felt_.data(), before = felt_.size();
  each(k, [=](std::size_t a) {
    const auto* const at = std::lower_bound(known, known + before, wanted[a]);
    place[a] = at != known + before && *at == wanted[a] ? static_cast<std::size_t>(at - known) : before;
  });
  double* const to = gram.data();
  const double *const from = gram_.data(), *const products = row.data();
  each_entry(small ? k : 0, k, [=](std::size_t a, std::size_t b) {
    if (place[a] < before && place[b] < before) to[a * k + b] = from[place[a] * before + place[b]];
  });
  for (std::size_t a = 0; small && a < k; ++a) {
    if (place[a] < before) continue;
    design_.column(felt[a], column_.data());
    design_.correlate(felt, column_.data(), row.data());
    each(k, [=](std::size_t b) { to[a * k + b] = to[b * k + a] = products[b] / n; });
  }
  gram_ = std::move(gram);
  felt_ = felt;
  for (auto* values : {&beta_, &rate_, &slope_, &push_, &pull_, &root_, &scale_, &own_}) values->resize(k);
}

AGF_CORE void DiagonalField::evaluate(const double* y) {
  ++evaluations_;
  each_task(felt_.size(), [=, this](std::size_t a) {
    const std::size_t i = felt_[a];
    const DiagonalNeuron& neuron = network_.neuron(i);
    const double v = log_v(i, y[i]);
    beta_[a] = -sign(i, y[i]) * std::exp(neuron.log_product(v));
    rate_[a] = std::exp(neuron.log_rate(v));
  });
  residual_.assign(y_, y_ + design_.rows());
  design_.combine(felt_, beta_.data(), residual_.data());
  design_.correlate(residual_.data(), gradient_.data());
  const double n = static_cast<double>(design_.rows());
  double* const gradient = gradient_.data();
  each(gradient_.size(), [=](std::size_t i) { gradient[i] /= n; });
}

AGF_CORE void DiagonalField::rhs(const Array<int>&, const double* y, double* f) {
  evaluate(y);
  rates(f);
}

AGF_CORE void DiagonalField::rates(double* f) const {
  const std::size_t* const felt = felt_.data();
  const signed char* const side = side_.data();
  const double *const gradient = gradient_.data(), *const rate = rate_.data(), unit = unit_;
  if (felt_.size() < size()) each(size(), [=](std::size_t i) { f[i] = gradient[i] * unit; });
  each(felt_.size(), [=](std::size_t a) {
    const std::size_t i = felt[a];
    f[i] = gradient[i] * rate[a] * (side[i] < 0 ? -1 : 1);
  });
}

AGF_CORE void DiagonalField::look(const double* y) {
  evaluate(y);
  loss_ = 0.5 * long_dot(design_.rows(), residual_.data(), residual_.data()) / static_cast<double>(design_.rows());
  each_task(felt_.size(), [=, this](std::size_t a) {
    const std::size_t i = felt_[a];
    const DiagonalNeuron& neuron = network_.neuron(i);
    const double v = log_v(i, y[i]);
    // ln v grows with |beta|.
    slope_[a] = std::exp(neuron.log_slope(v)) * (side_[i] < 0 ? -1 : 1);
    scale_[a] = std::copysign(std::sqrt(std::abs(slope_[a]) / rate_[a]), slope_[a]);
    root_[a] = std::sqrt(std::abs(slope_[a]) * rate_[a]);
    push_[a] = gradient_[i] * rate_[a] * neuron.log_rate_slope(v) * sign(i, y[i]);
  });
}

AGF_CORE bool DiagonalField::factorise(double shift) {
  ++factorisations_;
  shift_ = shift;
  const std::size_t k = felt_.size();
  if (by_samples()) return factorise_by_samples();
  factor_.resize(k * k);
  const double *const gram = gram_.data(), *const root = root_.data(), *const push = push_.data();
  double* const factor = factor_.data();
  each_below(k, [=](std::size_t a, std::size_t b) {
    const double entry = root[a] * gram[a * k + b] * root[b];
    factor[a * k + b] = a == b ? entry + (shift - push[a]) : entry;
  });
  return k == 0 || backend_.cholesky(k, factor_.data());
}

// The inverse of D + W X^T X W / n, D = shift - push, through the n x n matrix n + X W D^-1 W X^T (Woodbury).
AGF_CORE bool DiagonalField::factorise_by_samples() {
  const std::size_t n = design_.rows();
  const double *const push = push_.data(), *const root = root_.data(), shift = shift_;
  double* const pull = pull_.data();
  if (!every(push_.size(), [=](std::size_t a) { return shift - push[a] > 0; })) return false;
  factor_.assign(n * n, 0.0);
  each(felt_.size(), [=](std::size_t a) { pull[a] = root[a] * root[a] / (shift - push[a]); });
  design_.outer(felt_, pull, factor_.data());
  double* const factor = factor_.data();
  each(n, [=](std::size_t e) { factor[e * n + e] += static_cast<double>(n); });
  return backend_.cholesky(n, factor_.data());
}

AGF_CORE void DiagonalField::solve_by_samples(double* x) {
  const std::size_t k = felt_.size();
  const double *const push = push_.data(), *const root = root_.data(), shift = shift_;
  double *const pull = pull_.data(), *const image = image_.data();
  each(k, [=](std::size_t a) { pull[a] = root[a] * (x[a] /= shift - push[a]); });
  each(image_.size(), [=](std::size_t e) { image[e] = 0; });
  design_.combine(felt_, pull, image);
  backend_.cholesky_solve(design_.rows(), factor_.data(), image, 1);
  design_.correlate(felt_, image, pull);
  each(k, [=](std::size_t a) { x[a] -= root[a] / (shift - push[a]) * pull[a]; });
}

AGF_CORE bool DiagonalField::solve(const Array<int>&, double* x) {
  const std::size_t k = felt_.size();
  double *const of_felt = own_.data(), *const pull = pull_.data(), *const image = image_.data();
  const std::size_t* const felt = felt_.data();
  const double *const scale = scale_.data(), *const slope = slope_.data(), *const pulled = pulled_.data();
  if (k > 0) {
    each(k, [=](std::size_t a) { of_felt[a] = x[felt[a]] * scale[a]; });
    if (by_samples())
      solve_by_samples(of_felt);
    else
      backend_.cholesky_solve(k, factor_.data(), of_felt, 1);
  }
  if (k < size()) {
    each(k, [=](std::size_t a) { pull[a] = -slope[a] * (of_felt[a] / scale[a]); });
    each(image_.size(), [=](std::size_t e) { image[e] = 0; });
    design_.combine(felt_, pull, image);
    design_.correlate(image, pulled_.data());
    const double n = static_cast<double>(design_.rows()), unit = unit_, shift = shift_;
    each(size(), [=](std::size_t i) { x[i] = (x[i] + unit * pulled[i] / n) / shift; });
  }
  each(k, [=](std::size_t a) { x[felt[a]] = of_felt[a] / scale[a]; });
  return true;
}

AGF_CORE double DiagonalField::way_to_rest(Array<double>& change) {
  const std::size_t k = felt_.size();
  change.assign(k, 0.0);
  if (k == 0) return 0;
  if (by_samples()) return infinity;
  const double *const root = root_.data(), *const gram = gram_.data();
  const double trace = total(k, [=](std::size_t a) { return root[a] * root[a] * gram[a * k + a]; });
  // Dependent columns leave directions along which nothing moves: a trace of a shift keeps them still.
  if (!factorise(1e-13 * trace)) return infinity;
  const std::size_t* const felt = felt_.data();
  const double *const gradient = gradient_.data(), *const rate = rate_.data(), *const scale = scale_.data();
  double* const by = change.data();
  each(k, [=](std::size_t a) { by[a] = gradient[felt[a]] * rate[a] * std::abs(scale[a]); });
  backend_.cholesky_solve(k, factor_.data(), by, 1);
  each(k, [=](std::size_t a) { by[a] /= scale[a]; });
  return largest(k, [=](std::size_t a) { return std::abs(by[a]); });
}

}  // namespace AGF_SPACE
