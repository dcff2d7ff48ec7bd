// Many steps of gradient descent of a diagonal network at once: for few inputs a step is shorter than a call.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cpu/diagonal.hpp"

namespace agf::cpu {

// v <- momentum v + grad U(theta; r), theta <- theta + lr v on arrays (d, depth) of T, all samples. E[x r] is
// E[x y] - E[x x^T] beta where samples are many, so that a step costs d^2 and not 2 n d.
template <typename T>
class DiagonalDescent {
 public:
  // `network` must outlive it.
  explicit DiagonalDescent(const DiagonalCpu<T>& network);

  // Takes `steps`, or as many as lead to finite parameters with no neuron at exactly 0; returns how many. theta is
  // where the last of them led.
  std::size_t advance(T* theta, T* velocity, double lr, double momentum, std::size_t steps);

 private:
  const DiagonalCpu<T>& network_;
  std::unique_ptr<Design> gram_;    // null: by residuals
  std::vector<double> correlated_;  // X^T y; with residuals y
  std::vector<double> beta_, gradient_, residual_;
  std::vector<T> moved_;

  void differentiate(const T* theta);
};

}  // namespace agf::cpu
