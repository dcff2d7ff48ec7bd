// Right-hand side and Jacobian of the joint flow of a diagonal network's neurons, those felt and those too small to be.
//
// A field lies in an array, and so do the vectors that it is given: many threads work on them.
#pragma once

#include <cstddef>

#include "backend.hpp"
#include "containers.hpp"
#include "design.hpp"
#include "diagonal_state.hpp"
#include "integrate.hpp"

namespace AGF_SPACE {

class DiagonalField final : public Field {
 public:
  AGF_CORE DiagonalField(const Design& design, const double* y, Backend& backend, const DiagonalNetwork& network,
                         double log_unit);

  AGF_CORE std::size_t size() const override { return network_.count(); }
  // y and f of a felt neuron: x signed as beta, or ln v where a side is given, and its derivative; of another: T in
  // units of e^log_unit, and its derivative.
  AGF_CORE void rhs(const Array<int>& which, const double* y, double* f) override;
  AGF_CORE bool solve(const Array<int>& which, double* x) override;

  // Who is felt, in ascending order. With a side other than 0 beta keeps that sign and the variable is ln v: small
  // where x is some ten thousand, and dx = d ln v to rounding from x = 20 on.
  AGF_CORE void set_felt(const Array<std::size_t>& felt, const Array<signed char>& side);
  AGF_CORE const Array<std::size_t>& felt() const { return felt_; }

  // r, g and L at the x of the felt.
  AGF_CORE void look(const double* y);
  // The right-hand side there.
  AGF_CORE void rates(double* f) const;
  AGF_CORE const Array<double>& gradient() const { return gradient_; }
  AGF_CORE double loss() const { return loss_; }
  // Factorises shift I - J at the point of the last look; false unless positive definite.
  AGF_CORE bool factorise(double shift);
  // The change of each felt variable that leads from the last look to rest, by Newton's method, and the largest of
  // them; infinite where there is no rest, or more are felt than there are samples, which do not determine it.
  AGF_CORE double way_to_rest(Array<double>& change);

  // ln v and the sign of beta of a felt neuron.
  AGF_CORE double log_v(std::size_t i, double x) const;
  AGF_CORE int sign(std::size_t i, double x) const { return side_[i] ? side_[i] : (x < 0 ? -1 : 1); }
  AGF_CORE long evaluations() const { return evaluations_; }
  AGF_CORE long factorisations() const { return factorisations_; }

 private:
  const Design& design_;
  const double* y_;
  Backend& backend_;
  const DiagonalNetwork& network_;
  double unit_;  // e^-log_unit
  Array<std::size_t> felt_;
  Array<signed char> side_;
  Array<double> gram_;  // E[x x^T] of the felt, where they are no more than the samples
  Array<double> beta_, residual_, gradient_, rate_, slope_, push_, pull_, own_;
  // Of the last look: W, and scale: w = scale x makes the Jacobian symmetric.
  Array<double> factor_, root_, scale_;
  Array<double> image_, pulled_, column_;
  double loss_ = 0, shift_ = 0;
  long evaluations_ = 0, factorisations_ = 0;

  AGF_CORE bool by_samples() const { return felt_.size() > design_.rows(); }
  AGF_CORE bool factorise_by_samples();
  AGF_CORE void solve_by_samples(double* x);
  AGF_CORE void evaluate(const double* y);
};

}  // namespace AGF_SPACE
