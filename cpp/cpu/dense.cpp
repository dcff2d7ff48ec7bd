#include "cpu/dense.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "agf/balance.hpp"
#include "agf/interrupt.hpp"
#include "cpu/blas.hpp"
#include "cpu/isa.hpp"
#include "cpu/pool.hpp"
#include "cpu/scratch.hpp"

namespace agf::cpu {
namespace {

using blas::Op;

struct Traits {
  int degree;
  bool homogeneous, kinked, linear;
};

Traits traits(Sigma sigma) {
  switch (sigma) {
#define AGF_DENSE(name, leaf, degree, homogeneous, kinked, linear) \
  case Sigma::name:                                                \
    return {degree, homogeneous, kinked, linear};
#include "agf/models.def"
#undef AGF_DENSE
  }
  return {};
}

template <typename T>
struct DenseSignal final : Signal {
  explicit DenseSignal(std::size_t size) : values(size) {}
  std::vector<T> values;
};

template <typename T>
const T* values(const Signal& signal) {
  return static_cast<const DenseSignal<T>&>(signal).values.data();
}
template <typename T>
T* values(Signal& signal) {
  return static_cast<DenseSignal<T>&>(signal).values.data();
}

// The same numbers in T: as they are, or copied to scratch.
template <typename T, typename P>
const T* in(Scratch& scratch, const P* from, std::size_t size) {
  if constexpr (std::is_same_v<T, P>) {
    return from;
  } else {
    T* to = scratch.take<T>(size);
    for (std::size_t i = 0; i < size; ++i) to[i] = static_cast<T>(from[i]);
    return to;
  }
}

std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

// total = the sum of `chunks` rows that lie `stride` apart.
template <typename T>
void add_up(const T* parts, std::size_t stride, std::size_t chunks, std::size_t width, double* total) {
  for (std::size_t k = 0; k < width; ++k) total[k] = static_cast<double>(parts[k]);
  for (std::size_t q = 1; q < chunks; ++q) {
    for (std::size_t k = 0; k < width; ++k) total[k] += static_cast<double>(parts[q * stride + k]);
  }
}

// The length of equal pieces of at most `most` (or a little more, for the rounding), a multiple of `unit` when cut at
// all.
std::size_t piece(std::size_t total, std::size_t most, std::size_t unit) {
  if (total <= most) return std::max<std::size_t>(total, 1);
  return divide_up(divide_up(total, divide_up(total, most)), unit) * unit;
}

}  // namespace

template <typename T>
DenseCpu<T>::DenseCpu(const T* x, std::size_t n, std::size_t d, const T* y, std::size_t c, Sigma sigma,
                      double parameter)
    : n_(n), d_(d), c_(c), m_(d + c), sigma_(sigma), parameter_(parameter), x_(x, x + n * d), y_(y, y + n * c) {
  input_scale_ = std::sqrt(loops<T>().sum_squares(n * d, x) / static_cast<double>(n));
  // A product against rows of X^T needs no packing and is up to twice as fast when tiles are small; with many inputs
  // the gain is gone and the copy is not.
  constexpr std::size_t most_inputs = 256, most_bytes = std::size_t{1} << 24;
  if (d <= most_inputs && n * d * sizeof(T) <= most_bytes) {
    stride_ = divide_up(n, 16) * 16;
    // Rows a power of two apart would share cache sets.
    if (stride_ % 256 == 0) stride_ += 16;
    transposed_.assign(d * stride_, T(0));
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < d; ++j) transposed_[j * stride_ + i] = x[i * d + j];
    }
  }
}

template <typename T>
double DenseCpu<T>::kappa() const {
  return traits(sigma_).degree + 1;
}
template <typename T>
bool DenseCpu<T>::homogeneous() const {
  return traits(sigma_).homogeneous;
}
template <typename T>
bool DenseCpu<T>::kinked() const {
  return traits(sigma_).kinked;
}
template <typename T>
double DenseCpu<T>::epsilon() const {
  return std::numeric_limits<T>::epsilon() / 2;
}

template <typename T>
auto DenseCpu<T>::inputs_of_samples() const -> Inputs {
  return {x_.data(), transposed_.empty() ? nullptr : transposed_.data(), stride_};
}

template <typename T>
Nonlinearity DenseCpu<T>::nonlinearity(Shape shape) const {
  return {sigma_, parameter_, shape.leading};
}

// Whether sigma'' can differ from zero.
template <typename T>
bool DenseCpu<T>::curved(Shape shape) const {
  const Traits t = traits(sigma_);
  if (t.kinked) return shape.ramp != nullptr;
  if (shape.leading && !t.homogeneous) return false;
  return !t.linear;
}

// ---------------------------------------------------------------------------------------------------------- tiles

// Two arrays of block x rows, and the rows of X, stay in L2 where that leaves the products sides long enough to be
// fast.
template <typename T>
auto DenseCpu<T>::cut_samples(std::size_t count, std::size_t samples) const -> Cut {
  Cut p{};
  const bool many_inputs = d_ > 256;
  p.block = piece(count, many_inputs ? 256 : 128, 8);
  p.blocks = divide_up(count, p.block);
  const std::size_t tile = (std::size_t{1} << 18) / sizeof(T);
  std::size_t most = std::clamp<std::size_t>(std::min(tile / p.block, tile / d_), many_inputs ? 512 : 256, 2048);
  // Here tiles this short reach the product's small kernels, which pack nothing: 64 % of the arithmetic limit in place
  // of 56 % with 32 neurons and 1024 inputs. In double they gain nothing.
  if (many_inputs && p.block * d_ <= (std::size_t{1} << 15) && sizeof(T) == sizeof(float)) most = 16;
  p.rows = piece(samples, most, 16);
  p.tiles = divide_up(samples, p.rows);
  p.chunk = p.chunks = 1;
  return p;
}

// `passes`: floating-point operations per sample, neuron and parameter.
template <typename T>
auto DenseCpu<T>::cut(std::size_t count, double passes) const -> Cut {
  Cut p = cut_samples(count, n_);
  // As many pieces of work as would keep many cores busy, none too small to be worth handing over, and partial sums in
  // bounded memory.
  constexpr std::size_t most_partial = std::size_t{1} << 24;
  const double flops = passes * static_cast<double>(n_) * static_cast<double>(count) * static_cast<double>(m_);
  const auto pieces = static_cast<std::size_t>(std::min(64.0, flops / 2e6));
  const std::size_t room = std::max<std::size_t>(1, most_partial / std::max<std::size_t>(1, count * m_ * sizeof(T)));
  const std::size_t chunks = std::clamp<std::size_t>(divide_up(pieces, p.blocks), 1, std::min(p.tiles, room));
  p.chunk = divide_up(p.tiles, chunks);
  p.chunks = divide_up(p.tiles, p.chunk);
  return p;
}

// z (h, b) = w x^T for b samples from `row`; w has rows of m.
template <typename T>
void DenseCpu<T>::analyse(const T* w, std::size_t h, const Inputs& in, std::size_t row, std::size_t b, T* z) const {
  if (in.transposed) {
    blas::gemm<T>(Op::none, Op::none, h, b, d_, T(1), w, m_, in.transposed + row, in.stride, T(0), z, b);
  } else {
    blas::gemm<T>(Op::none, Op::transpose, h, b, d_, T(1), w, m_, in.x + row * d_, d_, T(0), z, b);
  }
}

// g (h, b) = a r^T; a has rows of m.
template <typename T>
void DenseCpu<T>::project(const T* a, std::size_t h, const T* r, std::size_t row, std::size_t b, T* g) const {
  blas::gemm<T>(Op::none, Op::transpose, h, b, c_, T(1), a, m_, r + row * c_, c_, T(0), g, b);
}

// out (h, width) = beta out + E over the tile of p (h, b) signal (b, width).
template <typename T>
void DenseCpu<T>::collect(const T* p, const T* signal, std::size_t width, std::size_t h, std::size_t row, std::size_t b,
                          T beta, T* out, std::size_t stride) const {
  blas::gemm<T>(Op::none, Op::none, h, width, b, T(1) / static_cast<T>(n_), p, b, signal + row * width, width, beta,
                out, stride);
}

// --------------------------------------------------------------------------------------------------------- leaves

// f <- sum_i f_i, or target - sum_i f_i where a target is given; returns 1/2 E|f|^2 of what is left in f.
template <typename T>
template <typename P>
double DenseCpu<T>::forward(const P* theta, std::size_t count, const Inputs& inputs, std::size_t samples,
                            const T* target, T* f, Shape shape) const {
  Cut p = cut_samples(count, samples);
  const double flops = 2.0 * static_cast<double>(samples) * static_cast<double>(count) * static_cast<double>(m_) + 1.0;
  if (flops > pool::worth_sharing) {
    p.rows = std::min(p.rows, std::max<std::size_t>(64, divide_up(divide_up(samples, 16), 16) * 16));
    p.tiles = divide_up(samples, p.rows);
  }
  const Nonlinearity sigma = nonlinearity(shape);
  Scratch outer;
  double* squares = outer.take<double>(p.tiles);
  pool::for_each(p.tiles, flops, [&](std::size_t tile) {
    const std::size_t row = tile * p.rows, b = std::min(p.rows, samples - row);
    T* out = f + row * c_;
    if (target) {
      std::copy_n(target + row * c_, b * c_, out);
    } else {
      std::fill_n(out, b * c_, T(0));
    }
    for (std::size_t first = 0; first < count; first += p.block) {
      if (flops > pool::worth_sharing) look_for_interruption();
      const std::size_t h = std::min(p.block, count - first);
      Scratch scratch;
      const T* block = in<T>(scratch, theta + first * m_, h * m_);
      const T* ramp = shape.ramp ? in<T>(scratch, shape.ramp + first, h) : nullptr;
      T* z = scratch.take<T>(h * b);
      analyse(block, h, inputs, row, b, z);
      loops<T>().value(sigma, ramp, h, b, z);
      blas::gemm<T>(Op::transpose, Op::none, b, c_, h, target ? T(-1) : T(1), z, b, block + d_, m_, T(1), out, c_);
    }
    squares[tile] = loops<T>().sum_squares(b * c_, out);
  });
  double sum = 0;
  for (std::size_t tile = 0; tile < p.tiles; ++tile) sum += squares[tile];
  return 0.5 * sum / static_cast<double>(samples);
}

// dr = -sum_i [ sigma(z_i) v_a + sigma'(z_i) (v_w x) a ]
template <typename T>
template <typename P>
void DenseCpu<T>::derivative(const P* theta, const P* v, std::size_t count, T* dr, Shape shape) const {
  Cut p = cut_samples(count, n_);
  const double flops = 4.0 * static_cast<double>(n_) * static_cast<double>(count) * static_cast<double>(m_) + 1.0;
  if (flops > pool::worth_sharing) {
    p.rows = std::min(p.rows, std::max<std::size_t>(64, divide_up(divide_up(n_, 16), 16) * 16));
    p.tiles = divide_up(n_, p.rows);
  }
  const Nonlinearity sigma = nonlinearity(shape);
  const Inputs inputs = inputs_of_samples();
  pool::for_each(p.tiles, flops, [&](std::size_t tile) {
    const std::size_t row = tile * p.rows, b = std::min(p.rows, n_ - row);
    T* out = dr + row * c_;
    std::fill_n(out, b * c_, T(0));
    for (std::size_t first = 0; first < count; first += p.block) {
      if (flops > pool::worth_sharing) look_for_interruption();
      const std::size_t h = std::min(p.block, count - first);
      Scratch scratch;
      const T* block = in<T>(scratch, theta + first * m_, h * m_);
      const T* along = in<T>(scratch, v + first * m_, h * m_);
      const T* ramp = shape.ramp ? in<T>(scratch, shape.ramp + first, h) : nullptr;
      T* z = scratch.take<T>(h * b);
      T* t = scratch.take<T>(h * b);
      analyse(block, h, inputs, row, b, z);
      analyse(along, h, inputs, row, b, t);
      loops<T>().pair(sigma, ramp, h, b, z, t);
      blas::gemm<T>(Op::transpose, Op::none, b, c_, h, T(-1), z, b, along + d_, m_, T(1), out, c_);
      blas::gemm<T>(Op::transpose, Op::none, b, c_, h, T(-1), t, b, block + d_, m_, T(1), out, c_);
    }
  });
}

// Sums over samples of something of `width` numbers per neuron. tile(first, h, row, b, beta, out) sets out (h, width)
// to beta out plus the sum over one tile; finish(first, h, parts, stride, chunks) receives `chunks` partial sums,
// `stride` apart.
template <typename T>
void DenseCpu<T>::sum_chunks(const Cut& p, std::size_t count, std::size_t width, double flops, const auto& tile,
                             const auto& finish) const {
  Scratch outer;
  T* partial = p.chunks > 1 ? outer.take<T>(p.chunks * count * width) : nullptr;
  pool::for_each(p.blocks * p.chunks, flops, [&](std::size_t item) {
    const std::size_t chunk = item / p.blocks;
    const std::size_t first = item % p.blocks * p.block, h = std::min(p.block, count - first);
    Scratch scratch;
    T* out = partial ? partial + (chunk * count + first) * width : scratch.take<T>(h * width);
    const std::size_t last = std::min(p.tiles, (chunk + 1) * p.chunk);
    for (std::size_t k = chunk * p.chunk; k < last; ++k) {
      if (flops > pool::worth_sharing) look_for_interruption();
      const std::size_t row = k * p.rows;
      tile(first, h, row, std::min(p.rows, n_ - row), k == chunk * p.chunk ? T(0) : T(1), out);
    }
    if (!partial) finish(first, h, out, 0, 1);
  });
  if (!partial) return;
  const std::size_t group = piece(count, divide_up(count, 16), 1);
  const double reads = static_cast<double>(p.chunks * count * width);
  pool::for_each(divide_up(count, group), 4 * reads, [&](std::size_t item) {
    const std::size_t first = item * group;
    finish(first, std::min(group, count - first), partial + first * width, count * width, p.chunks);
  });
}

// U = E sigma(z) g = a . E[sigma(z) r],  g = a . r;  grad_a U = E[sigma(z) r];  grad_w U = E[sigma'(z) g x]
template <typename T>
template <typename P>
void DenseCpu<T>::utility_of(const P* theta, std::size_t count, const T* r, P* value, P* gradient, Shape shape) const {
  if (count == 0) return;
  const std::size_t width = gradient ? m_ : c_, offset = gradient ? d_ : 0;
  const Nonlinearity sigma = nonlinearity(shape);
  const Inputs inputs = inputs_of_samples();
  const auto tile = [&](std::size_t first, std::size_t h, std::size_t row, std::size_t b, T beta, T* out) {
    Scratch scratch;
    const T* block = in<T>(scratch, theta + first * m_, h * m_);
    const T* ramp = shape.ramp ? in<T>(scratch, shape.ramp + first, h) : nullptr;
    T* z = scratch.take<T>(h * b);
    analyse(block, h, inputs, row, b, z);
    if (gradient) {
      T* g = scratch.take<T>(h * b);
      project(block + d_, h, r, row, b, g);
      loops<T>().pair(sigma, ramp, h, b, z, g);
      collect(g, x_.data(), d_, h, row, b, beta, out, width);
    } else {
      loops<T>().value(sigma, ramp, h, b, z);
    }
    collect(z, r, c_, h, row, b, beta, out + offset, width);
  };
  const auto finish = [&](std::size_t first, std::size_t h, const T* parts, std::size_t stride, std::size_t chunks) {
    Scratch scratch;
    double* total = scratch.take<double>(width);
    for (std::size_t j = 0; j < h; ++j) {
      add_up(parts + j * width, stride, chunks, width, total);
      if (gradient) {
        P* to = gradient + (first + j) * m_;
        for (std::size_t k = 0; k < width; ++k) to[k] = static_cast<P>(total[k]);
      }
      if (value) {
        const P* a = theta + (first + j) * m_ + d_;
        double sum = 0;
        for (std::size_t o = 0; o < c_; ++o) sum += static_cast<double>(a[o]) * total[offset + o];
        value[first + j] = static_cast<P>(sum);
      }
    }
  };
  sum_chunks(cut(count, gradient ? 4 : 2), count, width, evaluation_flops(count), tile, finish);
}

// hess U v:  w: E[(sigma'' t g + sigma' (v_a . r)) x],  a: E[sigma' t r],  t = v_w . x,  g = a . r;
// with dr, plus grad U(.; dr):  w: E[sigma' (a . dr) x],  a: E[sigma dr].
template <typename T>
template <typename P>
void DenseCpu<T>::curvature_of(const P* theta, const P* v, std::size_t count, const T* r, const T* dr, double sign,
                               P* out, Shape shape) const {
  if (count == 0) return;
  const Nonlinearity sigma = nonlinearity(shape);
  const Inputs inputs = inputs_of_samples();
  const auto tile = [&](std::size_t first, std::size_t h, std::size_t row, std::size_t b, T beta, T* sum) {
    Scratch scratch;
    const T* block = in<T>(scratch, theta + first * m_, h * m_);
    const T* along = in<T>(scratch, v + first * m_, h * m_);
    const T* ramp = shape.ramp ? in<T>(scratch, shape.ramp + first, h) : nullptr;
    T* z = scratch.take<T>(h * b);
    T* t = scratch.take<T>(h * b);
    T* g = scratch.take<T>(h * b);
    T* k = scratch.take<T>(h * b);
    analyse(block, h, inputs, row, b, z);
    analyse(along, h, inputs, row, b, t);
    project(block + d_, h, r, row, b, g);
    project(along + d_, h, r, row, b, k);
    if (dr) {
      blas::gemm<T>(Op::none, Op::transpose, h, b, c_, T(1), block + d_, m_, dr + row * c_, c_, T(1), k, b);
    }
    loops<T>().curve(sigma, ramp, h, b, z, t, g, k);
    collect(g, x_.data(), d_, h, row, b, beta, sum, m_);
    collect(t, r, c_, h, row, b, beta, sum + d_, m_);
    if (dr) collect(z, dr, c_, h, row, b, T(1), sum + d_, m_);
  };
  const auto finish = [&](std::size_t first, std::size_t h, const T* parts, std::size_t stride, std::size_t chunks) {
    Scratch scratch;
    double* total = scratch.take<double>(m_);
    for (std::size_t j = 0; j < h; ++j) {
      add_up(parts + j * m_, stride, chunks, m_, total);
      P* to = out + (first + j) * m_;
      for (std::size_t k = 0; k < m_; ++k) to[k] = static_cast<P>(sign * total[k]);
    }
  };
  sum_chunks(cut(count, 6), count, m_, 2 * evaluation_flops(count), tile, finish);
}

// ------------------------------------------------------------------------------------------------------- hessians

// A few neurons over one tile of samples. Row j (d + 1) + l of `features` is sigma'(z_j) x_l for l < d, and sigma(z_j)
// for l = d.
template <typename T>
struct DenseCpu<T>::Panel {
  std::size_t first, h;
  const T* block;  // (h, m)
  const T* ramp;
  T *z, *s1, *s2;  // (h, rows)
  T* features;     // (h (d + 1), rows)
  T* columns;      // (d, rows): the tile of X^T
};

template <typename T>
template <typename P>
auto DenseCpu<T>::panel(Scratch& scratch, const P* theta, std::size_t first, std::size_t h, std::size_t rows,
                        Shape shape) const -> Panel {
  Panel p{};
  p.first = first;
  p.h = h;
  p.block = in<T>(scratch, theta + first * m_, h * m_);
  p.ramp = shape.ramp ? in<T>(scratch, shape.ramp + first, h) : nullptr;
  p.z = scratch.take<T>(h * rows);
  p.s1 = scratch.take<T>(h * rows);
  p.s2 = scratch.take<T>(h * rows);
  p.features = scratch.take<T>(h * (d_ + 1) * rows);
  p.columns = transposed_.empty() ? scratch.take<T>(d_ * rows) : nullptr;
  return p;
}

template <typename T>
void DenseCpu<T>::fill(Panel& p, std::size_t row, std::size_t b, Shape shape) const {
  analyse(p.block, p.h, inputs_of_samples(), row, b, p.z);
  loops<T>().jets(nonlinearity(shape), p.ramp, p.h, b, p.z, p.s1, p.s2);
  if (p.columns) {
    for (std::size_t i = 0; i < b; ++i) {
      for (std::size_t l = 0; l < d_; ++l) p.columns[l * b + i] = x_[(row + i) * d_ + l];
    }
  }
  for (std::size_t j = 0; j < p.h; ++j) {
    T* to = p.features + j * (d_ + 1) * b;
    for (std::size_t l = 0; l < d_; ++l) {
      const T* column = p.columns ? p.columns + l * b : transposed_.data() + l * stride_ + row;
      loops<T>().multiply(b, p.s1 + j * b, column, to + l * b);
    }
    std::copy_n(p.z + j * b, b, to + d_ * b);
  }
}

// Adds the tile's part of E[sigma'' g x x^T] to ww (h, d, d; skipped where sigma'' = 0) and of E[sigma' x r^T] to wa
// (h, d + 1, c; the last row of each is E[sigma r]). Overwrites s2.
template <typename T>
void DenseCpu<T>::curve_terms(Panel& p, const T* r, std::size_t row, std::size_t b, Shape shape, T* ww, T* wa) const {
  collect(p.features, r, c_, p.h * (d_ + 1), row, b, T(1), wa, c_);
  if (!curved(shape)) return;
  const T scale = T(1) / static_cast<T>(n_);
  Scratch scratch;
  T* g = scratch.take<T>(p.h * b);
  project(p.block + d_, p.h, r, row, b, g);
  loops<T>().multiply(p.h * b, g, p.s2, p.s2);
  T* plain = scratch.take<T>(b * d_);
  T* weighted = scratch.take<T>(b * d_);
  for (std::size_t j = 0; j < p.h; ++j) {
    // On a ramp most weights are zero: only the samples that have one take part.
    const T* weight = p.s2 + j * b;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < b; ++i) {
      if (weight[i] == T(0)) continue;
      const T* x = x_.data() + (row + i) * d_;
      T* from = plain + kept * d_;
      T* to = weighted + kept * d_;
      for (std::size_t l = 0; l < d_; ++l) {
        from[l] = x[l];
        to[l] = weight[i] * x[l];
      }
      ++kept;
    }
    if (kept) {
      blas::gemm<T>(Op::transpose, Op::none, d_, d_, kept, scale, weighted, d_, plain, d_, T(1), ww + j * d_ * d_, d_);
    }
  }
}

template <typename T>
template <typename P>
void DenseCpu<T>::utility_hessian_of(const P* theta, std::size_t count, const T* r, P* out, Shape shape) const {
  const std::size_t most = std::max<std::size_t>(1, 256 / (d_ + 1));
  const std::size_t group = piece(count, most, 1), groups = divide_up(count, group);
  const std::size_t rows = piece(n_, 512, 16);
  const bool bent = curved(shape);
  pool::for_each(groups, utility_hessian_flops(count), [&](std::size_t item) {
    const std::size_t first = item * group, h = std::min(group, count - first);
    Scratch scratch;
    Panel p = panel(scratch, theta, first, h, rows, shape);
    T* wa = scratch.take<T>(h * (d_ + 1) * c_);
    T* ww = bent ? scratch.take<T>(h * d_ * d_) : nullptr;
    std::fill_n(wa, h * (d_ + 1) * c_, T(0));
    if (bent) std::fill_n(ww, h * d_ * d_, T(0));
    for (std::size_t row = 0; row < n_; row += rows) {
      const std::size_t b = std::min(rows, n_ - row);
      fill(p, row, b, shape);
      curve_terms(p, r, row, b, shape, ww, wa);
    }
    for (std::size_t j = 0; j < h; ++j) {
      P* to = out + (first + j) * m_ * m_;
      std::fill_n(to, m_ * m_, P(0));
      for (std::size_t k = 0; k < d_; ++k) {
        for (std::size_t l = 0; bent && l <= k; ++l) {
          to[k * m_ + l] = to[l * m_ + k] = static_cast<P>(ww[(j * d_ + k) * d_ + l]);
        }
        for (std::size_t o = 0; o < c_; ++o) {
          to[k * m_ + d_ + o] = to[(d_ + o) * m_ + k] = static_cast<P>(wa[(j * (d_ + 1) + k) * c_ + o]);
        }
      }
    }
  });
}

// With C_jk = E[phi_j phi_k^T], phi_j = (sigma'(z_j) x, sigma(z_j)):
//   ww[j, k] = (a_j . a_k) C_jk[x, x],  w_j a_k: C_jk[x, 1] a_j^T,  aa[j, k] = C_jk[1, 1] I,  minus hess U_j where j =
//   k.
// Work goes by pairs of panels of neurons; each pair forms its own features again, which costs little beside their
// product.
template <typename T>
template <typename P>
void DenseCpu<T>::loss_hessian_of(const P* theta, std::size_t count, const T* r, P* out, Shape shape) const {
  if (count == 0) return;
  const std::size_t e = d_ + 1, size = count * m_;
  const std::size_t group = piece(count, std::max<std::size_t>(1, 256 / e), 1), groups = divide_up(count, group);
  const std::size_t rows = piece(n_, 512, 16);
  const bool bent = curved(shape);
  const T scale = T(1) / static_cast<T>(n_);
  pool::for_each(groups * (groups + 1) / 2, loss_hessian_flops(count), [&](std::size_t item) {
    std::size_t p_index = 0, rest = item;
    while (rest > p_index) rest -= ++p_index;
    const std::size_t q_index = rest;
    const bool same = p_index == q_index;
    const std::size_t p_first = p_index * group, q_first = q_index * group;
    const std::size_t hp = std::min(group, count - p_first), hq = std::min(group, count - q_first);
    Scratch scratch;
    Panel p = panel(scratch, theta, p_first, hp, rows, shape);
    Panel q = same ? p : panel(scratch, theta, q_first, hq, rows, shape);
    T* products = scratch.take<T>(hp * e * hq * e);
    T* wa = same ? scratch.take<T>(hp * e * c_) : nullptr;
    T* ww = same && bent ? scratch.take<T>(hp * d_ * d_) : nullptr;
    if (wa) std::fill_n(wa, hp * e * c_, T(0));
    if (ww) std::fill_n(ww, hp * d_ * d_, T(0));
    for (std::size_t row = 0; row < n_; row += rows) {
      const std::size_t b = std::min(rows, n_ - row);
      const T beta = row == 0 ? T(0) : T(1);
      fill(p, row, b, shape);
      if (same) {
        blas::syrk<T>(hp * e, b, scale, p.features, b, beta, products, hp * e);
        curve_terms(p, r, row, b, shape, ww, wa);
      } else {
        fill(q, row, b, shape);
        blas::gemm<T>(Op::none, Op::transpose, hp * e, hq * e, b, scale, p.features, b, q.features, b, beta, products,
                      hq * e);
      }
    }
    // The pair's blocks at or below the diagonal; what they hold is then mirrored above it.
    for (std::size_t j = 0; j < hp; ++j) {
      const T* aj = p.block + j * m_ + d_;
      for (std::size_t k = 0; k < (same ? j + 1 : hq); ++k) {
        const T* ak = q.block + k * m_ + d_;
        const T* product = products + j * e * hq * e + k * e;
        const bool diagonal = same && j == k;
        P* below = out + (p_first + j) * m_ * size + (q_first + k) * m_;
        T dot = T(0);
        for (std::size_t o = 0; o < c_; ++o) dot += aj[o] * ak[o];
        for (std::size_t u = 0; u < d_; ++u) {
          const T* from = product + u * hq * e;
          P* to = below + u * size;
          // On the diagonal the product has its lower triangle alone, so E[sigma' x sigma] is read from its last row
          // there.
          const std::size_t end = diagonal ? u + 1 : d_;
          const T cross = diagonal ? product[d_ * hq * e + u] : from[d_];
          for (std::size_t v = 0; v < end; ++v) to[v] = static_cast<P>(dot * from[v]);
          for (std::size_t o = 0; o < c_; ++o) to[d_ + o] = static_cast<P>(aj[o] * cross);
          if (!diagonal) continue;
          for (std::size_t v = 0; bent && v < end; ++v) to[v] -= static_cast<P>(ww[(j * d_ + u) * d_ + v]);
          for (std::size_t o = 0; o < c_; ++o) to[d_ + o] -= static_cast<P>(wa[(j * e + u) * c_ + o]);
        }
        const T* last = product + d_ * hq * e;
        for (std::size_t o = 0; o < c_; ++o) {
          P* to = below + (d_ + o) * size;
          for (std::size_t u = 0; u < d_; ++u) {
            to[u] = diagonal ? below[u * size + d_ + o] : static_cast<P>(ak[o] * last[u]);
          }
          std::fill_n(to + d_, c_, P(0));
          to[d_ + o] = static_cast<P>(last[d_]);
        }
        P* above = out + (q_first + k) * m_ * size + (p_first + j) * m_;
        for (std::size_t u = 0; u < m_; ++u) {
          const std::size_t begin = diagonal ? u + 1 : 0;
          for (std::size_t v = begin; v < m_; ++v) above[u * size + v] = below[v * size + u];
        }
      }
    }
  });
}

// -------------------------------------------------------------------------------------------------------- Problem

template <typename T>
std::unique_ptr<Signal> DenseCpu<T>::make_signal() const {
  return std::make_unique<DenseSignal<T>>(n_ * c_);
}

template <typename T>
double DenseCpu<T>::residual(const double* theta, std::size_t count, Signal& r, Shape shape) const {
  return forward(theta, count, inputs_of_samples(), n_, y_.data(), values<T>(r), shape);
}

template <typename T>
void DenseCpu<T>::residual_derivative(const double* theta, const double* v, std::size_t count, Signal& dr,
                                      Shape shape) const {
  derivative(theta, v, count, values<T>(dr), shape);
}

template <typename T>
void DenseCpu<T>::utility(const double* theta, std::size_t count, const Signal& r, double* value, double* gradient,
                          Shape shape) const {
  utility_of(theta, count, values<T>(r), value, gradient, shape);
}

template <typename T>
void DenseCpu<T>::curvature_vector(const double* theta, const double* v, std::size_t count, const Signal& r,
                                   const Signal* dr, double* out, Shape shape) const {
  curvature_of(theta, v, count, values<T>(r), dr ? values<T>(*dr) : nullptr, 1.0, out, shape);
}

template <typename T>
void DenseCpu<T>::utility_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                                  Shape shape) const {
  if (count) utility_hessian_of(theta, count, values<T>(r), out, shape);
}

template <typename T>
void DenseCpu<T>::loss_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                               Shape shape) const {
  loss_hessian_of(theta, count, values<T>(r), out, shape);
}

// |a| sqrt E sigma(z)^2
template <typename T>
void DenseCpu<T>::contribution(const double* theta, std::size_t count, double* out) const {
  if (count == 0) return;
  const Cut p = cut_samples(count, n_);
  const Nonlinearity sigma = nonlinearity({});
  const Inputs inputs = inputs_of_samples();
  pool::for_each(p.blocks, evaluation_flops(count) / 2, [&](std::size_t item) {
    const std::size_t first = item * p.block, h = std::min(p.block, count - first);
    Scratch scratch;
    const T* block = in<T>(scratch, theta + first * m_, h * m_);
    T* z = scratch.take<T>(h * p.rows);
    double* squares = scratch.take<double>(h);
    std::fill_n(squares, h, 0.0);
    for (std::size_t row = 0; row < n_; row += p.rows) {
      const std::size_t b = std::min(p.rows, n_ - row);
      analyse(block, h, inputs, row, b, z);
      loops<T>().value(sigma, nullptr, h, b, z);
      for (std::size_t j = 0; j < h; ++j) squares[j] += loops<T>().sum_squares(b, z + j * b);
    }
    for (std::size_t j = 0; j < h; ++j) {
      const double* a = theta + (first + j) * m_ + d_;
      const double norm = loops<double>().sum_squares(c_, a);
      out[first + j] = std::sqrt(norm) * std::sqrt(squares[j] / static_cast<double>(n_));
    }
  });
}

template <typename T>
bool DenseCpu<T>::conserved(const double* theta, std::size_t count, double* out) const {
  const Traits t = traits(sigma_);
  if (!t.homogeneous) return false;
  layer_balance(d_, c_, t.degree, theta, count, out);
  return true;
}

template <typename T>
void DenseCpu<T>::rebalance(double* theta, std::size_t count, const double* balance, double* scale) const {
  rebalance_layers(d_, c_, traits(sigma_).degree, theta, count, balance, scale);
}

template <typename T>
double DenseCpu<T>::evaluation_flops(std::size_t count) const {
  return 4.0 * static_cast<double>(n_) * static_cast<double>(count) * static_cast<double>(m_);
}

template <typename T>
double DenseCpu<T>::utility_hessian_flops(std::size_t count) const {
  const double d = static_cast<double>(d_), c = static_cast<double>(c_);
  const double each = 2.0 * d * (2.0 + c) + (curved({}) ? 2.0 * (c + d * d) : 0.0);
  return each * static_cast<double>(n_) * static_cast<double>(count);
}

template <typename T>
double DenseCpu<T>::loss_hessian_flops(std::size_t count) const {
  const double features = static_cast<double>(count) * static_cast<double>(d_ + 1);
  const double entries = static_cast<double>(count) * static_cast<double>(m_);
  return static_cast<double>(n_) * features * features + 4.0 * entries * entries + utility_hessian_flops(count);
}

template <typename T>
std::unique_ptr<Problem> DenseCpu<T>::reduced(std::vector<double>& basis) const {
  // Beyond this many inputs the factorisation takes longer than a Ctrl-C may wait, and wins little.
  constexpr std::size_t most_inputs = 256;
  if (d_ < 2 || d_ > most_inputs) return nullptr;
  const double tolerance = static_cast<double>(std::max(n_, d_)) * data_epsilon_;
  std::vector<double> copy(x_.begin(), x_.end());
  basis.resize(d_ * d_);
  const std::size_t rank = blas::row_space(n_, d_, copy.data(), tolerance, basis.data());
  if (4 * (rank + 1) > 3 * d_) {
    basis.clear();
    return nullptr;
  }
  basis.resize(d_ * rank);
  const std::size_t inputs = rank + 1;
  std::copy(x_.begin(), x_.end(), copy.begin());
  std::vector<double> product(n_ * inputs, 0.0);
  if (rank) {
    blas::gemm<double>(Op::none, Op::none, n_, rank, d_, 1.0, copy.data(), d_, basis.data(), rank, 0.0, product.data(),
                       inputs);
  }
  const std::vector<T> x(product.begin(), product.end());
  return std::make_unique<DenseCpu<T>>(x.data(), n_, inputs, y_.data(), c_, sigma_, parameter_);
}

template <typename T>
std::unique_ptr<Problem> DenseCpu<T>::in_double() const {
  if constexpr (std::is_same_v<T, double>) {
    return nullptr;
  } else {
    const std::vector<double> x(x_.begin(), x_.end()), y(y_.begin(), y_.end());
    auto twin = std::make_unique<DenseCpu<double>>(x.data(), n_, d_, y.data(), c_, sigma_, parameter_);
    twin->data_epsilon_ = data_epsilon_;
    return twin;
  }
}

// ---------------------------------------------------------------------------------------------------- arrays of T

template <typename T>
double DenseCpu<T>::residual(const T* theta, std::size_t count, T* r) const {
  return forward(theta, count, inputs_of_samples(), n_, y_.data(), r, {});
}

template <typename T>
void DenseCpu<T>::utility(const T* theta, std::size_t count, const T* r, T* value, T* gradient) const {
  utility_of(theta, count, r, value, gradient, {});
}

template <typename T>
void DenseCpu<T>::hessian_vector(const T* theta, const T* v, std::size_t count, T* out) const {
  Scratch scratch;
  T* r = scratch.take<T>(n_ * c_);
  T* dr = scratch.take<T>(n_ * c_);
  residual(theta, count, r);
  derivative(theta, v, count, dr, {});
  curvature_of(theta, v, count, r, dr, -1.0, out, {});
}

template <typename T>
void DenseCpu<T>::hessian(const T* theta, std::size_t count, T* out) const {
  Scratch scratch;
  T* r = scratch.take<T>(n_ * c_);
  residual(theta, count, r);
  loss_hessian_of(theta, count, r, out, {});
}

template <typename T>
void DenseCpu<T>::predict(const T* theta, std::size_t count, const T* x, std::size_t rows, T* f) const {
  if (rows) forward(theta, count, Inputs{x, nullptr, 0}, rows, nullptr, f, {});
}

template class DenseCpu<float>;
template class DenseCpu<double>;

}  // namespace agf::cpu
