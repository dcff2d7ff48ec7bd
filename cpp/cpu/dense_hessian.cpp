// Hessians of dense networks: of each neuron's utility, and of the loss.
#include <algorithm>

#include "cpu/blas.hpp"
#include "cpu/dense.hpp"
#include "cpu/isa.hpp"
#include "cpu/pool.hpp"
#include "cpu/scratch.hpp"

namespace agf::cpu {

using blas::Op;
using dense::Columns;
using dense::divide_up;
using dense::in;
using dense::piece;
using dense::round_up;
using dense::Tile;
using dense::tile_at;
using dense::unit;

// A few neurons over one tile of samples. Row j (d + 1) + l of `features` is sigma'(z_j) x_l for l < d, and sigma(z_j)
// for l = d.
template <typename T>
struct DenseCpu<T>::Panel {
  std::size_t first, h;
  Block block;
  T *z, *s1, *s2;  // (h, rows)
  T* features;     // (h (d + 1), rows)
  T* columns;      // (d, rows): the tile of X^T, or null where all of it is kept
};

template <typename T>
template <typename P>
auto DenseCpu<T>::panel(Scratch& scratch, const P* theta, std::size_t first, std::size_t h, std::size_t rows,
                        Shape shape) const -> Panel {
  Panel p{};
  p.first = first;
  p.h = h;
  rows = round_up(rows, unit<T>);
  const double* ramp = shape.ramp ? shape.ramp + first : nullptr;
  p.block = dense::block_of<T>(scratch, theta + first * m_, ramp, h, d_, c_, inputs_of_samples(), true);
  p.z = scratch.take<T>(h * rows);
  p.s1 = scratch.take<T>(h * rows);
  p.s2 = scratch.take<T>(h * rows);
  p.features = scratch.take<T>(h * (d_ + 1) * rows);
  p.columns = transposed_.empty() ? scratch.take<T>(d_ * rows) : nullptr;
  return p;
}

template <typename T>
void DenseCpu<T>::fill(Panel& p, Tile t, Shape shape) const {
  analyse(p.block, inputs_of_samples(), t, p.z);
  loops<T>().jets(nonlinearity(shape), p.block.ramp, p.h, t.length, p.z, p.s1, p.s2);
  if (p.columns) loops<T>().transpose(t.b, d_, x_.data() + t.row * row_, row_, p.columns, t.length);
  for (std::size_t j = 0; j < p.h; ++j) {
    T* to = p.features + j * (d_ + 1) * t.length;
    for (std::size_t l = 0; l < d_; ++l) {
      const T* column = p.columns ? p.columns + l * t.length : transposed_.data() + l * columns_ + t.row;
      loops<T>().multiply(t.b, p.s1 + j * t.length, column, to + l * t.length);
    }
    std::copy_n(p.z + j * t.length, t.b, to + d_ * t.length);
  }
}

// Adds the tile's part of E[sigma'' g x x^T] to ww (h, d, d; skipped where sigma'' = 0) and of E[sigma' x r^T] to wa
// (h, d + 1, c; the last row of each is E[sigma r]). Overwrites s2.
template <typename T>
void DenseCpu<T>::curve_terms(Panel& p, const T* r, Tile t, Shape shape, T* ww, T* wa) const {
  const T scale = T(1) / static_cast<T>(n_);
  blas::gemm<T>(Op::none, Op::transpose, p.h * (d_ + 1), c_, t.b, scale, p.features, t.length, r + t.row, columns_,
                T(1), wa, c_);
  if (!curved(shape)) return;
  Scratch scratch;
  T* g = scratch.take<T>(p.h * t.length);
  project(p.block, Columns<T>{r + t.row, columns_}, t, false, g);
  loops<T>().multiply(p.h * t.length, g, p.s2, p.s2);
  T* plain = scratch.take<T>(t.b * d_);
  T* weighted = scratch.take<T>(t.b * d_);
  for (std::size_t j = 0; j < p.h; ++j) {
    // On a ramp most weights are zero: only the samples that have one take part.
    const T* weight = p.s2 + j * t.length;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < t.b; ++i) {
      if (weight[i] == T(0)) continue;
      const T* x = x_.data() + (t.row + i) * row_;
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
  const std::size_t rows = piece(n_, 512, unit<T>);
  const bool bent = curved(shape);
  pool::for_each(groups, utility_hessian_flops(count), [&](std::size_t item) {
    const std::size_t first = item * group, h = std::min(group, count - first);
    Scratch scratch;
    Panel p = panel(scratch, theta, first, h, rows, shape);
    T* wa = scratch.take<T>(h * (d_ + 1) * c_);
    T* ww = bent ? scratch.take<T>(h * d_ * d_) : nullptr;
    std::fill_n(wa, h * (d_ + 1) * c_, T(0));
    if (bent) std::fill_n(ww, h * d_ * d_, T(0));
    for (std::size_t k = 0; k < divide_up(n_, rows); ++k) {
      const Tile t = tile_at<T>(k, rows, n_);
      fill(p, t, shape);
      curve_terms(p, r, t, shape, ww, wa);
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
  const std::size_t rows = piece(n_, 512, unit<T>);
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
    for (std::size_t k = 0; k < divide_up(n_, rows); ++k) {
      const Tile t = tile_at<T>(k, rows, n_);
      const T beta = k == 0 ? T(0) : T(1);
      fill(p, t, shape);
      if (same) {
        blas::syrk<T>(hp * e, t.b, scale, p.features, t.length, beta, products, hp * e);
        curve_terms(p, r, t, shape, ww, wa);
      } else {
        fill(q, t, shape);
        blas::gemm<T>(Op::none, Op::transpose, hp * e, hq * e, t.b, scale, p.features, t.length, q.features, t.length,
                      beta, products, hq * e);
      }
    }
    // The pair's blocks at or below the diagonal; what they hold is then mirrored above it.
    for (std::size_t j = 0; j < hp; ++j) {
      const T* aj = p.block.theta + j * m_ + d_;
      for (std::size_t k = 0; k < (same ? j + 1 : hq); ++k) {
        const T* ak = q.block.theta + k * m_ + d_;
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

// The class's own instantiation is elsewhere and does not see these.
#define AGF_HESSIANS(T)                                       \
  template void DenseCpu<T>::fill(Panel&, Tile, Shape) const; \
  template void DenseCpu<T>::curve_terms(Panel&, const T*, Tile, Shape, T*, T*) const;
#define AGF_HESSIANS_OF(T, P)                                                                                      \
  template DenseCpu<T>::Panel DenseCpu<T>::panel(Scratch&, const P*, std::size_t, std::size_t, std::size_t, Shape) \
      const;                                                                                                       \
  template void DenseCpu<T>::utility_hessian_of(const P*, std::size_t, const T*, P*, Shape) const;                 \
  template void DenseCpu<T>::loss_hessian_of(const P*, std::size_t, const T*, P*, Shape) const;
AGF_HESSIANS(float)
AGF_HESSIANS(double)
AGF_HESSIANS_OF(float, float)
AGF_HESSIANS_OF(float, double)
AGF_HESSIANS_OF(double, double)
#undef AGF_HESSIANS
#undef AGF_HESSIANS_OF

}  // namespace agf::cpu
