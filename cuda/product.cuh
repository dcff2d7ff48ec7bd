// Products of matrices whose entries go on, as they are made, to what uses them: a block makes a tile of C from tiles
// of A and B in shared memory, a thread some numbers of it in registers.
#pragma once

#include <stddef.h>

#include <algorithm>

#include "each.cuh"
#include "product.hpp"
#include "team.cuh"

namespace AGF_SPACE::cuda {

// Sizes of a tile: `high` by `wide` of C, `deep` along the inner index, `rows` by `columns` a thread.
template <int high_, int wide_, int deep_, int rows_, int columns_, int at_once_ = 1>
struct TileOf {
  static constexpr int high = high_, wide = wide_, deep = deep_, rows = rows_, columns = columns_, at_once = at_once_;
  static constexpr int threads = high / rows * (wide / columns);
};

#if defined(AGF_BLOCK) && !defined(AGF_NARROW)
template <typename T>
struct Tiles {
  using Large = TileOf<32, 32, 16, 4, 4>;
  using Small = Large;
};
#elif defined(AGF_NARROW)
// Four threads in place of 64 and 256, for the shim.
template <typename T>
struct Tiles {
  using Large = TileOf<16, 16, 8, 8, 8>;
  using Small = TileOf<8, 8, 8, 4, 4>;
};
#else
template <typename T>
struct Tiles;
template <>
struct Tiles<float> {
  using Large = TileOf<128, 128, 16, 8, 8, 1>;
  using Small = TileOf<32, 32, 16, 4, 4, 6>;
};
template <>
struct Tiles<double> {
  using Large = TileOf<64, 64, 16, 4, 4, 2>;
  using Small = TileOf<32, 32, 16, 4, 4, 6>;
};
#endif

// op(A) and op(B) as (outer, inner): at[outer * stride + inner], or at[inner * stride + outer] where it is `across`.
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
inline constexpr int quad = 4;

// A thread's share of one operand's tiles, brought from memory before they are used. Threads lie along the memory.
template <typename T, int extent, int deep, int width>
class Share {
 public:
  // Inner indices lie so far apart in shared memory, a quad more than they need: quads stay aligned, and those who
  // write one outer index do not all meet in a bank.
  static constexpr int stride = extent + quad;

  AGF_DEVICE Share(const Operand<T>& from, size_t member, size_t outer, size_t outers, size_t inner, unsigned thread)
      : across_(from.across),
        fast_(thread % (across_ ? lanes_across : lanes_along)),
        slow_(thread / (across_ ? lanes_across : lanes_along)),
        outers_(outers - outer < extent ? static_cast<unsigned>(outers - outer) : extent),
        jump_((across_ ? width / lanes_across : width / lanes_along) * from.stride),
        ahead_(across_ ? deep * from.stride : deep),
        at_(from.at + member * from.step +
            (across_ ? (inner + slow_) * from.stride + outer + fast_ : (outer + slow_) * from.stride + inner + fast_)) {
  }

  // The next tile's numbers, of which `left` inner indices are there.
  AGF_DEVICE void fetch(size_t left) {
    const unsigned inners = left < deep ? static_cast<unsigned>(left) : deep;
    const unsigned fast_end = across_ ? outers_ : inners, slow_end = across_ ? inners : outers_;
#pragma unroll
    for (int q = 0; q < count; ++q)
      mine_[q] = fast(q) < fast_end && slow(q) < slow_end ? at_[row(q) * jump_ + (fast(q) - fast_)] : T(0);
    at_ += ahead_;
  }

  AGF_DEVICE void keep(T* tile) const {
#pragma unroll
    for (int q = 0; q < count; ++q) tile[across_ ? slow(q) * stride + fast(q) : fast(q) * stride + slow(q)] = mine_[q];
  }

 private:
  static constexpr int count = extent * deep / width;
  static_assert(count * width == extent * deep);
  static constexpr int lanes_across = extent < width ? extent : width, lanes_along = deep < width ? deep : width;
  static constexpr int rounds_across = extent / lanes_across, rounds_along = deep / lanes_along;
  static_assert(width % lanes_across == 0 && width % lanes_along == 0);

  // Of the q-th number: along the memory, and across it.
  AGF_DEVICE unsigned row(int q) const { return static_cast<unsigned>(across_ ? q / rounds_across : q / rounds_along); }
  AGF_DEVICE unsigned fast(int q) const {
    return fast_ + static_cast<unsigned>(across_ ? q % rounds_across * lanes_across : q % rounds_along * lanes_along);
  }
  AGF_DEVICE unsigned slow(int q) const {
    return slow_ + row(q) * static_cast<unsigned>(across_ ? width / lanes_across : width / lanes_along);
  }

  bool across_;
  unsigned fast_, slow_, outers_;
  size_t jump_, ahead_;
  const T* at_;
  T mine_[count];
};

// then(member, i, j, (op(A) op(B))_ij) for every entry of every matrix of a batch. What it needs of a column is taken
// by then.of(member, j), once for several rows i: then.of(member, j)(i, sum).
template <typename T, typename Tile, typename Then>
struct Product {
  static constexpr int width = Tile::threads, at_once = Tile::at_once;
  using ShareA = Share<T, Tile::high, Tile::deep, width>;
  using ShareB = Share<T, Tile::wide, Tile::deep, width>;
  static constexpr int a_size = Tile::deep * ShareA::stride, b_size = Tile::deep * ShareB::stride;
  static_assert(Tile::rows % quad == 0 && Tile::columns % quad == 0);
  // Sums go from registers to whom they are for by way of shared memory, in slices of a quad of rows of every thread.
  static constexpr int slices = Tile::rows / quad, slice_high = Tile::high / slices, slice_stride = Tile::wide + quad;
  static constexpr size_t shared_bytes = std::max(2 * (a_size + b_size), slice_high* slice_stride) * sizeof(T);
  static constexpr int lanes = Tile::wide < width ? Tile::wide : width;
  static_assert(width % lanes == 0);

  size_t m, n, k, part;  // a block sums over `part` of the inner index
  size_t tiles_high, tiles_wide, parts;
  Operand<T> a, b;
  Then then;
  T* partial;  // (batch, parts, m, n) where there are several parts

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
    const size_t first = piece * part;
    size_t inners = k - first < part ? k - first : part;
    const unsigned down = thread / (Tile::wide / Tile::columns), along = thread % (Tile::wide / Tile::columns);

    T sum[Tile::rows][Tile::columns];
#pragma unroll
    for (int r = 0; r < Tile::rows; ++r) {
#pragma unroll
      for (int s = 0; s < Tile::columns; ++s) sum[r][s] = T(0);
    }
    ShareA a_share(a, member, top, m, first, thread);
    ShareB b_share(b, member, left, n, first, thread);
    a_share.fetch(inners);
    b_share.fetch(inners);
    unsigned turn = 0;
    for (bool more = inners > 0; more;) {
      T* const a_tile = shared + turn * (a_size + b_size);
      T* const b_tile = a_tile + a_size;
      a_share.keep(a_tile);
      b_share.keep(b_tile);
      // Two tiles take turns: what is written next is no longer read by anybody who has passed here.
      team.barrier();
      more = inners > Tile::deep;
      if (more) {
        inners -= Tile::deep;
        a_share.fetch(inners);
        b_share.fetch(inners);
      }
#pragma unroll
      for (int q = 0; q < Tile::deep; ++q) {
        T a_mine[Tile::rows], b_mine[Tile::columns];
        read<Tile::high, Tile::rows>(a_tile + q * ShareA::stride, down, a_mine);
        read<Tile::wide, Tile::columns>(b_tile + q * ShareB::stride, along, b_mine);
#pragma unroll
        for (int r = 0; r < Tile::rows; ++r) {
#pragma unroll
          for (int s = 0; s < Tile::columns; ++s) sum[r][s] += a_mine[r] * b_mine[s];
        }
      }
      turn ^= 1u;
    }

    // Neighbours in memory are made by neighbours, and the code of `then` stands here once.
#pragma unroll 1
    for (int slice = 0; slice < slices; ++slice) {
      // The tiles, or the slice before, are no longer read by anybody.
      team.barrier();
#pragma unroll
      for (int r = 0; r < Tile::rows; ++r) {
        if (r / quad != slice) continue;
        T* const row = shared + (down * quad + static_cast<unsigned>(r % quad)) * slice_stride;
#pragma unroll
        for (int s = 0; s < Tile::columns; s += quad) {
          Quad<T> four;
#pragma unroll
          for (int q = 0; q < quad; ++q) four.at[q] = sum[r][s + q];
          *reinterpret_cast<Quad<T>*>(row + place<Tile::wide, Tile::columns>(along, s)) = four;
        }
      }
      team.barrier();
      const size_t slice_top = top + static_cast<size_t>(slice) * slice_high;
      if (slice_top >= m) break;
      const unsigned height = m - slice_top < slice_high ? static_cast<unsigned>(m - slice_top) : slice_high;
#pragma unroll 1
      for (unsigned s = thread % lanes; s < Tile::wide; s += lanes) {
        const size_t j = left + s;
        if (j >= n) break;
        if (parts > 1) {
          for (unsigned r = thread / lanes; r < height; r += width / lanes)
            partial[(which * m + slice_top + r) * n + j] = shared[r * slice_stride + s];
        } else {
          const auto column = then.of(member, j);
          for (unsigned r = thread / lanes; r < height; r += width / lanes)
            column(slice_top + r, shared[r * slice_stride + s]);
        }
      }
    }
  }
};

#if !defined(AGF_BLOCK)

// Into how many parts the inner index is cut, where tiles are too few to keep a device busy, or leave much of it idle
// in their last round: as many as take a device of 132 multiprocessors least time, whichever one it is that runs them.
// A part that is written and read once more costs a tile about as much as so many steps of the inner index.
inline size_t parts_of(size_t tiles, size_t k, size_t at_once) {
  constexpr size_t multiprocessors = 132, least = 256, most = 64, once_more = 64;
  const auto rounds = [&](size_t blocks) {
    const size_t together = multiprocessors * at_once;
    return (blocks + together - 1) / together;
  };
  size_t best = 1, cost = rounds(tiles) * k;
  for (size_t parts = 2; parts <= std::min(most, k / least); ++parts) {
    const size_t steps = rounds(tiles * parts) * ((k + parts - 1) / parts + once_more);
    if (steps < cost) best = parts, cost = steps;
  }
  return best;
}

#endif

template <typename T, typename Tile, typename Then>
AGF_CORE void run_product([[maybe_unused]] Stream stream, Product<T, Tile, Then> kernel, size_t batch) {
  kernel.tiles_high = (kernel.m + Tile::high - 1) / Tile::high;
  kernel.tiles_wide = (kernel.n + Tile::wide - 1) / Tile::wide;
  const size_t tiles = kernel.tiles_high * kernel.tiles_wide * batch;
#if defined(AGF_BLOCK)
  static_assert(Tile::threads == crew_width && Product<T, Tile, Then>::shared_bytes <= most_shared);
  kernel.part = kernel.k;
  kernel.parts = 1;
  kernel.partial = nullptr;
  share(tiles, kernel);
#else
  const size_t wanted = parts_of(tiles, kernel.k, Tile::at_once);
  kernel.part = kernel.k;
  kernel.parts = 1;
  if (wanted > 1) {
    constexpr size_t deep = Tile::deep;
    kernel.part = ((kernel.k + wanted - 1) / wanted + deep - 1) / deep * deep;
    kernel.parts = (kernel.k + kernel.part - 1) / kernel.part;
  }
  Room room(stream);
  kernel.partial = kernel.parts > 1 ? room.take<T>(batch * kernel.parts * kernel.m * kernel.n) : nullptr;
  launch(stream, tiles * kernel.parts, Tile::threads, Product<T, Tile, Then>::shared_bytes, kernel);
  if (kernel.parts == 1) return;
  const size_t size = kernel.m * kernel.n, n = kernel.n, parts = kernel.parts;
  const T* const partial = kernel.partial;
  const Then then = kernel.then;
  each(
      stream, batch * size, AGF_LAMBDA(size_t e) {
        const size_t member = e / size, at = e % size;
        double sum = 0;
        for (size_t part = 0; part < parts; ++part)
          sum += static_cast<double>(partial[(member * parts + part) * size + at]);
        then.of(member, at % n)(at / n, static_cast<T>(sum));
      });
#endif
}

// Every entry of op(A) op(B), (m, n) of inner length k, goes to `then`: see Product.
template <typename T, typename Then>
AGF_CORE void product_then(Stream stream, Op a_op, Op b_op, size_t m, size_t n, size_t k, Matrix<const T> a,
                           Matrix<const T> b, const Then& then, size_t batch = 1) {
  if (m == 0 || n == 0 || batch == 0) return;
  const Operand<T> left{a.at, a.stride, a.step, a_op == Op::transpose};
  const Operand<T> right{b.at, b.stride, b.step, b_op == Op::none};
  using Large = typename Tiles<T>::Large;
  using Small = typename Tiles<T>::Small;
  if (m > Large::high / 2 && n > Large::wide / 2) {
    run_product(stream, Product<T, Large, Then>{m, n, k, 0, 0, 0, 0, left, right, then, nullptr}, batch);
  } else {
    run_product(stream, Product<T, Small, Then>{m, n, k, 0, 0, 0, 0, left, right, then, nullptr}, batch);
  }
}

}  // namespace AGF_SPACE::cuda
