// Linear networks and linear attention on the CPU: see agf/moments_model.hpp.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "agf/moments_model.hpp"

namespace agf::cpu {

class Design;

// Const methods may be called from several threads at once; results do not depend on the number of threads.
class Moments final : public MomentsModel {
 public:
  // `target`: y, as many entries as G[P]; `least`: L_*.
  Moments(ProductLayout product, PseudoSamples samples, std::vector<double> target, double least);
  ~Moments() override;

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

  // M, (rows, columns), from a signal and back.
  void spread(const Signal& signal, double* out) const;
  void gather(const double* given, Signal& signal) const;

 private:
  void add(std::size_t count, const double* left, const double* right, std::size_t stride, double* p) const;

  std::unique_ptr<const Design> design_;
  std::vector<double> target_;
};

}  // namespace agf::cpu
