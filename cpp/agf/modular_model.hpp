// Modular addition with a quadratic network: f(a, b) = sum_i w_i (<u_i, a.x> + <v_i, b.x>)^2 on all p^2 pairs,
// theta_i = [u (p) | v (p) | w (p)], where a.x is the template x shifted by a and the target is (a + b).x. What is
// known of it on any device.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>

#include "agf/balance.hpp"
#include "agf/containers.hpp"
#include "agf/linear.hpp"
#include "agf/problem.hpp"

namespace AGF_SPACE {

// Everything is diagonal in the template's own Fourier modes. Let K be the number of real modes (two per frequency, one
// for p/2) in which x differs from zero, q_s the orthonormal modes in phase with x, e_s the same modes in phase with a
// = 0 and of unit mean square, and g = |x^| / sqrt p. Then <u, a.x> = A(a) = sum_s A_s e_s(a), A_s = g_s <q_s, u>, and
// with B from v the neuron's output is
//     (A(a) + B(b))^2 = A(a)^2 + B(b)^2 + 2 sum_st A_s B_t e_s(a) e_t(b),
// since no mode has a mean. A residual is all that meets it: its means over b and over a, (p, p) each, and its
// components on e_s(a) e_t(b), (K^2, p). That is 2p + K^2 rows in place of p^2, and nothing of p^2 x 2p is ever stored.
// Arithmetic is in double whatever the dtype of the template.
class ModularModel : public Problem {
 public:
  AGF_CORE std::size_t period() const { return p_; }
  AGF_CORE std::size_t params() const override { return m_; }
  AGF_CORE std::size_t outputs() const override { return p_; }
  AGF_CORE std::size_t samples() const override { return p_ * p_; }
  AGF_CORE double kappa() const override { return 3; }
  AGF_CORE bool homogeneous() const override { return true; }
  AGF_CORE bool kinked() const override { return false; }
  AGF_CORE double input_scale() const override { return input_scale_; }
  AGF_CORE double epsilon() const override { return std::numeric_limits<double>::epsilon() / 2; }

  // 2 |w|^2 - |(u, v)|^2
  AGF_CORE bool conserved(const double* theta, std::size_t count, double* out) const override {
    layer_balance(d_, p_, 2, theta, count, out);
    return true;
  }
  AGF_CORE void rebalance(double* theta, std::size_t count, const double* balance, double* scale) const override {
    rebalance_layers(d_, p_, 2, theta, count, balance, scale);
  }

  AGF_CORE double evaluation_flops(std::size_t count) const override {
    const double p = static_cast<double>(p_), features = static_cast<double>(rows());
    return 4.0 * static_cast<double>(count) * p *
           (features + 2 * static_cast<double>(modes_) + static_cast<double>(d_));
  }
  AGF_CORE double utility_hessian_flops(std::size_t count) const override {
    const double p = static_cast<double>(p_), k = static_cast<double>(modes_);
    return 4.0 * static_cast<double>(count) * k * (p * p + 2 * k * p) + 2 * static_cast<double>(count * m_ * m_);
  }
  AGF_CORE double loss_hessian_flops(std::size_t count) const override {
    const double p = static_cast<double>(p_), k = static_cast<double>(modes_);
    const double pairs = static_cast<double>(count * count);
    return pairs * (2 * k * p * (k + 3) + 2 * static_cast<double>(m_ * m_)) + utility_hessian_flops(count);
  }

 protected:
  // The same from its numbers, on a device that holds its arrays.
  AGF_CORE ModularModel(std::size_t p, std::size_t modes, double input_scale, bool reduced)
      : p_(p), modes_(modes), input_scale_(input_scale), root_(1 / std::sqrt(static_cast<double>(p))) {
    d_ = 2 * p;
    m_ = d_ + p;
    if (reduced) make_compact();
  }

#if !defined(AGF_BLOCK)
  // x (p), p >= 2, and those of its frequencies, 1 to p/2, that are more than rounding; the others take no part.
  ModularModel(const double* x, std::size_t p, const std::vector<std::size_t>& frequencies)
      : p_(p), root_(1 / std::sqrt(static_cast<double>(p))) {
    input_scale_ = std::sqrt(2.0) * norm(p, x);
    const double period = static_cast<double>(p);
    std::vector<double> cosine(p), sine(p);
    for (std::size_t j = 0; j < p; ++j) {
      const double angle = 2 * std::numbers::pi * static_cast<double>(j) / period;
      cosine[j] = std::cos(angle);
      sine[j] = std::sin(angle);
    }
    struct Mode {
      std::size_t frequency;
      double real, imaginary, modulus;
    };
    std::vector<Mode> found;
    for (const std::size_t k : frequencies) {
      double real = 0, imaginary = 0;
      for (std::size_t j = 0; j < p; ++j) {
        real += x[j] * cosine[j * k % p];
        imaginary -= x[j] * sine[j * k % p];
      }
      if (2 * k == p) imaginary = 0;
      const double modulus = std::hypot(real, imaginary);
      if (modulus > 0) found.push_back({k, real, imaginary, modulus});
    }
    for (const Mode& mode : found) modes_ += 2 * mode.frequency == p ? 1 : 2;

    gain_.resize(modes_);
    basis_.resize(p * modes_);
    waves_.resize(p * modes_);
    target_.assign(rows() * p, 0.0);
    std::size_t s = 0;
    for (const Mode& mode : found) {
      const bool single = 2 * mode.frequency == p;
      const double unit = single ? 1 : std::sqrt(2.0);
      const double c = mode.real / mode.modulus, d = mode.imaginary / mode.modulus;
      for (std::size_t j = 0; j < p; ++j) {
        const double u = cosine[j * mode.frequency % p], v = sine[j * mode.frequency % p];
        waves_[j * modes_ + s] = unit * u;
        basis_[j * modes_ + s] = unit * root_ * (u * c - v * d);
        if (single) continue;
        waves_[j * modes_ + s + 1] = unit * v;
        basis_[j * modes_ + s + 1] = unit * root_ * (v * c + u * d);
      }
      gain_[s] = mode.modulus * root_;
      if (!single) gain_[s + 1] = gain_[s];
      // (a + b).x on this frequency: g cos(a + b) q_s + g sin(a + b) q_{s+1}, times sqrt 2 unless single.
      for (std::size_t j = 0; j < p; ++j) {
        const auto at = [&](std::size_t e, std::size_t f) -> double& {
          return target_[(2 * p + e * modes_ + f) * p + j];
        };
        if (single) {
          at(s, s) = gain_[s] * basis_[j * modes_ + s];
          continue;
        }
        const double along = gain_[s] / unit;
        at(s, s) = along * basis_[j * modes_ + s];
        at(s + 1, s + 1) = -along * basis_[j * modes_ + s];
        at(s, s + 1) = at(s + 1, s) = along * basis_[j * modes_ + s + 1];
      }
      s += single ? 1 : 2;
    }
    d_ = 2 * p;
    m_ = d_ + p;
  }

  // The form in inputs <q_s, u>, <q_s, v>, and the empty one: parameters [K | K | 1 | p].
  std::vector<double> compact_basis() const {
    std::vector<double> basis(2 * p_ * 2 * modes_, 0.0);
    for (std::size_t e = 0; e < p_; ++e)
      for (std::size_t s = 0; s < modes_; ++s) {
        basis[e * 2 * modes_ + s] = basis_[e * modes_ + s];
        basis[(p_ + e) * 2 * modes_ + modes_ + s] = basis_[e * modes_ + s];
      }
    return basis;
  }
#endif

  // Rows of p outputs that a residual has: for each a the mean over b, over sqrt p; for each b the mean over a,
  // likewise; the components on e_s(a) e_t(b).
  AGF_CORE std::size_t rows() const { return 2 * p_ + modes_ * modes_; }
  AGF_CORE std::size_t compact() const { return 2 * modes_ + p_; }              // parameters [A_s | B_s | w]
  AGF_CORE std::size_t second_input() const { return reduced_ ? modes_ : p_; }  // where the parameters of b begin

  AGF_CORE void make_compact() {
    reduced_ = true;
    d_ = 2 * modes_ + 1;
    m_ = d_ + p_;
  }

  std::size_t p_, modes_ = 0, d_ = 0, m_ = 0;
  bool reduced_ = false;
  double input_scale_ = 0, root_ = 0;  // root_: 1 / sqrt p
#if !defined(AGF_BLOCK)
  std::vector<double> gain_;    // g_s
  std::vector<double> basis_;   // q_s in columns, (p, K)
  std::vector<double> waves_;   // e_s in columns, (p, K)
  std::vector<double> target_;  // the residual of no neurons, (2p + K^2, p)
#endif
};

}  // namespace AGF_SPACE
