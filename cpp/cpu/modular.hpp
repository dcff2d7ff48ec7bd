// Modular addition on the CPU.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "agf/modular_model.hpp"

namespace agf::cpu {

class Scratch;

// Const methods may be called from several threads at once.
class ModularCpu final : public ModularModel {
 public:
  // x (p), p >= 2, and those of its frequencies, 1 to p/2, that are more than rounding; the others take no part.
  ModularCpu(const double* x, std::size_t p, const std::vector<std::size_t>& frequencies)
      : ModularModel(x, p, frequencies) {}

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
  std::unique_ptr<Problem> in_double() const override { return nullptr; }

  // A residual on the pairs, (p^2, p) with row a p + b, from its components and back. Components that no neuron meets
  // are left out on the way in.
  void spread(const Signal& r, double* pairs) const;
  void gather(const double* pairs, Signal& r) const;

 private:
  // Of `count` neurons: A_s and B_s (count, K), A(a) and B(b) (count, p).
  struct Analysis {
    std::size_t count;
    double *a_mode, *b_mode, *a, *b;
  };

  std::size_t block() const;
  Analysis analyse(Scratch& scratch, const double* theta, std::size_t count) const;
  void features(const Analysis& at, double* out) const;
  void features_along(const Analysis& at, const Analysis& along, double* out) const;
  void add_means(const Analysis& at, const Analysis& along, double factor, double* out) const;
  void subtract(double* r, const double* features, const double* w, std::size_t count) const;
  void project(const double* w, std::size_t count, const double* r, double* out) const;
  void pull(const Analysis& at, const double* weight, double beta, double* a_out, double* b_out) const;
  void outward(double* a_slope, double* b_slope, std::size_t count, double* out) const;
  void curvature(const Analysis& at, const double* weight, const double* r, double* out) const;
  void coupling(const Analysis& left, const Analysis& right, const double* w_left, const double* w_right,
                double* out) const;
  void weigh(const double* weight, double* out, std::size_t stride) const;
  void outward_block(double* hessian, double* out, std::size_t stride) const;
};

}  // namespace agf::cpu
