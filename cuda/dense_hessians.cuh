// Hessians of dense networks: of each utility, and of the loss.
#pragma once

#include <algorithm>

#include "dense.hpp"
#include "each.cuh"
#include "neurons.cuh"

#if defined(AGF_BLOCK)
#include "block/few.cuh"
#endif

namespace AGF_SPACE::cuda {

// (z, s, g) <- (sigma(z), sigma'(z), sigma''(z) g)
struct Sloped {
  template <typename S, typename T>
  AGF_HD void operator()(const S& sigma, size_t n, T* z, T* s, T* g) const {
    for (size_t i = 0; i < n; ++i) {
      const leaf::Jet<T> at = sigma(z[i]);
      g[i] *= at.bend;
      s[i] = at.slope;
      z[i] = at.value;
    }
  }
};

// ww = E[sigma'' g x x^T] (count, d, d), skipped unless bent, and wa = E[sigma' x r^T] (count, d, c)
template <typename T>
AGF_CORE void DenseCuda<T>::curve_terms(Stream stream, Neurons at, const T* r, bool bent, T* ww, T* wa) const {
  const std::size_t count = at.count, d = d_;
  const double scale = 1 / static_cast<double>(n_);
#if defined(AGF_BLOCK)
  if (few(d, bent ? d : c_, n_)) {
    // Entry by entry, from columns `from` on of ww and wa side by side.
    const std::size_t c = c_, from = bent ? 0 : d, width = d + c - from, most = chunk(n_, count * 2);
    Room room(stream);
    T* const s = room.take<T>(most * count);
    T* const g = room.take<T>(most * count);
    for (std::size_t first = 0; first < n_; first += most) {
      const std::size_t b = std::min(most, n_ - first);
      const bool more = first > 0;
      const T* const x = x_ + first * d;
      const T* const rows = r + first * c;
      over_neurons(stream, at, b, Sloped{}, unkept(analysed(x, at.theta, nullptr)), later(s),
                   projected(rows, at.theta, g));
      long_sums(
          count * d * width, b,
          [=](std::size_t e, std::size_t i) {
            const std::size_t j = e / width / d, u = e / width % d, v = from + e % width;
            const T part = (v < d ? g : s)[i * count + j] * x[i * d + u];
            return part * (v < d ? x[i * d + v] : rows[i * c + v - d]);
          },
          [=](std::size_t e, double sum) {
            const std::size_t row = e / width, v = from + e % width;
            T* const to = v < d ? ww + row * d + v : wa + row * c + v - d;
            *to = more ? *to + scale * sum : scale * sum;
          });
    }
    return;
  }
#endif
  const std::size_t most = chunk(n_, count * (2 + 2 * d));
  Room room(stream);
  T* const s = room.take<T>(most * count);
  T* const g = room.take<T>(most * count);
  // Of neuron j: sigma' x and sigma'' g x, (b, d) each.
  T* const sloped = room.take<T>(most * count * d);
  T* const weighted = bent ? room.take<T>(most * count * d) : nullptr;
  for (std::size_t first = 0; first < n_; first += most) {
    const std::size_t b = std::min(most, n_ - first);
    const double beta = first ? 1 : 0;
    const T* const x = x_ + first * d;
    const T* const rows = r + first * c_;
    over_neurons(stream, at, b, Sloped{}, unkept(analysed(x, at.theta, nullptr)), later(s),
                 projected(rows, at.theta, g));
    each(
        stream, b * count * d, AGF_LAMBDA(std::size_t e) {
          const std::size_t l = e % d, i = e / d % b, at_sample = i * count + e / (d * b);
          sloped[e] = s[at_sample] * x[i * d + l];
          if (weighted) weighted[e] = g[at_sample] * x[i * d + l];
        });
    product<T>(stream, Op::transpose, Op::none, d, c_, b, scale, {sloped, d, b * d}, {rows, c_, 0}, beta,
               {wa, c_, d * c_}, count);
    if (weighted)
      product<T>(stream, Op::transpose, Op::none, d, d, b, scale, {weighted, d, b * d}, {x, d, 0}, beta, {ww, d, d * d},
                 count);
  }
}

template <typename T>
AGF_CORE void DenseCuda<T>::own_hessians(Stream stream, Neurons at, const T* r, bool bent, T* out) const {
  const std::size_t count = at.count, d = d_, c = c_, m = m_;
  Room room(stream);
  T* const ww = bent ? room.take<T>(count * d * d) : nullptr;
  T* const wa = room.take<T>(count * d * c);
  curve_terms(stream, at, r, bent, ww, wa);
  each(
      stream, count * m * m, AGF_LAMBDA(std::size_t e) {
        const std::size_t j = e / (m * m), u = e / m % m, v = e % m;
        T value = T(0);
        if (u < d && v < d) {
          // Symmetric to the last bit, whatever the order of sums in a tile.
          const std::size_t high = u > v ? u : v, low = u > v ? v : u;
          if (ww) value = ww[(j * d + high) * d + low];
        } else if (u < d) {
          value = wa[(j * d + u) * c + v - d];
        } else if (v < d) {
          value = wa[(j * d + v) * c + u - d];
        }
        out[e] = value;
      });
}

// With C_jk = E[phi_j phi_k^T], phi_j = (sigma'(z_j) x, sigma(z_j)):
//   ww[j, k] = (a_j . a_k) C_jk[x, x],  w_j a_k: C_jk[x, 1] a_j^T,  aa[j, k] = C_jk[1, 1] I,  minus hess U_j where j =
//   k.
template <typename T>
AGF_CORE void DenseCuda<T>::whole_hessian(Stream stream, Neurons at, const T* r, bool bent, T* out) const {
  const std::size_t count = at.count, d = d_, c = c_, m = m_, e = d_ + 1, features = count * e, size = count * m;
  Room room(stream);
  T* const ww = bent ? room.take<T>(count * d * d) : nullptr;
  T* const wa = room.take<T>(count * d * c);
  T* const products = room.take<T>(features * features);
  T* const outer = room.take<T>(count * count);
  curve_terms(stream, at, r, bent, ww, wa);
  product<T>(stream, Op::none, Op::transpose, count, count, c, 1, {at.theta + d, m}, {at.theta + d, m}, 0,
             {outer, count});
  const std::size_t most = chunk(n_, count * (2 + e));
  T* const z = room.take<T>(most * count);
  T* const s = room.take<T>(most * count);
  T* const phi = room.take<T>(most * features);
  for (std::size_t first = 0; first < n_; first += most) {
    const std::size_t b = std::min(most, n_ - first);
    const T* const x = x_ + first * d;
    over_neurons(stream, at, b, Sloped{}, analysed(x, at.theta, z), later(s), unkept(later<T>(nullptr)));
    each(
        stream, b * features, AGF_LAMBDA(std::size_t i) {
          const std::size_t sample = i / features, j = i % features / e, l = i % e, of = sample * count + j;
          phi[i] = l < d ? s[of] * x[sample * d + l] : z[of];
        });
    product<T>(stream, Op::transpose, Op::none, features, features, b, 1 / static_cast<double>(n_), {phi, features},
               {phi, features}, first ? 1 : 0, {products, features});
  }
  const T* const theta = at.theta;
  each(
      stream, size * size, AGF_LAMBDA(std::size_t i) {
        // The lower triangle, mirrored: symmetric to the last bit.
        std::size_t row = i / size, column = i % size;
        if (row < column) {
          const std::size_t swapped = row;
          row = column;
          column = swapped;
        }
        const std::size_t j = row / m, u = row % m, k = column / m, v = column % m;
        const T* const block = products + j * e * features + k * e;
        T value = T(0);
        if (u < d && v < d) {
          value = outer[j * count + k] * block[u * features + v];
          if (j == k && ww) value -= ww[(j * d + u) * d + v];
        } else if (u < d) {
          value = theta[j * m + v] * block[u * features + d];
          if (j == k) value -= wa[(j * d + u) * c + v - d];
        } else if (v < d) {
          value = theta[k * m + u] * block[d * features + v];
          if (j == k) value -= wa[(j * d + v) * c + u - d];
        } else if (u == v) {
          value = block[d * features + d];
        }
        out[i] = value;
      });
}

}  // namespace AGF_SPACE::cuda
