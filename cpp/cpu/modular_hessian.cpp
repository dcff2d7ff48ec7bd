// Second derivatives of the modular problem as matrices, and its other forms: compact, and on the pairs.
#include <algorithm>
#include <vector>

#include "agf/interrupt.hpp"
#include "agf/linear.hpp"
#include "cpu/blas.hpp"
#include "cpu/modular.hpp"
#include "cpu/modular_signal.hpp"
#include "cpu/pool.hpp"
#include "cpu/scratch.hpp"

namespace agf::cpu {

using blas::Op;

// out (K, K) = sum_a weight(a) e_s(a) e_t(a), in rows `stride` apart.
void ModularCpu::weigh(const double* weight, double* out, std::size_t stride) const {
  Scratch scratch;
  double* weighed = scratch.take<double>(p_ * modes_);
  for (std::size_t e = 0; e < p_; ++e)
    for (std::size_t s = 0; s < modes_; ++s) weighed[e * modes_ + s] = weight[e] * waves_[e * modes_ + s];
  blas::gemm<double>(Op::transpose, Op::none, modes_, modes_, p_, 1.0, waves_.data(), modes_, weighed, modes_, 0.0, out,
                     stride);
}

// hess U of one neuron by [A_s | B_s | w], weight = r w: by A_s A_t (2 / sqrt p) sum_a e_s e_t weight(a), by A_s B_t
// 2 weight_st, by A_s w (2 / sqrt p) sum_a e_s A r(a) + 2 sum_t B_t r_st, by w w nothing.
void ModularCpu::curvature(const Analysis& at, const double* weight, const double* r, double* out) const {
  const std::size_t n = compact();
  std::fill_n(out, n * n, 0.0);
  if (modes_ == 0) return;
  Scratch scratch;
  double* scaled = scratch.take<double>(p_ * modes_);
  for (const bool second : {false, true}) {
    const std::size_t offset = second ? modes_ : 0;
    const double* value = second ? at.b : at.a;
    const double* other = second ? at.a_mode : at.b_mode;
    double* own = scratch.take<double>(p_);
    for (std::size_t e = 0; e < p_; ++e) own[e] = 2 * root_ * weight[(second ? p_ : 0) + e];
    weigh(own, out + offset * n + offset, n);
    for (std::size_t e = 0; e < p_; ++e)
      for (std::size_t s = 0; s < modes_; ++s) scaled[e * modes_ + s] = 2 * root_ * value[e] * waves_[e * modes_ + s];
    double* mixed = out + offset * n + 2 * modes_;
    blas::gemm<double>(Op::transpose, Op::none, modes_, p_, p_, 1.0, scaled, modes_, r + (second ? p_ * p_ : 0), p_,
                       0.0, mixed, n);
    const double* product = r + 2 * p_ * p_;
    for (std::size_t s = 0; s < modes_; ++s)
      for (std::size_t t = 0; t < modes_; ++t) {
        const double factor = 2 * other[t];
        const double* row = product + (second ? t * modes_ + s : s * modes_ + t) * p_;
        for (std::size_t j = 0; j < p_; ++j) mixed[s * n + j] += factor * row[j];
      }
  }
  for (std::size_t s = 0; s < modes_; ++s)
    for (std::size_t t = 0; t < modes_; ++t) out[s * n + modes_ + t] = 2 * weight[2 * p_ + s * modes_ + t];
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < i; ++j) out[i * n + j] = out[j * n + i];
}

// E[(df/dtheta_left)^T df/dtheta_right] by [A_s | B_s | w] of each. With primes for the right one, all by the moments
// of products of modes without mean:
//   by A_s A'_t  4 w.w' (E[e_s e_t A A'] + [s = t] E[B B']),   by A_s B'_t  4 w.w' (A_s B'_t + A'_s B_t),
//   by w A'_s    2 w' (E[A^2 A' e_s] + E[B^2] A'_s + 2 E[B B'] A_s),
//   by w w'      (E[A^2 A'^2] + E[B^2 B'^2] + E[A^2] E[B'^2] + E[B^2] E[A'^2] + 4 E[A A'] E[B B']) 1.
void ModularCpu::coupling(const Analysis& left, const Analysis& right, const double* w_left, const double* w_right,
                          double* out) const {
  const std::size_t n = compact(), k = modes_;
  std::fill_n(out, n * n, 0.0);
  if (k == 0) return;
  Scratch scratch;
  const double w = dot(p_, w_left, w_right), period = static_cast<double>(p_);
  double* weight = scratch.take<double>(p_);
  double* slope = scratch.take<double>(k);
  double fourth = 0;
  for (const bool second : {false, true}) {
    const std::size_t offset = second ? k : 0;
    // Of this block (A) and of the other (B).
    const double *x = second ? left.b : left.a, *y = second ? right.b : right.a;
    const double *x_mode = second ? left.b_mode : left.a_mode, *y_mode = second ? right.b_mode : right.a_mode;
    const double *x_other = second ? left.a_mode : left.b_mode, *y_other = second ? right.a_mode : right.b_mode;
    const double own_other = dot(k, x_other, x_other), mixed = dot(k, x_other, y_other);
    for (std::size_t e = 0; e < p_; ++e) weight[e] = 4 * w * x[e] * y[e] / period;
    double* block = out + offset * n + offset;
    weigh(weight, block, n);
    for (std::size_t s = 0; s < k; ++s) {
      block[s * n + s] += 4 * w * mixed;
      for (std::size_t t = 0; t < k; ++t)
        out[(offset + s) * n + (k - offset) + t] = 4 * w * (x_mode[s] * y_other[t] + y_mode[s] * x_other[t]);
    }
    // slope_s = E[f e_s (A' + B')] / w and its mirror E[f' e_s (A + B)] / w'.
    for (const bool mirrored : {false, true}) {
      const double *u = mirrored ? y : x, *v = mirrored ? x : y;
      const double *u_mode = mirrored ? y_mode : x_mode, *v_mode = mirrored ? x_mode : y_mode;
      const double other = mirrored ? dot(k, y_other, y_other) : own_other;
      for (std::size_t s = 0; s < k; ++s) slope[s] = other * v_mode[s] + 2 * mixed * u_mode[s];
      for (std::size_t e = 0; e < p_; ++e) {
        const double moment = u[e] * u[e] * v[e] / period;
        for (std::size_t s = 0; s < k; ++s) slope[s] += moment * waves_[e * k + s];
      }
      const double* readout = mirrored ? w_left : w_right;
      for (std::size_t s = 0; s < k; ++s)
        for (std::size_t j = 0; j < p_; ++j) {
          const double entry = 2 * slope[s] * readout[j];
          (mirrored ? out[(offset + s) * n + 2 * k + j] : out[(2 * k + j) * n + offset + s]) = entry;
        }
    }
    for (std::size_t e = 0; e < p_; ++e) fourth += x[e] * x[e] * y[e] * y[e] / period;
    fourth += dot(k, x_mode, x_mode) * dot(k, y_other, y_other);
    if (!second) fourth += 4 * dot(k, x_mode, y_mode) * mixed;
  }
  for (std::size_t j = 0; j < p_; ++j) out[(2 * k + j) * n + 2 * k + j] = fourth;
}

// out = the same matrix by u, v and w, in rows `stride` apart. The matrix is overwritten.
void ModularCpu::outward_block(double* hessian, double* out, std::size_t stride) const {
  const std::size_t n = compact(), k = modes_;
  for (std::size_t i = 0; i < n; ++i) {
    const double row = i < 2 * k ? gain_[i % k] : 1.0;
    for (std::size_t j = 0; j < n; ++j) hessian[i * n + j] *= row * (j < 2 * k ? gain_[j % k] : 1.0);
  }
  if (reduced_) {
    // One empty input between the modes and w.
    for (std::size_t i = 0; i < m_; ++i) {
      double* row = out + i * stride;
      if (i == 2 * k) {
        std::fill_n(row, m_, 0.0);
        continue;
      }
      const double* from = hessian + (i < 2 * k ? i : i - 1) * n;
      std::copy_n(from, 2 * k, row);
      row[2 * k] = 0;
      std::copy_n(from + 2 * k, p_, row + d_);
    }
    return;
  }
  Scratch scratch;
  double* half = scratch.take<double>(m_ * n);
  std::fill_n(half, d_ * n, 0.0);
  std::copy_n(hessian + 2 * k * n, p_ * n, half + d_ * n);
  for (std::size_t i = 0; i < m_; ++i) std::fill_n(out + i * stride, d_, 0.0);
  if (k > 0) {
    for (const std::size_t b : {std::size_t{0}, std::size_t{1}})
      blas::gemm<double>(Op::none, Op::none, p_, n, k, 1.0, basis_.data(), k, hessian + b * k * n, n, 0.0,
                         half + b * p_ * n, n);
    for (const std::size_t b : {std::size_t{0}, std::size_t{1}})
      blas::gemm<double>(Op::none, Op::transpose, m_, p_, k, 1.0, half + b * k, n, basis_.data(), k, 0.0, out + b * p_,
                         stride);
  }
  for (std::size_t i = 0; i < m_; ++i) std::copy_n(half + i * n + 2 * k, p_, out + i * stride + d_);
}

void ModularCpu::utility_hessian(const double* theta, std::size_t count, const Signal& signal, double* out,
                                 Shape) const {
  const double* r = values(signal);
  const double flops = utility_hessian_flops(count);
  pool::for_each(count, flops, [&](std::size_t i) {
    if (flops > pool::worth_sharing) look_for_interruption();
    Scratch scratch;
    const double* row = theta + i * m_;
    double* weight = scratch.take<double>(rows());
    double* matrix = scratch.take<double>(compact() * compact());
    project(row + d_, 1, r, weight);
    curvature(analyse(scratch, row, 1), weight, r, matrix);
    outward_block(matrix, out + i * m_ * m_, m_);
  });
}

// hess L = E[(df/dtheta)^T df/dtheta] - hess U of each neuron by itself.
void ModularCpu::loss_hessian(const double* theta, std::size_t count, const Signal& signal, double* out, Shape) const {
  const double* r = values(signal);
  const std::size_t n = compact(), stride = count * m_;
  const double flops = loss_hessian_flops(count);
  Scratch outer;
  const Analysis all = analyse(outer, theta, count);
  const auto one = [&](std::size_t i) {
    return Analysis{1, all.a_mode + i * modes_, all.b_mode + i * modes_, all.a + i * p_, all.b + i * p_};
  };
  pool::for_each(count * count, flops, [&](std::size_t item) {
    const std::size_t i = item / count, j = item % count;
    if (j > i) return;
    if (flops > pool::worth_sharing) look_for_interruption();
    Scratch scratch;
    const double *w_i = theta + i * m_ + d_, *w_j = theta + j * m_ + d_;
    double* matrix = scratch.take<double>(n * n);
    coupling(one(i), one(j), w_i, w_j, matrix);
    if (i == j) {
      double* weight = scratch.take<double>(rows());
      double* own = scratch.take<double>(n * n);
      project(w_i, 1, r, weight);
      curvature(one(i), weight, r, own);
      for (std::size_t e = 0; e < n * n; ++e) matrix[e] -= own[e];
    }
    outward_block(matrix, out + i * m_ * stride + j * m_, stride);
    if (i == j) return;
    for (std::size_t e = 0; e < m_; ++e)
      for (std::size_t f = 0; f < m_; ++f)
        out[(j * m_ + f) * stride + i * m_ + e] = out[(i * m_ + e) * stride + j * m_ + f];
  });
}

std::unique_ptr<Problem> ModularCpu::reduced(std::vector<double>& basis) const {
  if (reduced_) return nullptr;
  basis = compact_basis();
  auto compact_form = std::make_unique<ModularCpu>(*this);
  compact_form->make_compact();
  return compact_form;
}

// r(a, b) = r(a) + r(b) - mean + sum_st r_st e_s(a) e_t(b)
void ModularCpu::spread(const Signal& signal, double* pairs) const {
  const double* r = values(signal);
  std::vector<double> mean(p_, 0.0), half(modes_ * p_);
  for (std::size_t a = 0; a < p_; ++a)
    for (std::size_t j = 0; j < p_; ++j) mean[j] += r[a * p_ + j] / static_cast<double>(p_);
  for (std::size_t a = 0; a < p_; ++a) {
    double* to = pairs + a * p_ * p_;
    for (std::size_t b = 0; b < p_; ++b)
      for (std::size_t j = 0; j < p_; ++j) to[b * p_ + j] = (r[a * p_ + j] - mean[j] + r[(p_ + b) * p_ + j]) / root_;
    if (modes_ == 0) continue;
    blas::gemm<double>(Op::none, Op::none, 1, modes_ * p_, modes_, 1.0, &waves_[a * modes_], modes_, r + 2 * p_ * p_,
                       modes_ * p_, 0.0, half.data(), modes_ * p_);
    blas::gemm<double>(Op::none, Op::none, p_, p_, modes_, 1.0, waves_.data(), modes_, half.data(), p_, 1.0, to, p_);
  }
}

void ModularCpu::gather(const double* pairs, Signal& signal) const {
  double* r = values(signal);
  const double period = static_cast<double>(p_), weight = root_ / period;
  std::vector<double> half(modes_ * p_);
  std::fill_n(r, rows() * p_, 0.0);
  for (std::size_t a = 0; a < p_; ++a) {
    const double* from = pairs + a * p_ * p_;
    for (std::size_t b = 0; b < p_; ++b)
      for (std::size_t j = 0; j < p_; ++j) {
        r[a * p_ + j] += weight * from[b * p_ + j];
        r[(p_ + b) * p_ + j] += weight * from[b * p_ + j];
      }
    if (modes_ == 0) continue;
    blas::gemm<double>(Op::transpose, Op::none, modes_, p_, p_, 1 / (period * period), waves_.data(), modes_, from, p_,
                       0.0, half.data(), p_);
    blas::gemm<double>(Op::transpose, Op::none, modes_, modes_ * p_, 1, 1.0, &waves_[a * modes_], modes_, half.data(),
                       modes_ * p_, 1.0, r + 2 * p_ * p_, modes_ * p_);
  }
}

}  // namespace agf::cpu
