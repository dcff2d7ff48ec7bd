#include "cpu/diagonal_descent.hpp"

#include <algorithm>
#include <cmath>

namespace agf::cpu {
namespace {

// Inputs up to which E[x x^T] is kept: 8 MB.
constexpr std::size_t most_inputs = 1024;

}  // namespace

template <typename T>
DiagonalDescent<T>::DiagonalDescent(const DiagonalCpu<T>& network)
    : network_(network), beta_(network.inputs()), moved_(network.inputs() * network.depth()) {
  const Design& design = network.design();
  if (network.inputs() <= most_inputs && network.inputs() < 2 * network.samples()) {
    gram_ = design.gram();
    correlated_.resize(gram_->rows(), 0.0);
    design.correlate(network.target().data(), correlated_.data());
  }
  gradient_.resize(gram_ ? gram_->rows() : network.inputs());
}

// gradient_ = X^T (y - X beta).
template <typename T>
void DiagonalDescent<T>::differentiate(const T* theta) {
  const std::size_t depth = network_.depth();
  for (std::size_t i = 0; i < beta_.size(); ++i) {
    double product = 1;
    for (std::size_t l = 0; l < depth; ++l) product *= static_cast<double>(theta[i * depth + l]);
    beta_[i] = -product;
  }
  if (gram_) {
    gradient_ = correlated_;
    gram_->combine(network_.every_input(), beta_.data(), gradient_.data());
  } else {
    residual_ = network_.target();
    network_.design().combine(network_.every_input(), beta_.data(), residual_.data());
    network_.design().correlate(residual_.data(), gradient_.data());
  }
}

template <typename T>
std::size_t DiagonalDescent<T>::advance(T* theta, T* velocity, double lr, double momentum, std::size_t steps) {
  const std::size_t depth = network_.depth();
  const double samples = static_cast<double>(network_.samples());
  const T rate = static_cast<T>(lr), kept = static_cast<T>(momentum);
  for (std::size_t step = 0; step < steps; ++step) {
    differentiate(theta);
    bool sound = true;
    for (std::size_t i = 0; i < beta_.size(); ++i) {
      const T* u = theta + i * depth;
      bool any = false;
      for (std::size_t l = 0; l < depth; ++l) {
        double slope = gradient_[i] / samples;
        for (std::size_t m = 0; m < depth; ++m)
          if (m != l) slope *= static_cast<double>(u[m]);
        T& v = velocity[i * depth + l];
        v = kept * v + static_cast<T>(slope);
        const T there = u[l] + rate * v;
        moved_[i * depth + l] = there;
        sound = sound && std::isfinite(there);
        any = any || there != 0;
      }
      sound = sound && any;
    }
    if (!sound) return step;
    std::copy(moved_.begin(), moved_.end(), theta);
  }
  return steps;
}

template class DiagonalDescent<float>;
template class DiagonalDescent<double>;

}  // namespace agf::cpu
