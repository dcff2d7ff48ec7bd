// Modular addition with a quadratic network on the CPU: f(a, b) = sum_i w_i (<u_i, a.x> + <v_i, b.x>)^2 on all p^2
// pairs, theta_i = [u (p) | v (p) | w (p)], where a.x is the template x shifted by a and the target is (a + b).x.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "agf/problem.hpp"

namespace agf::cpu {

class Scratch;

// Everything is diagonal in the template's own Fourier modes. Let K be the number of real modes (two per frequency, one
// for p/2) in which x differs from zero, q_s the orthonormal modes in phase with x, e_s the same modes in phase with a
// = 0 and of unit mean square, and g = |x^| / sqrt p. Then <u, a.x> = A(a) = sum_s A_s e_s(a), A_s = g_s <q_s, u>, and
// with B from v the neuron's output is
//     (A(a) + B(b))^2 = A(a)^2 + B(b)^2 + 2 sum_st A_s B_t e_s(a) e_t(b),
// since no mode has a mean. A residual is all that meets it: its means over b and over a, (p, p) each, and its
// components on e_s(a) e_t(b), (K^2, p). That is 2p + K^2 rows in place of p^2, and nothing of p^2 x 2p is ever stored.
// Arithmetic is in double whatever the dtype of the template. Const methods may be called from several threads at once.
class ModularCpu final : public Problem {
 public:
  // x (p), p >= 2, and those of its frequencies, 1 to p/2, that are more than rounding; the others take no part.
  ModularCpu(const double* x, std::size_t p, const std::vector<std::size_t>& frequencies);

  std::size_t period() const { return p_; }
  std::size_t params() const override { return m_; }
  std::size_t outputs() const override { return p_; }
  std::size_t samples() const override { return p_ * p_; }
  double kappa() const override { return 3; }
  bool homogeneous() const override { return true; }
  bool kinked() const override { return false; }
  double input_scale() const override { return input_scale_; }
  double epsilon() const override;

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
  bool conserved(const double* theta, std::size_t count, double* out) const override;
  void rebalance(double* theta, std::size_t count, const double* balance, double* scale) const override;
  double evaluation_flops(std::size_t count) const override;
  double utility_hessian_flops(std::size_t count) const override;
  double loss_hessian_flops(std::size_t count) const override;
  // Inputs <q_s, u>, <q_s, v>, and the empty one: parameters [K | K | 1 | p].
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

  std::size_t rows() const { return 2 * p_ + modes_ * modes_; }
  std::size_t compact() const { return 2 * modes_ + p_; }  // parameters [A_s | B_s | w]
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

  std::size_t p_, modes_ = 0, d_ = 0, m_ = 0;
  bool reduced_ = false;
  double input_scale_ = 0, root_ = 0;  // root_: 1 / sqrt p
  std::vector<double> gain_;           // g_s
  std::vector<double> basis_;          // q_s in columns, (p, K)
  std::vector<double> waves_;          // e_s in columns, (p, K)
  std::vector<double> target_;         // the residual of no neurons, (2p + K^2, p)
};

}  // namespace agf::cpu
