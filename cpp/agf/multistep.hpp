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
#include "containers.hpp"

namespace AGF_SPACE {

class Differences {
 public:
  static constexpr int most = 5;

  AGF_CORE bool empty() const { return order_ == 0; }
  AGF_CORE void clear() { order_ = 0; }
  AGF_CORE int order() const { return order_; }
  AGF_CORE double step() const { return step_; }
  AGF_CORE std::size_t size() const { return size_; }
  AGF_CORE double shift() const;
  // Equal steps taken since the step or the order last changed; more than the order: both may change.
  AGF_CORE int equal_steps() const { return equal_; }

  // From values at t_n - j step, j = 0..order, one after the other.
  AGF_CORE void start(int order, double step, const Array<double>& points);
  // Goes on at `factor` times the step, and at another order (at most one higher).
  AGF_CORE void change(int order, double factor);

  AGF_CORE static double gamma(int j) {
    static constexpr double table[] = {0, 1, 3.0 / 2, 11.0 / 6, 25.0 / 12, 137.0 / 60, 147.0 / 60};
    return table[j];
  }

  // Of one entry.
  struct Prediction {
    const double* rows;
    std::size_t size;
    int order;
    double scale;
    AGF_CORE void operator()(std::size_t e, double& predicted, double& psi) const {
      predicted = rows[e];
      psi = 0;
      for (int j = 1; j <= order; ++j) {
        const double row = rows[static_cast<std::size_t>(j) * size + e];
        predicted += row;
        psi += gamma(j) * row;
      }
      psi *= scale;
    }
  };
  AGF_CORE Prediction prediction() const;

  // Takes, entry by entry, a step that ends d away from the prediction.
  struct Advance {
    const double* before;
    double* rows;
    std::size_t size;
    int order;
    AGF_CORE void operator()(std::size_t e, double d) const {
      std::size_t at = static_cast<std::size_t>(order + 1) * size + e;
      rows[at + size] = d - before[at];
      rows[at] = d;
      for (int j = order; j >= 0; --j) {
        at -= size;
        d += before[at];
        rows[at] = d;
      }
    }
  };
  // From the history before that step.
  AGF_CORE Advance advance_from(const Differences& before);
  // y(t_n + s step), 0 <= s <= 1, in a step that ends d away from the prediction.
  AGF_CORE void between(double s, const Array<double>& d, Array<double>& y) const;

  AGF_CORE static double error_constant(int order);
  // nabla^j y_n; j up to order + 2 after a step. The next row lies size() further.
  AGF_CORE const double* row(int j) const { return rows_.data() + static_cast<std::size_t>(j) * size_; }
  AGF_CORE double* row(int j) { return rows_.data() + static_cast<std::size_t>(j) * size_; }
  // The values at t_n - j step, j = 0..order + 1.
  AGF_CORE int points() const { return order_ + 2; }
  // Differences of values at equal spacing, newest first, or the values of differences: the same map.
  AGF_CORE static void involution(int count, double* values);

 private:
  static constexpr std::size_t held = most + 3;  // rows
  Array<double> rows_;
  std::size_t size_ = 0;
  double step_ = 0;
  int order_ = 0, equal_ = 0;
};

}  // namespace AGF_SPACE
