// Linear networks and linear attention on a device: see agf/moments_model.hpp.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "agf/moments_model.hpp"
#include "room.hpp"

namespace agf::cuda {

// In double. The order of sums depends on the sizes alone. Const methods may be called from several threads at once.
class MomentsCuda final : public MomentsModel {
 public:
  // `target`: y, as many entries as G[P]; `least`: L_*. All of the host.
  MomentsCuda(int device, ProductLayout product, const PseudoSamples& samples, const std::vector<double>& target,
              double least);

  int device() const { return device_; }

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

  // Parts of the leaves, on arrays of the device; public for the lambdas in them.
  struct Pairs;
  struct Images;
  struct Bend;
  void add(Stream stream, const double* left, std::size_t stride, const double* right, std::size_t count, double beta,
           double* p) const;
  void forward(Stream stream, const double* p, double alpha, double beta, double* f) const;
  void adjoint(Stream stream, const double* f, double* signal) const;
  void ahead(Stream stream, const double* signal, const double* theta, std::size_t count, double beta,
             double* out) const;
  void back(Stream stream, const double* signal, const double* theta, std::size_t count, double beta,
            double* out) const;
  void signal_of(Stream stream, const double* theta, std::size_t count, double* signal, double* loss) const;
  void derivative(Stream stream, const double* theta, const double* v, std::size_t count, double* signal) const;
  void slopes(Stream stream, const double* theta, std::size_t count, const double* signal, double* value,
              double* gradient) const;
  void curvature(Stream stream, const double* theta, const double* v, std::size_t count, const double* signal,
                 const double* change, double sign, double* out) const;
  void own_hessians(Stream stream, const double* theta, std::size_t count, const double* signal, double* out) const;
  void whole_hessian(Stream stream, const double* theta, std::size_t count, const double* signal, double* out) const;
  Images images(Room& room, Pairs pairs, std::size_t n) const;
  Bend bend(Room& room, const double* theta, std::size_t count, const double* signal) const;
  void contributions(Stream stream, const double* theta, std::size_t count, double* out) const;

 private:
  class Call;

  int device_;
  Held<double> left_, right_, target_;
};

}  // namespace agf::cuda
