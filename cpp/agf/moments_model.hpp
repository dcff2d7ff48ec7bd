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
#include <utility>

#include "agf/config.hpp"
#include "agf/containers.hpp"
#include "agf/linear.hpp"
#include "agf/problem.hpp"
#include "agf/product_layout.hpp"

namespace AGF_SPACE {

#if !defined(AGF_BLOCK)

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

inline DesignSizes sizes_of(const PseudoSamples& samples) {
  DesignSizes sizes{samples.rows, samples.columns, 1, 0, samples.listed, !samples.listed && samples.left.empty(), 0};
  if (!sizes.listed) sizes.outer = sizes.whole ? samples.rows : samples.left.size() / samples.rows;
  sizes.inner = samples.right.size() / (sizes.listed ? samples.rows * samples.columns : samples.columns);
  sizes.scale = norm(samples.right.size(), samples.right.data());
  if (!sizes.listed && !sizes.whole) sizes.scale = norm(samples.left.size(), samples.left.data()) * sizes.scale;
  return sizes;
}

#endif

class MomentsModel : public Problem {
 public:
  AGF_CORE std::size_t rows() const { return product_.rows; }
  AGF_CORE std::size_t columns() const { return product_.columns; }

  AGF_CORE std::size_t params() const override { return product_.params; }
  AGF_CORE std::size_t outputs() const override { return product_.rows; }
  AGF_CORE std::size_t samples() const override { return sizes_.entries(); }
  AGF_CORE double kappa() const override { return product_.gained ? 3 : 2; }
  AGF_CORE bool homogeneous() const override { return true; }
  AGF_CORE bool kinked() const override { return false; }
  // input_scale^{kappa - 1} bounds the contribution of a unit neuron.
  AGF_CORE double input_scale() const override { return std::pow(sizes_.scale, 1 / (kappa() - 1)); }
  AGF_CORE double epsilon() const override { return std::numeric_limits<double>::epsilon() / 2; }

  AGF_CORE std::size_t conserved_count() const override { return product_.gained ? 2 : 1; }
  // |l|^2 - |r|^2; with a gain g^2 - |l|^2 and g^2 - |r|^2.
  AGF_CORE bool conserved(const double* theta, std::size_t count, double* out) const override {
    const ProductLayout p = product_;
    each(count, p.params, [=](std::size_t i) {
      const double* x = theta + i * p.params;
      const double left = dot(p.rows, x + p.left, x + p.left);
      const double right = dot(p.columns, x + p.right, x + p.right);
      if (p.gained) {
        const double square = p.gain_of(x) * p.gain_of(x);
        out[2 * i] = square - left;
        out[2 * i + 1] = square - right;
      } else {
        out[i] = left - right;
      }
    });
    return true;
  }

  // l <- s l, r <- t r, g <- g / (s t), where s t = 1 with no gain: Newton in the logarithms from so close by needs two
  // or three steps.
  AGF_CORE void rebalance(double* theta, std::size_t count, const double* balance, double* scale) const override {
    constexpr int most = 8;
    const ProductLayout p = product_;
    each(count, most * p.params, [=](std::size_t i) {
      double* x = theta + i * p.params;
      const double left = dot(p.rows, x + p.left, x + p.left);
      const double right = dot(p.columns, x + p.right, x + p.right);
      double log_left = 0, log_right = 0;
      if (p.gained) {
        const double square = p.gain_of(x) * p.gain_of(x);
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
      for (std::size_t a = 0; a < p.rows; ++a) x[p.left + a] *= s;
      for (std::size_t b = 0; b < p.columns; ++b) x[p.right + b] *= t;
      if (p.gained) x[p.gain] /= s * t;
    });
  }

  AGF_CORE double evaluation_flops(std::size_t count) const override {
    return 6.0 * static_cast<double>(product_.size()) * static_cast<double>(count) + 2 * sizes_.flops();
  }
  AGF_CORE double utility_hessian_flops(std::size_t count) const override {
    const auto m = static_cast<double>(product_.params);
    return static_cast<double>(count) * (4.0 * static_cast<double>(product_.size()) + m * m);
  }
  AGF_CORE double loss_hessian_flops(std::size_t count) const override {
    const std::size_t n = count * product_.params;
    return sizes_.gram_flops(n) + 4.0 * static_cast<double>(n) * static_cast<double>(n) + utility_hessian_flops(count);
  }
#if !defined(AGF_BLOCK)
  Owned<Problem> reduced(std::vector<double>&) const override { return nullptr; }
  Owned<Problem> in_double() const override { return nullptr; }
#endif

 protected:
  // `least`: L_*.
  AGF_CORE MomentsModel(ProductLayout product, DesignSizes sizes, double least)
      : product_(product), sizes_(sizes), least_(least) {}

  ProductLayout product_;
  DesignSizes sizes_;
  double least_;
};

}  // namespace AGF_SPACE
