// History of a variable-order multistep method: backward differences at a constant spacing.
//
// Numerical differentiation formulas (Klopfenstein-Shampine; L. F. Shampine and M. W. Reichelt, The MATLAB ODE Suite,
// SIAM J. Sci. Comput. 18, 1997, section 2), orders 1 to 5. With the differences D_j = nabla^j y_n and order k,
//   predicted  p   = sum_{j=0..k} D_j
//   y_{n+1} = p + d,   f(y_{n+1}) = shift (psi + d),   shift = alpha_k / h,   psi = sum_{j=1..k} gamma_j D_j / alpha_k
// and the local error is error_constant(k) d. A gradient flow has real eigenvalues, for which all five orders are
// stable at any step, and their error does not shrink in order where stiff neurons follow a slow curved valley: this is
// what one-step Rosenbrock methods cannot do (they fall to order 1 there).
#pragma once

#include <cstddef>
#include <vector>

namespace agf {

class Differences {
 public:
  static constexpr int most = 5;

  bool empty() const { return order_ == 0; }
  void clear() { order_ = 0; }
  int order() const { return order_; }
  double step() const { return step_; }
  std::size_t size() const { return rows_[0].size(); }
  double shift() const;
  // Equal steps taken since the step or the order last changed; more than the order: both may change.
  int equal_steps() const { return equal_; }

  // From values at t_n - j step, j = 0..order.
  void start(int order, double step, const std::vector<std::vector<double>>& points);
  // Goes on at `factor` times the step, and at another order (at most one higher).
  void change(int order, double factor);
  void predict(std::vector<double>& predicted, std::vector<double>& psi) const;
  // Takes the step that ends d away from the prediction.
  void accept(const std::vector<double>& d);
  // y(t_{n-1} + s step), 0 <= s <= 1, after accept.
  void at(double s, std::vector<double>& y) const;

  static double error_constant(int order);
  // nabla^j y_n; j up to order + 2 after accept.
  const std::vector<double>& row(int j) const { return rows_[j]; }
  std::vector<double>& row(int j) { return rows_[j]; }
  // The values at t_n - j step, j = 0..order + 1, of as many entries as `first`.. `last`; and back.
  int points() const { return order_ + 2; }
  // Differences of values at equal spacing, newest first, or the values of differences: the same map.
  static void involution(int count, double* values);

 private:
  std::vector<double> rows_[most + 3];
  double step_ = 0;
  int order_ = 0, equal_ = 0;
};

}  // namespace agf
