// Linear networks and linear attention on a device: see agf/moments_model.hpp.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "agf/moments_model.hpp"
#include "block/views.hpp"
#include "product.hpp"
#include "room.hpp"

#if !defined(AGF_BLOCK)
#include "block/carrier_of.hpp"
#endif

namespace AGF_SPACE::cuda {

// In double. The order of sums depends on the sizes alone. Const methods may be called from several threads at once.
class MomentsCuda final : public MomentsModel {
 public:
#if defined(AGF_BLOCK)
  AGF_CORE explicit MomentsCuda(const shared::MomentsView& view);
#else
  // `target`: y, as many entries as G[P]; `least`: L_*. All of the host.
  MomentsCuda(int device, ProductLayout product, const PseudoSamples& samples, const std::vector<double>& target,
              double least);

  // What a block takes it from, while this lasts.
  shared::MomentsView view() const { return view_; }
  const Carrier* carrier() const override { return carrier_of(device_); }
  int device() const { return device_; }
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
  // The leaves on arrays of the device, T = float or double, which become double here: theta and v (count, m), and the
  // signal M (rows, columns) for r. Work is queued on the stream; a number that is returned has been waited for.
  template <typename T>
  double residual(Stream stream, const T* theta, std::size_t count, T* r) const;
  template <typename T>
  double loss(Stream stream, const T* theta, std::size_t count) const;
  // r of all rows where it is null; either output may be null.
  template <typename T>
  void utility(Stream stream, const T* theta, std::size_t count, const T* r, T* value, T* gradient) const;
  // hess L v.
  template <typename T>
  void hessian_vector(Stream stream, const T* theta, const T* v, std::size_t count, T* out) const;
  // hess L, (count m) squared.
  template <typename T>
  void hessian(Stream stream, const T* theta, std::size_t count, T* out) const;
#endif

  // Parts of the leaves, on arrays of the device; public for the lambdas in them.
  struct Pairs;
  struct Images;
  struct Bend;
  struct SignalTurns;
  struct SlopeTurns;
  AGF_CORE void add(Stream stream, const double* left, std::size_t stride, const double* right, std::size_t count,
                    double beta, double* p) const;
  AGF_CORE void forward(Stream stream, const double* p, double alpha, double beta, double* f) const;
  AGF_CORE void adjoint(Stream stream, const double* f, double* signal) const;
  AGF_CORE void ahead(Stream stream, const double* signal, const double* theta, std::size_t count, double beta,
                      double* out) const;
  AGF_CORE void back(Stream stream, const double* signal, const double* theta, std::size_t count, double beta,
                     double* out) const;
  AGF_CORE void signal_of(Stream stream, const double* theta, std::size_t count, double* signal, double* loss) const;
  AGF_CORE void derivative(Stream stream, const double* theta, const double* v, std::size_t count,
                           double* signal) const;
  AGF_CORE void slopes(Stream stream, const double* theta, std::size_t count, const double* signal, double* value,
                       double* gradient) const;
  AGF_CORE void curvature(Stream stream, const double* theta, const double* v, std::size_t count, const double* signal,
                          const double* change, double sign, double* out) const;
  AGF_CORE void own_hessians(Stream stream, const double* theta, std::size_t count, const double* signal,
                             double* out) const;
  AGF_CORE void whole_hessian(Stream stream, const double* theta, std::size_t count, const double* signal,
                              double* out) const;
  AGF_CORE Images images(Room& room, Pairs pairs, std::size_t n) const;
  AGF_CORE Bend bend(Room& room, const double* theta, std::size_t count, const double* signal) const;
  AGF_CORE void contributions(Stream stream, const double* theta, std::size_t count, double* out) const;

 private:
  AGF_CORE bool few(std::size_t count) const;
  AGF_CORE SignalTurns signal_turns(Room& room, const double* theta, const double* v, std::size_t count,
                                    double* signal) const;
  AGF_CORE SlopeTurns slope_turns(Room& room, const double* theta, const double* v, std::size_t count,
                                  const double* signal, const double* change) const;

  int device_ = 0;
  shared::MomentsView view_{};  // what the device holds
#if !defined(AGF_BLOCK)
  Held<double> left_, right_, target_;
#endif
};

}  // namespace AGF_SPACE::cuda
