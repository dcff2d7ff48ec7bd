// Modular addition on a device.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "agf/modular_model.hpp"
#include "block/views.hpp"
#include "room.hpp"

#if !defined(AGF_BLOCK)
#include "block/carrier_of.hpp"
#endif

namespace AGF_SPACE::cuda {

// Everything is in double, as on the CPU; arrays of float from outside are converted on the device.
//
// Neurons, pairs of neurons and shifts are cut in chunks whose arrays take a bounded room. Cuts and the order of sums
// depend on the sizes alone. Const methods may be called from several threads at once.
class ModularCuda final : public ModularModel {
 public:
#if defined(AGF_BLOCK)
  AGF_CORE explicit ModularCuda(const shared::ModularView& view);
#else
  // x (p), p >= 2, and those of its frequencies, 1 to p/2, that are more than rounding; the others take no part. All on
  // the host.
  ModularCuda(int device, const double* x, std::size_t p, const std::vector<std::size_t>& frequencies);

  // What a block takes it from, while this lasts.
  shared::ModularView view() const { return view_; }
  const Carrier* carrier() const override { return carrier_of(device_); }
  int device() const { return device_; }
  std::unique_ptr<Problem> reduced(std::vector<double>& basis) const override;
  std::unique_ptr<Problem> in_double() const override { return nullptr; }
#endif

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
  // The leaves on arrays of the device, T = float or double: theta and v (count, m), residuals on the pairs (p^2, p)
  // with row a p + b. Work is queued on the stream; a number that is returned has been waited for.
  template <typename T>
  void residual(Stream stream, const T* theta, std::size_t count, T* pairs) const;
  template <typename T>
  double loss(Stream stream, const T* theta, std::size_t count) const;
  // The residual of all rows where `pairs` is null; either output may be null.
  template <typename T>
  void utility(Stream stream, const T* theta, std::size_t count, const T* pairs, T* value, T* gradient) const;
  // hess L v.
  template <typename T>
  void hessian_vector(Stream stream, const T* theta, const T* v, std::size_t count, T* out) const;
  // hess L, (count m) squared.
  template <typename T>
  void hessian(Stream stream, const T* theta, std::size_t count, T* out) const;
  // Components to the pairs and back, as ModularCpu does it.
  template <typename T>
  void spread(Stream stream, const double* r, T* pairs) const;
  template <typename T>
  void gather(Stream stream, const T* pairs, double* r) const;
#endif

  // Parts of the leaves, on arrays of the device, residuals in their components; public for the lambdas in them.

  // Of `count` neurons: A_s and then B_s (2, count, K), A(a) and then B(b) (2, count, p).
  struct Analysis {
    std::size_t count;
    double *modes, *values;
  };
  struct Form;
  struct Turns;
  struct ForwardTurns;
  struct BackwardTurns;
  struct Pulled;
  AGF_CORE Form form() const;
  AGF_CORE Analysis analyse(Room& room, const double* theta, std::size_t count) const;
  AGF_CORE void features(Stream stream, Analysis at, Analysis along, double factor, double* out) const;
  AGF_CORE void add_means(Stream stream, Analysis at, Analysis along, double factor, double* out) const;
  AGF_CORE void pull(Stream stream, Analysis at, const double* weight, double beta, double* slopes) const;
  AGF_CORE void outward(Stream stream, const double* slopes, std::size_t count, double sign, double* out) const;
  AGF_CORE void forward(Stream stream, const double* theta, std::size_t count, double* r) const;
  AGF_CORE double forward_loss(Stream stream, const double* theta, std::size_t count, double* r) const;
  AGF_CORE void derivative(Stream stream, const double* theta, const double* v, std::size_t count, double* dr) const;
  AGF_CORE void slopes(Stream stream, const double* theta, std::size_t count, const double* r, double* value,
                       double* gradient) const;
  AGF_CORE void curvature(Stream stream, const double* theta, const double* v, std::size_t count, const double* r,
                          const double* dr, double sign, double* out) const;
  AGF_CORE void own_curvatures(Stream stream, const double* theta, std::size_t count, const double* r,
                               double* out) const;
  AGF_CORE void outward_blocks(Stream stream, const double* hessians, std::size_t number, double* out) const;
  AGF_CORE void own_hessians(Stream stream, const double* theta, std::size_t count, const double* r, double* out) const;
  AGF_CORE void whole_hessian(Stream stream, const double* theta, std::size_t count, const double* r,
                              double* out) const;
  AGF_CORE void contributions(Stream stream, const double* theta, std::size_t count, double* out) const;

 private:
  AGF_CORE std::size_t neurons_at_once(std::size_t count) const;
  AGF_CORE bool few(std::size_t count) const;
  AGF_CORE Turns turns(Room& room, const double* theta, const double* v, std::size_t count, std::size_t numbers,
                       double*& rest) const;
  AGF_CORE ForwardTurns forward_turns(Room& room, const double* theta, const double* v, std::size_t count,
                                      double* r) const;
  AGF_CORE void backward_in_turn(Stream stream, const double* theta, const double* v, std::size_t count,
                                 const double* r, const double* dr, double sign, double* value, double* gradient) const;
  AGF_CORE void project(Stream stream, const double* w, std::size_t count, const double* r, double beta,
                        double* out) const;
  AGF_CORE void subtract(Stream stream, const double* outputs, const double* w, std::size_t count, double* r) const;
  AGF_CORE void collect(Stream stream, const double* features, std::size_t count, const double* r, double alpha,
                        double beta, double* out) const;

  int device_ = 0;
  shared::ModularView view_{};  // what the device holds
#if !defined(AGF_BLOCK)
  // Shared with the compact form.
  struct Constants {
    Held<double> gain, waves, target, map;
  };
  std::shared_ptr<const Constants> constants_;
#endif
};

#if !defined(AGF_BLOCK)
#define AGF_MODULAR_LEAVES(prefix, T)                                                                     \
  prefix template void ModularCuda::residual<T>(Stream, const T*, std::size_t, T*) const;                 \
  prefix template double ModularCuda::loss<T>(Stream, const T*, std::size_t) const;                       \
  prefix template void ModularCuda::utility<T>(Stream, const T*, std::size_t, const T*, T*, T*) const;    \
  prefix template void ModularCuda::hessian_vector<T>(Stream, const T*, const T*, std::size_t, T*) const; \
  prefix template void ModularCuda::hessian<T>(Stream, const T*, std::size_t, T*) const;
AGF_MODULAR_LEAVES(extern, float)
AGF_MODULAR_LEAVES(extern, double)
#endif

}  // namespace AGF_SPACE::cuda
