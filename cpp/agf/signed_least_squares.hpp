// beta = argmin |y - X beta|^2 with a sign asked of each coordinate that may differ from zero, kept up to date while
// coordinates are let in and shut out.
//
// The active-set method of Lawson and Hanson (Solving Least Squares Problems, 1974, chapter 23) started from the last
// solution, on a QR factorisation X_B = Q R of the basis B (the coordinates off zero) that is updated: a column comes
// in by orthogonalisation against Q, twice, and goes out by Givens rotations. So a change of the basis costs O(n |B|)
// and nothing is solved afresh.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "design.hpp"

namespace agf {

class SignedLeastSquares {
 public:
  SignedLeastSquares(const Design& design, const double* y);

  // Lets coordinate j differ from zero: upwards (+1), downwards (-1), or either way (0).
  void allow(std::size_t j, int sign);
  void shut(std::size_t j);

  // False if `stop` said so between two changes of the basis.
  bool solve(const std::function<bool()>& stop);

  const std::vector<double>& residual() const { return residual_; }
  double loss() const;  // |r|^2 / (2 n)
  double value(std::size_t j) const { return place_[j] >= 0 ? beta_[static_cast<std::size_t>(place_[j])] : 0.0; }
  const std::vector<std::size_t>& basis() const { return basis_; }
  // Allowed coordinates at zero, and x_j . r of each.
  const std::vector<std::size_t>& idle() const { return idle_; }
  const std::vector<double>& idle_correlation() const { return idle_correlation_; }
  // |x_j . r| up to this is rounding.
  double noise(std::size_t j) const { return noise_ * length_[j]; }
  double length(std::size_t j) const { return length_[j]; }

 private:
  static constexpr int absent = -2, waiting = -1;  // else the place in the basis

  const Design& design_;
  const double* y_;
  std::size_t n_;
  std::vector<int> place_;
  std::vector<signed char> sign_;
  std::vector<double> length_;
  double target_length_ = 0, noise_ = 0;
  std::vector<std::size_t> basis_, idle_;
  std::vector<double> idle_correlation_;
  std::vector<double> beta_;
  std::vector<double> q_;               // columns of Q, n each
  std::vector<std::vector<double>> r_;  // columns of R, down to the diagonal
  std::vector<double> z_;               // Q^T y
  std::vector<double> residual_;        // y - Q Q^T y
  std::vector<double> wanted_;
  // Since the last refresh: changes of the basis, and the most that a column gave back to the residual.
  int updates_ = 0;
  double given_back_ = 0;

  double* q(std::size_t k) { return &q_[k * n_]; }
  bool insert(std::size_t j);
  void remove(std::size_t position);
  void back_substitute(std::vector<double>& x) const;
  bool keep_signs();
  void refresh();
  void measure_noise();
};

}  // namespace agf
