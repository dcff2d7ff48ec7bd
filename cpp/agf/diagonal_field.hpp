// Right-hand side and Jacobian of the joint flow of a diagonal network's neurons, those felt and those too small to be.
#pragma once

#include <cstddef>
#include <vector>

#include "backend.hpp"
#include "design.hpp"
#include "diagonal_state.hpp"
#include "integrate.hpp"

namespace agf {

class DiagonalField final : public Field {
 public:
  DiagonalField(const Design& design, const double* y, Backend& backend, const DiagonalNetwork& network,
                double log_unit);

  std::size_t size() const override { return network_.count(); }
  // y and f of a felt neuron: x signed as beta, or ln v where a side is given, and its derivative; of another: T in
  // units of e^log_unit, and its derivative.
  void rhs(const std::vector<int>& which, const double* y, double* f) override;
  bool solve(const std::vector<int>& which, double* x) override;

  // Who is felt, in ascending order. With a side other than 0 beta keeps that sign and the variable is ln v: small
  // where x is some ten thousand, and dx = d ln v to rounding from x = 20 on.
  void set_felt(const std::vector<std::size_t>& felt, const std::vector<signed char>& side);
  const std::vector<std::size_t>& felt() const { return felt_; }

  // r, g and L at the x of the felt.
  void look(const double* y);
  // The right-hand side there.
  void rates(double* f) const;
  const std::vector<double>& gradient() const { return gradient_; }
  double loss() const { return loss_; }
  // Factorises shift I - J at the point of the last look; false unless positive definite.
  bool factorise(double shift);
  // The change of each felt variable that leads from the last look to rest, by Newton's method, and the largest of
  // them; infinite where there is no rest, or more are felt than there are samples, which do not determine it.
  double way_to_rest(std::vector<double>& change);

  // ln v and the sign of beta of a felt neuron.
  double log_v(std::size_t i, double x) const;
  int sign(std::size_t i, double x) const { return side_[i] ? side_[i] : (x < 0 ? -1 : 1); }
  long evaluations() const { return evaluations_; }
  long factorisations() const { return factorisations_; }

 private:
  const Design& design_;
  const double* y_;
  Backend& backend_;
  const DiagonalNetwork& network_;
  double unit_;  // e^-log_unit
  std::vector<std::size_t> felt_;
  std::vector<signed char> side_;
  std::vector<double> gram_;  // E[x x^T] of the felt, where they are no more than the samples
  std::vector<double> beta_, residual_, gradient_, rate_, slope_, push_, pull_;
  // Of the last look: W, and scale: w = scale x makes the Jacobian symmetric.
  std::vector<double> factor_, root_, scale_;
  std::vector<double> image_, pulled_, column_;
  double loss_ = 0, shift_ = 0;
  long evaluations_ = 0, factorisations_ = 0;

  bool by_samples() const { return felt_.size() > design_.rows(); }
  bool factorise_by_samples();
  void solve_by_samples(double* x);
  void evaluate(const double* y);
};

}  // namespace agf
