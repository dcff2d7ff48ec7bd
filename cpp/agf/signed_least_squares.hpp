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
#include <functional>
#include <memory>
#include <vector>

#include "basis_factor.hpp"
#include "design.hpp"

namespace agf {

class SignedLeastSquares {
 public:
  SignedLeastSquares(const Design& design, const double* y);

  // Lets coordinate j differ from zero: upwards (+1), downwards (-1), or either way (0).
  void allow(std::size_t j, int sign);
  // Takes back what was allowed, of a coordinate at zero.
  void shut(std::size_t j);

  // False if `stop` said so between two changes of the basis: correlations are then those of before.
  bool solve(const std::function<bool()>& stop);

  double loss() const { return loss_; }  // |r|^2 / (2 n)
  double value(std::size_t j) const { return place_[j] >= 0 ? beta_[static_cast<std::size_t>(place_[j])] : 0.0; }
  const std::vector<std::size_t>& basis() const { return basis_; }
  // x_j . r of every column where the last solution was found.
  const std::vector<double>& correlation() const { return correlation_; }
  // The same over the basis, where the last solve was broken off too.
  std::vector<double> basis_correlation() const;
  // Allowed coordinates at zero, and x_j . r of each.
  const std::vector<std::size_t>& idle() const { return idle_; }
  const std::vector<double>& idle_correlation() const { return idle_correlation_; }
  // |x_j . r| up to this is rounding.
  double noise(std::size_t j) const { return noise_ * length_[j]; }
  double length(std::size_t j) const { return length_[j]; }

 private:
  static constexpr int absent = -2, waiting = -1;  // else the slot in the factor
  static constexpr std::size_t nobody = static_cast<std::size_t>(-1);

  const Design& design_;
  const ColumnLoops& loops_;
  const double* y_;
  std::size_t n_;
  std::vector<int> place_;
  std::vector<signed char> sign_;
  std::vector<double> length_;
  double target_length_ = 0, noise_ = 0, loss_ = 0;
  std::vector<std::size_t> basis_, idle_;
  std::vector<double> idle_correlation_, correlation_;
  BasisFactor factor_;
  // By slot, filled up with zeros to a multiple of 8:
  std::vector<std::size_t> member_;
  std::vector<double> beta_, step_;  // step_: what residual_ and correlation_ have not followed yet
  std::vector<double> z_;            // R^-T X_B^T r
  std::vector<double> wanted_, cross_;
  std::vector<double> column_, product_;
  std::vector<double> residual_;  // y - X beta; not kept up with a Gram matrix
  std::unique_ptr<Design> gram_;
  long passes_ = 0;       // over X
  bool complete_ = true;  // whether correlation_ is that of residual_
  // What beta has moved since: coordinates and by how much, and those that have left.
  std::vector<std::size_t> moved_, left_;
  std::vector<double> moves_, left_by_;
  // Since the last refresh: changes of the basis, sum_k |x_k step_k|, and the loss then.
  int updates_ = 0;
  double travelled_ = 0, loss_then_ = 0;

  std::size_t padded() const { return factor_.padded(); }
  void fit();
  void tidy();
  bool insert(std::size_t j, double correlation);
  void products(std::size_t j);
  double outside(std::size_t j);
  void enter(std::size_t j);
  void remove(std::size_t slot);
  bool keep_signs();
  void orthonormalize();
  void gather();
  void advance();
  void complete();
  void take();
  void correct(bool again);
  bool uncertain(double left) const;
  void project();
  double size() const;  // |r|
  bool cancels() const;
  bool stale() const;
  void refresh();
  void measure_noise();
  double norm(const std::vector<double>& a) const;
};

}  // namespace agf
