// Networks whose loss is a quadratic form in one matrix, P = sum_i p(theta_i), p = g l r^T of rank one: all that they
// see of the data is in a few moments.
//
// L = L_* + 1/2 |y - G[P]|^2 with a linear map G,  M = -dL/dP = G*[y - G[P]],  U(theta; M) = <p(theta), M> = g l^T M r.
// L_* is the least loss of any P; y and G are pseudo-samples that give the same moments as the data.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "agf/problem.hpp"

namespace agf::cpu {

// How a neuron's parameters make p (rows, columns): where l (rows), r (columns) and, if there is one, the factor g lie.
struct Product {
  std::size_t rows, columns, left, right, gain, params;
  bool gained;

  // theta = [w (inputs) | a (outputs)], p = a w^T.
  static Product bilinear(std::size_t inputs, std::size_t outputs);
  // theta = [v | q (dimension) | k (dimension)], p = v q k^T.
  static Product trilinear(std::size_t dimension);
};

// The linear map G. Matrices are row-major.
class Design {
 public:
  virtual ~Design() = default;

  virtual std::size_t entries() const = 0;                     // of G[P]
  virtual void forward(const double* p, double* f) const = 0;  // f = G[P]
  virtual void adjoint(const double* r, double* m) const = 0;  // M = G*[r], <M, P> = <r, G[P]>
  // The lower triangle of out_ef = <G[x_e y_e^T], G[x_f y_f^T]>, x (n, rows), y (n, columns).
  virtual void gram(std::size_t n, const double* x, const double* y, double* out) const = 0;
  virtual double scale() const = 0;  // a bound of |G[x y^T]| over unit x and y
  virtual double flops() const = 0;  // of `forward` or `adjoint`
  virtual double gram_flops(std::size_t n) const = 0;
};

// Every pair of a left and a right pseudo-sample: G[P]_ab = left_a^T P right_b. An empty left stands for the identity.
std::unique_ptr<const Design> grid_design(std::size_t rows, std::size_t columns, std::vector<double> left,
                                          std::vector<double> right);
// Pseudo-samples of P itself: G[P]_a = <features_a, P>.
std::unique_ptr<const Design> list_design(std::size_t rows, std::size_t columns, std::vector<double> features);

// Const methods may be called from several threads at once; results do not depend on the number of threads.
class Moments final : public Problem {
 public:
  // `target`: y, as many entries as G[P]; `least`: L_*.
  Moments(Product product, std::unique_ptr<const Design> design, std::vector<double> target, double least);

  std::size_t rows() const { return product_.rows; }
  std::size_t columns() const { return product_.columns; }
  static const double* values(const Signal& signal);
  static double* values(Signal& signal);

  std::size_t params() const override { return product_.params; }
  std::size_t outputs() const override { return product_.rows; }
  std::size_t samples() const override { return design_->entries(); }
  double kappa() const override { return product_.gained ? 3 : 2; }
  bool homogeneous() const override { return true; }
  bool kinked() const override { return false; }
  double input_scale() const override;
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
  std::size_t conserved_count() const override { return product_.gained ? 2 : 1; }
  bool conserved(const double* theta, std::size_t count, double* out) const override;
  void rebalance(double* theta, std::size_t count, const double* balance, double* scale) const override;
  double evaluation_flops(std::size_t count) const override;
  double utility_hessian_flops(std::size_t count) const override;
  double loss_hessian_flops(std::size_t count) const override;
  std::unique_ptr<Problem> reduced(std::vector<double>&) const override { return nullptr; }
  std::unique_ptr<Problem> in_double() const override { return nullptr; }

 private:
  std::size_t size() const { return product_.rows * product_.columns; }
  double gain(const double* theta) const { return product_.gained ? theta[product_.gain] : 1.0; }
  void add(std::size_t count, const double* left, const double* right, std::size_t stride, double* p) const;

  Product product_;
  std::unique_ptr<const Design> design_;
  std::vector<double> target_;
  double least_;
};

}  // namespace agf::cpu
