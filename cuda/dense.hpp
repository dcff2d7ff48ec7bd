// Dense two-layer networks on a device: f = sum_i a_i sigma(w_i x), theta_i = [w_i (d) | a_i (c)].
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <vector>

#include "agf/dense_model.hpp"
#include "room.hpp"

namespace agf::cuda {

// Data and sample-sized arrays are in T = float or double, and so are the products; losses and utilities are summed in
// double.
//
// Samples are cut in chunks whose arrays of chunk x neurons take a bounded room, and nothing as large as samples x
// neurons is stored. Cuts and the order of sums depend on the sizes alone. Const methods may be called from several
// threads at once.
template <typename T>
class DenseCuda final : public DenseModel {
 public:
  // Copies x (n, d) and y (n, c), row-major, which lie on the device or on the host.
  DenseCuda(int device, Stream stream, const T* x, std::size_t n, std::size_t d, const T* y, std::size_t c,
            bool on_host, Sigma sigma, double parameter);

  int device() const { return device_; }
  double epsilon() const override { return std::numeric_limits<T>::epsilon() / 2; }

  std::unique_ptr<Signal> make_signal() const override;
  double residual(const double* theta, std::size_t count, Signal& r, Shape shape = {}) const override;
  void residual_derivative(const double* theta, const double* v, std::size_t count, Signal& dr,
                           Shape shape = {}) const override;
  void utility(const double* theta, std::size_t count, const Signal& r, double* value, double* gradient,
               Shape shape = {}) const override;
  void curvature_vector(const double* theta, const double* v, std::size_t count, const Signal& r, const Signal* dr,
                        double* out, Shape shape = {}) const override;
  void utility_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                       Shape shape = {}) const override;
  void loss_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                    Shape shape = {}) const override;
  void contribution(const double* theta, std::size_t count, double* out) const override;
  std::unique_ptr<Problem> reduced(std::vector<double>& basis) const override;
  std::unique_ptr<Problem> in_double() const override;

  // The leaves on arrays of the device: theta and v (count, m), r (n, c). Work is queued on the stream; a number that
  // is returned has been waited for.
  double residual(Stream stream, const T* theta, std::size_t count, T* r) const;
  double loss(Stream stream, const T* theta, std::size_t count) const;
  // r of all rows where it is null; either output may be null.
  void utility(Stream stream, const T* theta, std::size_t count, const T* r, T* value, T* gradient) const;
  // hess L v.
  void hessian_vector(Stream stream, const T* theta, const T* v, std::size_t count, T* out) const;
  // hess L, (count m) squared.
  void hessian(Stream stream, const T* theta, std::size_t count, T* out) const;
  // f at `rows` new inputs x (rows, d); f (rows, c).
  void predict(Stream stream, const T* theta, std::size_t count, const T* x, std::size_t rows, T* f) const;

  // Parts of the leaves, on arrays of the device; public for the lambdas in them.
  struct Neurons {
    const T* theta;
    std::size_t count;
    const T* ramp;  // null: none
    bool leading;
  };
  void forward(Stream stream, Neurons at, const T* x, std::size_t rows, T sign, T* f) const;
  void derivative(Stream stream, Neurons at, const T* v, T* dr) const;
  void slopes(Stream stream, Neurons at, const T* r, T* value, T* gradient) const;
  void curvature(Stream stream, Neurons at, const T* v, const T* r, const T* dr, double sign, T* out) const;
  void curve_terms(Stream stream, Neurons at, const T* r, bool bent, T* ww, T* wa) const;
  void own_hessians(Stream stream, Neurons at, const T* r, bool bent, T* out) const;
  void whole_hessian(Stream stream, Neurons at, const T* r, bool bent, T* out) const;
  void contributions(Stream stream, Neurons at, T* out) const;
  double half_mean_square(Stream stream, const T* r, std::size_t rows) const;

 private:
  template <typename>
  friend class DenseCuda;
  class Call;

  Nonlinearity nonlinearity_of(Neurons at) const { return {sigma_, parameter_, at.leading}; }
  // Samples to a chunk, where each takes so many numbers.
  std::size_t chunk(std::size_t samples, std::size_t numbers) const;
  void analyse(Stream stream, const T* x, std::size_t rows, const T* w, std::size_t count, T* z) const;
  void project(Stream stream, const T* r, std::size_t rows, const T* theta, std::size_t count, double beta, T* g) const;
  void readout(Stream stream, const T* z, std::size_t rows, const T* theta, std::size_t count, double alpha,
               T* f) const;
  void collect(Stream stream, const T* q, std::size_t rows, const T* with, std::size_t width, std::size_t count,
               double alpha, double beta, T* out) const;

  int device_;
  // Relative rounding of the data as they were given, which may be coarser than T.
  double data_epsilon_ = static_cast<double>(std::numeric_limits<T>::epsilon());
  Held<T> x_, y_;
};

extern template class DenseCuda<float>;
extern template class DenseCuda<double>;

}  // namespace agf::cuda
