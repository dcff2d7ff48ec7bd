// Diagonal networks on a device: f = sum_i (prod_l u_{l,i}) x_i, theta_i = [u_1 .. u_depth], one neuron per input.
#pragma once

#include <cstddef>
#include <vector>

#include "design.hpp"
#include "room.hpp"

namespace agf::cuda {

// Leaves on arrays of T on the device: theta, v and gradients (d, depth) row-major, residuals (n). Sums are in double.
// Work is queued on the stream; a number that is returned has been waited for. Const methods may be called from several
// threads at once.
template <typename T>
class DiagonalCuda {
 public:
  // `columns` (d, n): see DesignCuda. y (n), on the device, is copied.
  DiagonalCuda(int device, Stream stream, const T* columns, const T* y, std::size_t n, std::size_t d, std::size_t depth,
               bool columns_on_host);

  int device() const { return design_.device(); }
  const Design& design() const { return design_; }
  const std::vector<double>& target() const { return target_; }
  std::size_t samples() const { return target_.size(); }
  std::size_t inputs() const { return design_.columns(); }
  std::size_t depth() const { return depth_; }

  // r = y - X beta; returns L = 1/2 E r^2.
  double residual(Stream stream, const T* theta, T* r) const;
  double loss(Stream stream, const T* theta) const;
  // U_i = beta_i E[x_i r] and its gradient, for this r, or for that of theta (null). Either output may be null.
  void utility(Stream stream, const T* theta, const T* r, T* value, T* gradient) const;
  void hessian_vector(Stream stream, const T* theta, const T* v, T* out) const;
  // f at `rows` new inputs x (rows, d) row-major.
  void predict(Stream stream, const T* theta, const T* x, std::size_t rows, T* f) const;

  // Parts of the leaves; public for the lambdas in them.
  void residual_of(Stream stream, const T* theta, double* r) const;
  void correlation(Stream stream, const double* r, double* g) const;
  double half_mean_square(Stream stream, const double* r) const;

 private:
  DesignCuda<T> design_;
  std::vector<double> target_;
  Held<double> y_;
  std::size_t depth_;
};

extern template class DiagonalCuda<float>;
extern template class DiagonalCuda<double>;

}  // namespace agf::cuda
