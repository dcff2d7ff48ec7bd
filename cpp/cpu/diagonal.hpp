// Diagonal networks on the CPU: f = sum_i (prod_l u_{l,i}) x_i, theta_i = [u_1 .. u_depth], one neuron per input.
#pragma once

#include <cstddef>
#include <vector>

#include "cpu/design.hpp"

namespace agf::cpu {

// Leaves on arrays of T: theta, v and gradients (d, depth) row-major, residuals (n). Sums are in double.
template <typename T>
class DiagonalCpu {
 public:
  // `columns` (d, n), not copied; y (n), copied.
  DiagonalCpu(const T* columns, const T* y, std::size_t n, std::size_t d, std::size_t depth);

  const Design& design() const { return design_; }
  const std::vector<double>& target() const { return y_; }
  std::size_t samples() const { return y_.size(); }
  std::size_t inputs() const { return design_.columns(); }
  std::size_t depth() const { return depth_; }

  // r = y - X beta; returns L = 1/2 E r^2.
  double residual(const T* theta, T* r) const;
  double loss(const T* theta) const;
  // U_i = beta_i E[x_i r] and its gradient, for this r, or for that of theta (null). Either output may be null.
  void utility(const T* theta, const T* r, T* value, T* gradient) const;
  void hessian_vector(const T* theta, const T* v, T* out) const;
  const std::vector<std::size_t>& every_input() const { return all_; }
  // f at `rows` new inputs x (rows, d) row-major.
  void predict(const T* theta, const T* x, std::size_t rows, T* f) const;

 private:
  DesignCpu<T> design_;
  std::vector<double> y_;
  std::size_t depth_;
  std::vector<std::size_t> all_;

  std::vector<double> products(const T* theta) const;
  std::vector<double> residual_of(const std::vector<double>& beta) const;
  // E[x_i r].
  std::vector<double> correlation(const std::vector<double>& r) const;
};

}  // namespace agf::cpu
