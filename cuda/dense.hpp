// Dense two-layer networks on a device: f = sum_i a_i sigma(w_i x), theta_i = [w_i (d) | a_i (c)].
#pragma once

#include <cstddef>
#include <limits>
#include <type_traits>

#include "agf/containers.hpp"
#include "agf/dense_model.hpp"
#include "block/views.hpp"
#include "call.hpp"
#include "room.hpp"

#if !defined(AGF_BLOCK)
#include "block/carrier_of.hpp"
#endif

namespace AGF_SPACE::cuda {

// Data and sample-sized arrays are in T = float or double, and so are the products; losses and utilities are summed in
// double.
//
// Samples are cut in chunks whose arrays of chunk x neurons take a bounded room, and nothing as large as samples x
// neurons is stored. Cuts and the order of sums depend on the sizes alone. Const methods may be called from several
// threads at once.
template <typename T>
struct Number;

template <typename T>
class DenseCuda final : public DenseModel {
 public:
#if defined(AGF_BLOCK)
  // On data of the problem that was viewed, which outlives this one.
  AGF_CORE explicit DenseCuda(const shared::DenseView& view);
#else
  // Copies x (n, d) and y (n, c), row-major, which lie on the device or on the host.
  DenseCuda(int device, Stream stream, const T* x, std::size_t n, std::size_t d, const T* y, std::size_t c,
            bool on_host, Sigma sigma, double parameter);

  int device() const { return device_; }
  // For runs that a block carries; one in float is carried by its double twin.
  shared::DenseView view() const
    requires std::is_same_v<T, double>
  {
    return {n_, d_, c_, sigma_, parameter_, input_scale_, x_, y_};
  }
  const Carrier* carrier() const override { return carrier_of(device_); }
  Owned<Problem> reduced(Array<double>& basis) const override;
  Owned<Problem> in_double() const override;
#endif
  AGF_CORE double epsilon() const override { return std::numeric_limits<T>::epsilon() / 2; }

  AGF_CORE Owned<Signal> make_signal() const override;
  AGF_CORE double residual(const double* theta, std::size_t count, Signal& r, Shape shape = {}) const override;
  AGF_CORE void residual_derivative(const double* theta, const double* v, std::size_t count, Signal& dr,
                                    Shape shape = {}) const override;
  AGF_CORE void utility(const double* theta, std::size_t count, const Signal& r, double* value, double* gradient,
                        Shape shape = {}) const override;
  AGF_CORE void curvature_vector(const double* theta, const double* v, std::size_t count, const Signal& r,
                                 const Signal* dr, double* out, Shape shape = {}) const override;
  AGF_CORE void utility_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                                Shape shape = {}) const override;
  AGF_CORE void loss_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                             Shape shape = {}) const override;
  AGF_CORE void contribution(const double* theta, std::size_t count, double* out) const override;

#if !defined(AGF_BLOCK)
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
#endif

  // Parts of the leaves, on arrays of the device; public for the lambdas in them.
  struct Neurons {
    const T* theta;
    std::size_t count;
    const T* ramp;  // null: none
    bool leading;
  };
  AGF_CORE void forward(Stream stream, Neurons at, const T* x, std::size_t rows, T sign, const T* from, T* f) const;
  AGF_CORE void derivative(Stream stream, Neurons at, const T* v, T* dr) const;
  AGF_CORE void slopes(Stream stream, Neurons at, const T* r, T* value, T* gradient) const;
  AGF_CORE void curvature(Stream stream, Neurons at, const T* v, const T* r, const T* dr, double sign, T* out) const;
  AGF_CORE void curve_terms(Stream stream, Neurons at, const T* r, bool bent, T* ww, T* wa) const;
  AGF_CORE void own_hessians(Stream stream, Neurons at, const T* r, bool bent, T* out) const;
  AGF_CORE void whole_hessian(Stream stream, Neurons at, const T* r, bool bent, T* out) const;
  AGF_CORE void contributions(Stream stream, Neurons at, T* out) const;
  AGF_CORE double half_mean_square(Stream stream, const T* r, std::size_t rows) const;

 private:
  template <typename>
  friend class DenseCuda;

  AGF_CORE Nonlinearity nonlinearity_of(Neurons at) const { return {sigma_, parameter_, at.leading}; }
  AGF_CORE Neurons neurons(Call<T>& call, const double* theta, std::size_t count, Shape shape) const;
  AGF_CORE static const T* values(const Signal& signal);
  AGF_CORE static T* values(Signal& signal);
  // Samples to a chunk, where each takes so many numbers.
  AGF_CORE std::size_t chunk(std::size_t samples, std::size_t numbers) const;

  // The elementwise step on numbers of samples x neurons, see neurons.cuh: the first is a product.
  template <typename Loop, typename... Numbers>
  AGF_CORE void over_neurons(Stream stream, Neurons at, std::size_t rows, Loop, Numbers... these) const;
  AGF_CORE Number<T> analysed(const T* x, const T* w, T* z) const;
  AGF_CORE Number<T> projected(const T* r, const T* theta, T* g, const T* s = nullptr, const T* other = nullptr) const;
  struct Out;
  template <typename... Outs>
  AGF_CORE void readout(Stream stream, std::size_t rows, std::size_t count, double alpha, const T* from, T* f,
                        Outs... outs) const;
  struct Collected;
  AGF_CORE void collect(Stream stream, std::size_t rows, std::size_t count, double alpha, bool more, Collected of,
                        T* out) const;

  int device_ = 0;
#if !defined(AGF_BLOCK)
  // Relative rounding of the data as they were given, which may be coarser than T.
  double data_epsilon_ = static_cast<double>(std::numeric_limits<T>::epsilon());
  Held<T> own_x_, own_y_;
#endif
  const T *x_ = nullptr, *y_ = nullptr;
};

#if !defined(AGF_BLOCK)
extern template class DenseCuda<float>;
extern template class DenseCuda<double>;
#endif

}  // namespace AGF_SPACE::cuda
