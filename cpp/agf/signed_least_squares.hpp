// beta = argmin |y - X beta|^2 with a sign asked of each coordinate that may differ from zero, kept up to date while
// coordinates are let in and shut out, and with it X^T r of every column, r = y - X beta.
//
// The active-set method of Lawson and Hanson (Solving Least Squares Problems, 1974, chapter 23) started from the last
// solution, on a triangle of the basis B (the coordinates off zero) that is updated (basis_factor.hpp). Steps are taken
// by the normal equations, R^T R step = X_B^T r, whose right-hand side is measured anew from the columns each time:
// what rounding left of it is corrected (Bjorck, Numerical Methods for Least Squares Problems, 1996, section 6.6.5),
// and nothing builds up. A basis too near to dependent for that gets a Q.
//
// A solution costs a pass over X, for X^T r, and two over X_B, for a new column's products and for r. Where X^T X is
// not much larger than X it is made once that has paid, and a solution then costs one pass over its columns B.
#pragma once

#include <cstddef>

#include "basis_factor.hpp"
#include "containers.hpp"
#include "design.hpp"
#include "trajectory.hpp"

namespace AGF_SPACE {

class SignedLeastSquares {
 public:
  AGF_CORE SignedLeastSquares(const Design& design, const double* y);

  // Lets coordinate j differ from zero: upwards (+1), downwards (-1), or either way (0).
  AGF_CORE void allow(std::size_t j, int sign);
  // Takes back what was allowed, of a coordinate at zero.
  AGF_CORE void shut(std::size_t j);

  // False if the control stopped it between two changes of the basis: correlations are then those of before.
  AGF_CORE bool solve(Control& control);

  AGF_CORE double loss() const { return loss_; }  // |r|^2 / (2 n)
  AGF_CORE double value(std::size_t j) const {
    return place_[j] >= 0 ? beta_[static_cast<std::size_t>(place_[j])] : 0.0;
  }
  AGF_CORE const Array<std::size_t>& basis() const { return basis_; }
  // x_j . r of every column where the last solution was found.
  AGF_CORE const Array<double>& correlation() const { return correlation_; }
  // The same over the basis, where the last solve was broken off too.
  AGF_CORE Array<double> basis_correlation() const;
  // Allowed coordinates at zero, and x_j . r of each.
  AGF_CORE const Array<std::size_t>& idle() const { return idle_; }
  AGF_CORE const Array<double>& idle_correlation() const { return idle_correlation_; }
  // |x_j . r| up to this is rounding.
  AGF_CORE double noise(std::size_t j) const { return noise_ * length_[j]; }
  AGF_CORE double length(std::size_t j) const { return length_[j]; }

 private:
  static constexpr int absent = -2, waiting = -1;  // else the slot in the factor
  static constexpr std::size_t nobody = static_cast<std::size_t>(-1);

  const Design& design_;
  const ColumnLoops& loops_;
  const double* y_;
  std::size_t n_;
  Array<int> place_;
  Array<signed char> sign_;
  Array<double> length_;
  double target_length_ = 0, noise_ = 0, loss_ = 0;
  Array<std::size_t> basis_, idle_;
  Array<double> idle_correlation_, correlation_;
  BasisFactor factor_;
  // By slot, filled up with zeros to a multiple of 8:
  Array<std::size_t> member_;
  Array<double> beta_, step_;  // step_: what residual_ and correlation_ have not followed yet
  Array<double> z_;            // R^-T X_B^T r
  Array<double> wanted_, cross_;
  Array<double> column_, product_;
  Array<double> residual_;  // y - X beta; not kept up with a Gram matrix
  Owned<Design> gram_;
  long passes_ = 0;       // over X
  bool complete_ = true;  // whether correlation_ is that of residual_
  // What beta has moved since: coordinates and by how much, and those that have left.
  Array<std::size_t> moved_, left_;
  Array<double> moves_, left_by_;
  Array<std::size_t> stepped_;  // slots that have moved
  // Since the last refresh: changes of the basis, sum_k |x_k step_k|, and the loss then.
  int updates_ = 0;
  double travelled_ = 0, loss_then_ = 0;

  AGF_CORE std::size_t padded() const { return factor_.padded(); }
  AGF_CORE void fit();
  AGF_CORE void tidy();
  AGF_CORE bool insert(std::size_t j, double correlation);
  AGF_CORE void to_slots(const Array<double>& of_basis, Array<double>& out) const;
  AGF_CORE void products(std::size_t j);
  AGF_CORE double outside(std::size_t j);
  AGF_CORE void enter(std::size_t j);
  AGF_CORE void remove(std::size_t slot);
  AGF_CORE bool keep_signs();
  AGF_CORE void orthonormalize();
  AGF_CORE void gather_idle();
  AGF_CORE void gather();
  AGF_CORE void advance();
  AGF_CORE void complete();
  AGF_CORE void take();
  AGF_CORE void correct(bool again);
  AGF_CORE bool uncertain(double left) const;
  AGF_CORE void project();
  AGF_CORE double size() const;  // |r|
  AGF_CORE bool cancels() const;
  AGF_CORE bool stale() const;
  AGF_CORE void refresh();
  AGF_CORE void measure_noise();
  AGF_CORE double norm(const Array<double>& a) const;
};

}  // namespace AGF_SPACE
