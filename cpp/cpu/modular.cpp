#include "cpu/modular.hpp"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "agf/interrupt.hpp"
#include "agf/linear.hpp"
#include "cpu/blas.hpp"
#include "cpu/modular_signal.hpp"
#include "cpu/pool.hpp"
#include "cpu/scratch.hpp"

namespace agf::cpu {
namespace {

using blas::Op;

double square(double x) { return x * x; }

}  // namespace

std::unique_ptr<Signal> ModularCpu::make_signal() const { return std::make_unique<ModularSignal>(rows() * p_); }

// Neurons taken together: their features stay in cache.
std::size_t ModularCpu::block() const {
  constexpr std::size_t most_values = std::size_t{1} << 17;
  return std::clamp<std::size_t>(most_values / rows(), 8, 64);
}

// ------------------------------------------------------------------------------------------------------- the parts

ModularCpu::Analysis ModularCpu::analyse(Scratch& scratch, const double* theta, std::size_t count) const {
  Analysis at{count, scratch.take<double>(count * modes_), scratch.take<double>(count * modes_),
              scratch.take<double>(count * p_), scratch.take<double>(count * p_)};
  if (modes_ == 0) {
    std::fill_n(at.a, count * p_, 0.0);
    std::fill_n(at.b, count * p_, 0.0);
    return at;
  }
  for (const auto& [mode, value, offset] :
       {std::tuple{at.a_mode, at.a, std::size_t{0}}, std::tuple{at.b_mode, at.b, second_input()}}) {
    if (reduced_) {
      for (std::size_t i = 0; i < count; ++i) std::copy_n(theta + i * m_ + offset, modes_, mode + i * modes_);
    } else {
      blas::gemm<double>(Op::none, Op::none, count, modes_, p_, 1.0, theta + offset, m_, basis_.data(), modes_, 0.0,
                         mode, modes_);
    }
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t s = 0; s < modes_; ++s) mode[i * modes_ + s] *= gain_[s];
    blas::gemm<double>(Op::none, Op::transpose, count, p_, modes_, 1.0, mode, modes_, waves_.data(), modes_, 0.0, value,
                       p_);
  }
  return at;
}

// What a residual in its components is weighed with: U = features . r w.
void ModularCpu::features(const Analysis& at, double* out) const {
  for (std::size_t i = 0; i < at.count; ++i) {
    double* row = out + i * rows();
    for (std::size_t e = 0; e < p_; ++e) {
      row[e] = root_ * square(at.a[i * p_ + e]);
      row[p_ + e] = root_ * square(at.b[i * p_ + e]);
    }
    double* product = row + 2 * p_;
    for (std::size_t s = 0; s < modes_; ++s) {
      const double left = 2 * at.a_mode[i * modes_ + s];
      for (std::size_t t = 0; t < modes_; ++t) product[s * modes_ + t] = left * at.b_mode[i * modes_ + t];
    }
  }
}

// The derivative of `features` along a change of the parameters.
void ModularCpu::features_along(const Analysis& at, const Analysis& along, double* out) const {
  for (std::size_t i = 0; i < at.count; ++i) {
    double* row = out + i * rows();
    for (std::size_t e = i * p_, k = 0; k < p_; ++e, ++k) {
      row[k] = 2 * root_ * at.a[e] * along.a[e];
      row[p_ + k] = 2 * root_ * at.b[e] * along.b[e];
    }
    double* product = row + 2 * p_;
    const double *b = at.b_mode + i * modes_, *b_along = along.b_mode + i * modes_;
    for (std::size_t s = 0; s < modes_; ++s) {
      const double left = 2 * at.a_mode[i * modes_ + s], moved = 2 * along.a_mode[i * modes_ + s];
      for (std::size_t t = 0; t < modes_; ++t) product[s * modes_ + t] = moved * b[t] + left * b_along[t];
    }
  }
}

// Turns features into components of the output: the mean over b of (A + B)^2 is A^2 + E B^2. E B^2 = |B_s|^2 is
// bilinear, of `at` and `along`.
void ModularCpu::add_means(const Analysis& at, const Analysis& along, double factor, double* out) const {
  for (std::size_t i = 0; i < at.count; ++i) {
    const double a = factor * root_ * dot(modes_, at.a_mode + i * modes_, along.a_mode + i * modes_);
    const double b = factor * root_ * dot(modes_, at.b_mode + i * modes_, along.b_mode + i * modes_);
    double* row = out + i * rows();
    for (std::size_t e = 0; e < p_; ++e) {
      row[e] += b;
      row[p_ + e] += a;
    }
  }
}

// r -= features^T w, w in rows m_ apart.
void ModularCpu::subtract(double* r, const double* features, const double* w, std::size_t count) const {
  constexpr std::size_t cut = 256;
  const std::size_t cuts = (rows() + cut - 1) / cut;
  pool::for_each(cuts, 2.0 * static_cast<double>(rows() * p_ * count), [&](std::size_t item) {
    const std::size_t first = item * cut;
    blas::gemm<double>(Op::transpose, Op::none, std::min(cut, rows() - first), p_, count, -1.0, features + first,
                       rows(), w, m_, 1.0, r + first * p_, p_);
  });
}

// out = w r^T: what weighs the features.
void ModularCpu::project(const double* w, std::size_t count, const double* r, double* out) const {
  blas::gemm<double>(Op::none, Op::transpose, count, rows(), p_, 1.0, w, m_, r, p_, 0.0, out, rows());
}

// The derivative of weight . features by A_s and B_s: (2 / sqrt p) sum_a e_s(a) A(a) weight(a) + 2 sum_t weight_st B_t.
void ModularCpu::pull(const Analysis& at, const double* weight, double beta, double* a_out, double* b_out) const {
  if (modes_ == 0) return;
  Scratch scratch;
  double* a = scratch.take<double>(at.count * p_);
  double* b = scratch.take<double>(at.count * p_);
  for (std::size_t i = 0; i < at.count; ++i)
    for (std::size_t e = 0; e < p_; ++e) {
      a[i * p_ + e] = 2 * root_ * at.a[i * p_ + e] * weight[i * rows() + e];
      b[i * p_ + e] = 2 * root_ * at.b[i * p_ + e] * weight[i * rows() + p_ + e];
    }
  blas::gemm<double>(Op::none, Op::none, at.count, modes_, p_, 1.0, a, p_, waves_.data(), modes_, beta, a_out, modes_);
  blas::gemm<double>(Op::none, Op::none, at.count, modes_, p_, 1.0, b, p_, waves_.data(), modes_, beta, b_out, modes_);
  for (std::size_t i = 0; i < at.count; ++i) {
    const double* product = weight + i * rows() + 2 * p_;
    const double *a_mode = at.a_mode + i * modes_, *b_mode = at.b_mode + i * modes_;
    for (std::size_t s = 0; s < modes_; ++s) {
      a_out[i * modes_ + s] += 2 * dot(modes_, product + s * modes_, b_mode);
      for (std::size_t t = 0; t < modes_; ++t) b_out[i * modes_ + t] += 2 * a_mode[s] * product[s * modes_ + t];
    }
  }
}

// Slopes by A_s and B_s to slopes by u and v, in rows m_ apart. The slopes are overwritten by theirs by <q_s, u>.
void ModularCpu::outward(double* a_slope, double* b_slope, std::size_t count, double* out) const {
  for (const auto& [slope, offset] : {std::pair{a_slope, std::size_t{0}}, std::pair{b_slope, second_input()}}) {
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t s = 0; s < modes_; ++s) slope[i * modes_ + s] *= gain_[s];
    if (reduced_ || modes_ == 0) {
      for (std::size_t i = 0; i < count; ++i) {
        std::fill_n(out + i * m_ + offset, reduced_ ? modes_ : p_, 0.0);
        std::copy_n(slope + i * modes_, modes_, out + i * m_ + offset);
      }
    } else {
      blas::gemm<double>(Op::none, Op::transpose, count, p_, modes_, 1.0, slope, modes_, basis_.data(), modes_, 0.0,
                         out + offset, m_);
    }
  }
  if (reduced_)
    for (std::size_t i = 0; i < count; ++i) out[i * m_ + 2 * modes_] = 0;
}

// ------------------------------------------------------------------------------------------------------ the leaves

double ModularCpu::residual(const double* theta, std::size_t count, Signal& r, Shape) const {
  double* out = values(r);
  std::copy(target_.begin(), target_.end(), out);
  const bool long_work = evaluation_flops(count) > pool::worth_sharing;
  for (std::size_t first = 0; first < count; first += block()) {
    if (long_work) look_for_interruption();
    Scratch scratch;
    const std::size_t h = std::min(block(), count - first);
    const Analysis at = analyse(scratch, theta + first * m_, h);
    double* output = scratch.take<double>(h * rows());
    features(at, output);
    add_means(at, at, 1, output);
    subtract(out, output, theta + first * m_ + d_, h);
  }
  // Both means hold the mean over all pairs: it counts once.
  double sum = 0;
  std::vector<double> mean(p_, 0.0);
  for (std::size_t a = 0; a < p_; ++a)
    for (std::size_t j = 0; j < p_; ++j) mean[j] += out[a * p_ + j] / static_cast<double>(p_);
  for (std::size_t a = 0; a < p_; ++a)
    for (std::size_t j = 0; j < p_; ++j) sum += square(out[a * p_ + j] - mean[j]);
  return 0.5 * (sum + dot((rows() - p_) * p_, out + p_ * p_, out + p_ * p_));
}

void ModularCpu::residual_derivative(const double* theta, const double* v, std::size_t count, Signal& dr, Shape) const {
  double* out = values(dr);
  std::fill_n(out, rows() * p_, 0.0);
  const bool long_work = evaluation_flops(count) > pool::worth_sharing;
  for (std::size_t first = 0; first < count; first += block()) {
    if (long_work) look_for_interruption();
    Scratch scratch;
    const std::size_t h = std::min(block(), count - first);
    const Analysis at = analyse(scratch, theta + first * m_, h), along = analyse(scratch, v + first * m_, h);
    double* output = scratch.take<double>(h * rows());
    features_along(at, along, output);
    add_means(at, along, 2, output);
    subtract(out, output, theta + first * m_ + d_, h);
    features(at, output);
    add_means(at, at, 1, output);
    subtract(out, output, v + first * m_ + d_, h);
  }
}

// U = features . (r w);  grad_w U = r^T features
void ModularCpu::utility(const double* theta, std::size_t count, const Signal& signal, double* value, double* gradient,
                         Shape) const {
  const double* r = values(signal);
  const double flops = evaluation_flops(count);
  pool::for_each((count + block() - 1) / block(), flops, [&](std::size_t item) {
    if (flops > pool::worth_sharing) look_for_interruption();
    Scratch scratch;
    const std::size_t first = item * block(), h = std::min(block(), count - first);
    const double* rows_of = theta + first * m_;
    const Analysis at = analyse(scratch, rows_of, h);
    double* feature = scratch.take<double>(h * rows());
    double* weight = scratch.take<double>(h * rows());
    features(at, feature);
    project(rows_of + d_, h, r, weight);
    if (value)
      for (std::size_t i = 0; i < h; ++i) value[first + i] = dot(rows(), feature + i * rows(), weight + i * rows());
    if (!gradient) return;
    double* out = gradient + first * m_;
    double* a_slope = scratch.take<double>(h * modes_);
    double* b_slope = scratch.take<double>(h * modes_);
    pull(at, weight, 0, a_slope, b_slope);
    outward(a_slope, b_slope, h, out);
    blas::gemm<double>(Op::none, Op::none, h, p_, rows(), 1.0, feature, rows(), r, p_, 0.0, out + d_, m_);
  });
}

void ModularCpu::curvature_vector(const double* theta, const double* v, std::size_t count, const Signal& signal,
                                  const Signal* moved, double* out, Shape) const {
  const double* r = values(signal);
  const double* dr = moved ? values(*moved) : nullptr;
  const double flops = 2 * evaluation_flops(count);
  pool::for_each((count + block() - 1) / block(), flops, [&](std::size_t item) {
    if (flops > pool::worth_sharing) look_for_interruption();
    Scratch scratch;
    const std::size_t first = item * block(), h = std::min(block(), count - first);
    const double *rows_of = theta + first * m_, *along_of = v + first * m_;
    const Analysis at = analyse(scratch, rows_of, h), along = analyse(scratch, along_of, h);
    double* feature = scratch.take<double>(h * rows());
    double* weight = scratch.take<double>(h * rows());
    double* a_slope = scratch.take<double>(h * modes_);
    double* b_slope = scratch.take<double>(h * modes_);
    double* to = out + first * m_;
    project(rows_of + d_, h, r, weight);
    pull(along, weight, 0, a_slope, b_slope);
    project(along_of + d_, h, r, weight);
    if (dr) {
      blas::gemm<double>(Op::none, Op::transpose, h, rows(), p_, 1.0, rows_of + d_, m_, dr, p_, 1.0, weight, rows());
    }
    pull(at, weight, 1, a_slope, b_slope);
    outward(a_slope, b_slope, h, to);
    features_along(at, along, feature);
    blas::gemm<double>(Op::none, Op::none, h, p_, rows(), 1.0, feature, rows(), r, p_, 0.0, to + d_, m_);
    if (!dr) return;
    features(at, feature);
    blas::gemm<double>(Op::none, Op::none, h, p_, rows(), 1.0, feature, rows(), dr, p_, 1.0, to + d_, m_);
  });
}

// |w| sqrt E (A + B)^4
void ModularCpu::contribution(const double* theta, std::size_t count, double* out) const {
  for (std::size_t i = 0; i < count; ++i) {
    Scratch scratch;
    const Analysis at = analyse(scratch, theta + i * m_, 1);
    double* feature = scratch.take<double>(rows());
    double* output = scratch.take<double>(rows());
    features(at, feature);
    std::copy_n(feature, rows(), output);
    add_means(at, at, 1, output);
    out[i] = norm(p_, theta + i * m_ + d_) * std::sqrt(dot(rows(), feature, output));
  }
}
}  // namespace agf::cpu
