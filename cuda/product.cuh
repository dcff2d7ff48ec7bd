// The kernel of product.hpp: a block makes a tile of C from tiles of A and B in shared memory, a thread some numbers of
// it in registers.
#pragma once

#include <stddef.h>

#include "team.cuh"

namespace AGF_SPACE::cuda {

// Sizes of a tile: `high` by `wide` of C, `deep` along the inner index, `rows` by `columns` a thread.
template <int high_, int wide_, int deep_, int rows_, int columns_>
struct TileOf {
  static constexpr int high = high_, wide = wide_, deep = deep_, rows = rows_, columns = columns_;
  static constexpr int threads = high / rows * (wide / columns);
};

// An operand as (outer, inner): at[outer * stride + inner], or at[inner * stride + outer] where it is `across`.
template <typename T>
struct Operand {
  const T* at;
  size_t stride, step;
  bool across;
};

// Four numbers of shared memory in one go.
template <typename T>
struct alignas(16) Quad {
  T at[4];
};

template <typename T, typename Tile>
struct Product {
  static constexpr int width = Tile::threads;
  static constexpr int quad = 4;
  // Rows of the tiles in shared memory lie four apart, so that quads stay aligned.
  static constexpr int a_stride = Tile::high + quad, b_stride = Tile::wide + quad;
  static constexpr int a_size = Tile::deep * a_stride, b_size = Tile::deep * b_stride;
  static constexpr size_t shared_bytes = 2 * (a_size + b_size) * sizeof(T);
  static constexpr int a_share = Tile::high * Tile::deep / width, b_share = Tile::wide * Tile::deep / width;
  static_assert(Tile::rows % quad == 0 && Tile::columns % quad == 0);
  static_assert(a_share * width == Tile::high * Tile::deep && b_share * width == Tile::wide * Tile::deep);

  size_t m, n, k, part;  // a block sums over `part` of the inner index
  size_t tiles_high, tiles_wide, parts;
  Operand<T> a, b;
  T alpha, beta;
  T* c;
  size_t c_stride, c_step;
  T* partial;  // (batch, parts, m, n) where there are several parts

  template <int extent, int share>
  AGF_DEVICE static void fetch(const Operand<T>& from, const T* at, size_t outer, size_t outers, size_t inner,
                               size_t inners, unsigned thread, T* mine) {
#pragma unroll
    for (int q = 0; q < share; ++q) {
      const unsigned e = thread + static_cast<unsigned>(q * width);
      const size_t o = outer + (from.across ? e % extent : e / Tile::deep);
      const size_t i = inner + (from.across ? e / extent : e % Tile::deep);
      mine[q] = o < outers && i < inners ? at[from.across ? i * from.stride + o : o * from.stride + i] : T(0);
    }
  }

  template <int extent, int share>
  AGF_DEVICE static void keep(const Operand<T>& from, unsigned thread, const T* mine, T* tile) {
#pragma unroll
    for (int q = 0; q < share; ++q) {
      const unsigned e = thread + static_cast<unsigned>(q * width);
      const unsigned o = from.across ? e % extent : e / Tile::deep;
      const unsigned i = from.across ? e / extent : e % Tile::deep;
      tile[i * (extent + quad) + o] = mine[q];
    }
  }

  // The place in the tile of the r-th row or column of a thread: quads, one after the other for the threads.
  template <int extent, int count>
  AGF_DEVICE static unsigned place(unsigned thread, int r) {
    return static_cast<unsigned>(r / quad * (extent / (count / quad)) + r % quad) + thread * quad;
  }

  template <int extent, int count>
  AGF_DEVICE static void read(const T* row, unsigned thread, T* to) {
#pragma unroll
    for (int r = 0; r < count; r += quad) {
      const Quad<T> four = *reinterpret_cast<const Quad<T>*>(row + place<extent, count>(thread, r));
#pragma unroll
      for (int q = 0; q < quad; ++q) to[r + q] = four.at[q];
    }
  }

  AGF_DEVICE void operator()(const Team& team) const {
    T* const shared = team.shared<T>();
    const unsigned thread = team.thread();
    const size_t block = team.block(), tile = block % (tiles_high * tiles_wide);
    const size_t which = block / (tiles_high * tiles_wide), piece = which % parts, member = which / parts;
    const size_t top = tile % tiles_high * Tile::high, left = tile / tiles_high * Tile::wide;
    const size_t first = piece * part, last = first + part < k ? first + part : k;
    const T* const a_at = a.at + member * a.step;
    const T* const b_at = b.at + member * b.step;
    const unsigned down = thread / (Tile::wide / Tile::columns), along = thread % (Tile::wide / Tile::columns);

    T sum[Tile::rows][Tile::columns];
#pragma unroll
    for (int r = 0; r < Tile::rows; ++r) {
#pragma unroll
      for (int s = 0; s < Tile::columns; ++s) sum[r][s] = T(0);
    }
    T a_next[a_share], b_next[b_share];
    fetch<Tile::high, a_share>(a, a_at, top, m, first, last, thread, a_next);
    fetch<Tile::wide, b_share>(b, b_at, left, n, first, last, thread, b_next);
    unsigned turn = 0;
    for (size_t p = first; p < last; p += Tile::deep) {
      T* const a_tile = shared + turn * (a_size + b_size);
      T* const b_tile = a_tile + a_size;
      keep<Tile::high, a_share>(a, thread, a_next, a_tile);
      keep<Tile::wide, b_share>(b, thread, b_next, b_tile);
      // Two tiles take turns: what is written next is no longer read by anybody who has passed here.
      team.barrier();
      if (p + Tile::deep < last) {
        fetch<Tile::high, a_share>(a, a_at, top, m, p + Tile::deep, last, thread, a_next);
        fetch<Tile::wide, b_share>(b, b_at, left, n, p + Tile::deep, last, thread, b_next);
      }
#pragma unroll
      for (int q = 0; q < Tile::deep; ++q) {
        T a_mine[Tile::rows], b_mine[Tile::columns];
        read<Tile::high, Tile::rows>(a_tile + q * a_stride, down, a_mine);
        read<Tile::wide, Tile::columns>(b_tile + q * b_stride, along, b_mine);
#pragma unroll
        for (int r = 0; r < Tile::rows; ++r) {
#pragma unroll
          for (int s = 0; s < Tile::columns; ++s) sum[r][s] += a_mine[r] * b_mine[s];
        }
      }
      turn ^= 1u;
    }
#pragma unroll
    for (int r = 0; r < Tile::rows; ++r) {
      const size_t i = top + place<Tile::high, Tile::rows>(down, r);
      if (i >= m) continue;
#pragma unroll
      for (int s = 0; s < Tile::columns; ++s) {
        const size_t j = left + place<Tile::wide, Tile::columns>(along, s);
        if (j >= n) continue;
        if (parts > 1) {
          partial[(which * m + i) * n + j] = sum[r][s];
        } else {
          T* const to = c + member * c_step + i * c_stride + j;
          *to = beta == T(0) ? alpha * sum[r][s] : alpha * sum[r][s] + beta * *to;
        }
      }
    }
  }
};

}  // namespace AGF_SPACE::cuda
