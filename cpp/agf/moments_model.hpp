// What is known without computing of networks whose loss is a quadratic form in one matrix, P = sum_i p(theta_i),
// p = g l r^T of rank one: all that they see of the data is in a few moments.
//
// L = L_* + 1/2 |y - G[P]|^2 with a linear map G,  M = -dL/dP = G*[y - G[P]],  U(theta; M) = <p(theta), M> = g l^T M r.
// L_* is the least loss of any P; y and G are pseudo-samples that give the same moments as the data.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <vector>

#include "agf/config.hpp"
#include "agf/linear.hpp"
#include "agf/problem.hpp"

namespace agf {

// How a neuron's parameters make p (rows, columns): where l (rows), r (columns) and, if there is one, the factor g lie.
struct ProductLayout {
  std::size_t rows, columns, left, right, gain, params;
  bool gained;

  // theta = [w (inputs) | a (outputs)], p = a w^T.
  static ProductLayout bilinear(std::size_t inputs, std::size_t outputs) {
    return {outputs, inputs, inputs, 0, 0, inputs + outputs, false};
  }
  // theta = [v | q (dimension) | k (dimension)], p = v q k^T.
  static ProductLayout trilinear(std::size_t dimension) {
    return {dimension, dimension, 1, 1 + dimension, 0, 1 + 2 * dimension, true};
  }

  std::size_t size() const { return rows * columns; }
  AGF_HD double gain_of(const double* theta) const { return gained ? theta[gain] : 1.0; }
  // Whether parameter u is one of l, or of r.
  AGF_HD bool of_left(std::size_t u) const { return u >= left && u < left + rows; }
  AGF_HD bool of_right(std::size_t u) const { return u >= right && u < right + columns; }
};

// The linear map G by its pseudo-samples; matrices are row-major.
struct PseudoSamples {
  std::size_t rows, columns;  // of P
  bool listed;
  std::vector<double> left, right;

  // Every pair of a left (., rows) and a right (., columns) one: G[P]_ab = left_a^T P right_b. An empty left stands for
  // the identity.
  static PseudoSamples grid(std::size_t rows, std::size_t columns, std::vector<double> left,
                            std::vector<double> right) {
    return {rows, columns, false, std::move(left), std::move(right)};
  }
  // Those of P itself, (., rows columns): G[P]_a = <right_a, P>.
  static PseudoSamples list(std::size_t rows, std::size_t columns, std::vector<double> features) {
    return {rows, columns, true, {}, std::move(features)};
  }
};

// The sizes of G.
struct DesignSizes {
  std::size_t rows, columns;
  std::size_t outer, inner;  // of the grid; a list has one row of it
  bool listed, whole;        // whole: the left stands for the identity
  double scale;              // a bound of |G[x y^T]| over unit x and y

  explicit DesignSizes(const PseudoSamples& samples)
      : rows(samples.rows),
        columns(samples.columns),
        outer(samples.listed         ? 1
              : samples.left.empty() ? samples.rows
                                     : samples.left.size() / samples.rows),
        inner(samples.right.size() / (samples.listed ? samples.rows * samples.columns : samples.columns)),
        listed(samples.listed),
        whole(!samples.listed && samples.left.empty()),
        scale(norm(samples.right.size(), samples.right.data())) {
    if (!listed && !whole) scale = norm(samples.left.size(), samples.left.data()) * scale;
  }

  std::size_t entries() const { return outer * inner; }  // of G[P]
  // Of G or its adjoint.
  double flops() const {
    const auto high = static_cast<double>(rows), wide = static_cast<double>(columns), near = static_cast<double>(inner);
    if (listed) return 2 * near * high * wide;
    return 2 * high * near * (wide + (whole ? 0 : static_cast<double>(outer)));
  }
  // Of <G[x_e y_e^T], G[x_f y_f^T]> for n pairs.
  double gram_flops(std::size_t n) const {
    const auto count = static_cast<double>(n);
    if (listed) return count * flops() + count * count * static_cast<double>(inner);
    return count * count * static_cast<double>(outer + inner);
  }
};

class MomentsModel : public Problem {
 public:
  std::size_t rows() const { return product_.rows; }
  std::size_t columns() const { return product_.columns; }

  std::size_t params() const override { return product_.params; }
  std::size_t outputs() const override { return product_.rows; }
  std::size_t samples() const override { return sizes_.entries(); }
  double kappa() const override { return product_.gained ? 3 : 2; }
  bool homogeneous() const override { return true; }
  bool kinked() const override { return false; }
  // input_scale^{kappa - 1} bounds the contribution of a unit neuron.
  double input_scale() const override { return std::pow(sizes_.scale, 1 / (kappa() - 1)); }
  double epsilon() const override { return std::numeric_limits<double>::epsilon() / 2; }

  std::size_t conserved_count() const override { return product_.gained ? 2 : 1; }
  // |l|^2 - |r|^2; with a gain g^2 - |l|^2 and g^2 - |r|^2.
  bool conserved(const double* theta, std::size_t count, double* out) const override {
    for (std::size_t i = 0; i < count; ++i) {
      const double* x = theta + i * product_.params;
      const double left = dot(product_.rows, x + product_.left, x + product_.left);
      const double right = dot(product_.columns, x + product_.right, x + product_.right);
      if (product_.gained) {
        const double square = product_.gain_of(x) * product_.gain_of(x);
        out[2 * i] = square - left;
        out[2 * i + 1] = square - right;
      } else {
        out[i] = left - right;
      }
    }
    return true;
  }

  // l <- s l, r <- t r, g <- g / (s t), where s t = 1 with no gain: Newton in the logarithms from so close by needs two
  // or three steps.
  void rebalance(double* theta, std::size_t count, const double* balance, double* scale) const override {
    constexpr int most = 8;
    for (std::size_t i = 0; i < count; ++i) {
      double* x = theta + i * product_.params;
      const double left = dot(product_.rows, x + product_.left, x + product_.left);
      const double right = dot(product_.columns, x + product_.right, x + product_.right);
      double log_left = 0, log_right = 0;
      if (product_.gained) {
        const double square = product_.gain_of(x) * product_.gain_of(x);
        for (int k = 0; k < most; ++k) {
          const double g = square * std::exp(-2 * (log_left + log_right));
          const double a = left * std::exp(2 * log_left), b = right * std::exp(2 * log_right);
          const double first = 0.5 * (g - a - balance[2 * i]), second = 0.5 * (g - b - balance[2 * i + 1]);
          const double determinant = g * (a + b) + a * b;
          log_left += ((g + b) * first - g * second) / determinant;
          log_right += ((g + a) * second - g * first) / determinant;
        }
      } else {
        for (int k = 0; k < most; ++k) {
          const double a = left * std::exp(-2 * log_right), b = right * std::exp(2 * log_right);
          log_right += (a - b - balance[i]) / (2 * (a + b));
        }
        log_left = -log_right;
      }
      // A neuron that has all but lost one of its factors has no balance to speak of.
      if (!(std::abs(log_left) < 0.5 && std::abs(log_right) < 0.5)) log_left = log_right = 0;
      const double s = std::exp(log_left), t = std::exp(log_right);
      scale[i] = s;
      for (std::size_t a = 0; a < product_.rows; ++a) x[product_.left + a] *= s;
      for (std::size_t b = 0; b < product_.columns; ++b) x[product_.right + b] *= t;
      if (product_.gained) x[product_.gain] /= s * t;
    }
  }

  double evaluation_flops(std::size_t count) const override {
    return 6.0 * static_cast<double>(product_.size()) * static_cast<double>(count) + 2 * sizes_.flops();
  }
  double utility_hessian_flops(std::size_t count) const override {
    const auto m = static_cast<double>(product_.params);
    return static_cast<double>(count) * (4.0 * static_cast<double>(product_.size()) + m * m);
  }
  double loss_hessian_flops(std::size_t count) const override {
    const std::size_t n = count * product_.params;
    return sizes_.gram_flops(n) + 4.0 * static_cast<double>(n) * static_cast<double>(n) + utility_hessian_flops(count);
  }
  std::unique_ptr<Problem> reduced(std::vector<double>&) const override { return nullptr; }
  std::unique_ptr<Problem> in_double() const override { return nullptr; }

 protected:
  // `least`: L_*.
  MomentsModel(ProductLayout product, const PseudoSamples& samples, double least)
      : product_(product), sizes_(samples), least_(least) {}

  ProductLayout product_;
  DesignSizes sizes_;
  double least_;
};

}  // namespace agf
