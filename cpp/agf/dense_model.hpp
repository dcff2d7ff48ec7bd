// What is known of a dense two-layer network f = sum_i a_i sigma(w_i x), theta_i = [w_i (d) | a_i (c)], without its
// data.
#pragma once

#include <cstddef>

#include "agf/balance.hpp"
#include "agf/pointwise.hpp"
#include "agf/problem.hpp"

namespace AGF_SPACE {

class DenseModel : public Problem {
 public:
  AGF_CORE std::size_t inputs() const { return d_; }
  AGF_CORE std::size_t params() const override { return m_; }
  AGF_CORE std::size_t outputs() const override { return c_; }
  AGF_CORE std::size_t samples() const override { return n_; }
  AGF_CORE double kappa() const override { return traits().degree + 1; }
  AGF_CORE bool homogeneous() const override { return traits().homogeneous; }
  AGF_CORE bool kinked() const override { return traits().kinked; }
  AGF_CORE double input_scale() const override { return input_scale_; }

  AGF_CORE bool conserved(const double* theta, std::size_t count, double* out) const override {
    if (!traits().homogeneous) return false;
    layer_balance(d_, c_, traits().degree, theta, count, out);
    return true;
  }
  AGF_CORE void rebalance(double* theta, std::size_t count, const double* balance, double* scale) const override {
    rebalance_layers(d_, c_, traits().degree, theta, count, balance, scale);
  }

  AGF_CORE double evaluation_flops(std::size_t count) const override {
    return 4.0 * static_cast<double>(n_) * static_cast<double>(count) * static_cast<double>(m_);
  }
  AGF_CORE double utility_hessian_flops(std::size_t count) const override {
    const double d = static_cast<double>(d_), c = static_cast<double>(c_);
    const double each = 2.0 * d * (2.0 + c) + (curved({}) ? 2.0 * (c + d * d) : 0.0);
    return each * static_cast<double>(n_) * static_cast<double>(count);
  }
  AGF_CORE double loss_hessian_flops(std::size_t count) const override {
    const double features = static_cast<double>(count) * static_cast<double>(d_ + 1);
    const double entries = static_cast<double>(count) * static_cast<double>(m_);
    return static_cast<double>(n_) * features * features + 4.0 * entries * entries + utility_hessian_flops(count);
  }

 protected:
  AGF_CORE DenseModel(std::size_t n, std::size_t d, std::size_t c, Sigma sigma, double parameter)
      : n_(n), d_(d), c_(c), m_(d + c), sigma_(sigma), parameter_(parameter) {}

  struct Traits {
    int degree;
    bool homogeneous, kinked, linear;
  };
  AGF_CORE Traits traits() const {
    switch (sigma_) {
#define AGF_DENSE(name, leaf, degree, homogeneous, kinked, linear) \
  case Sigma::name:                                                \
    return {degree, homogeneous, kinked, linear};
#include "agf/models.def"
#undef AGF_DENSE
    }
    return {};
  }

  AGF_CORE Nonlinearity nonlinearity(Shape shape) const { return {sigma_, parameter_, shape.leading}; }

  // Whether sigma'' can differ from zero.
  AGF_CORE bool curved(Shape shape) const {
    const Traits t = traits();
    if (t.kinked) return shape.ramp != nullptr;
    if (shape.leading && !t.homogeneous) return false;
    return !t.linear;
  }

  // Whether so low a rank of X pays for a problem in other inputs.
  AGF_CORE static bool worth_reducing(std::size_t rank, std::size_t d) { return 4 * (rank + 1) <= 3 * d; }
  // Beyond this many inputs the factorisation takes longer than a Ctrl-C may wait, and wins little.
  static constexpr std::size_t most_reducible = 256;

  std::size_t n_, d_, c_, m_;
  Sigma sigma_;
  double parameter_;
  double input_scale_ = 0;
};

}  // namespace AGF_SPACE
