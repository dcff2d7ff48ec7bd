// Products of matrices whose entries go on, as they are made, to what uses them: a block makes a tile of C from tiles
// of A and B in shared memory.
#pragma once

#include <stddef.h>

#include <algorithm>

#include "each.cuh"
#include "product.hpp"
#include "tile_sums.cuh"

namespace AGF_SPACE::cuda {

// op(A) and op(B) as (outer, inner): at[outer * stride + inner], or at[inner * stride + outer] where it is `across`.
template <typename T>
struct Operand {
  const T* at;
  size_t stride, step;
  bool across;
};

// Numbers on their way from memory to a tile are in no register. They are there once the threads that asked for them
// have waited, and met at a barrier.
template <typename T>
AGF_DEVICE void bring(T* to, const T* from, bool there) {
#if defined(__CUDA_ARCH__)
  // Of a number that is not there no byte is read, and all are zero.
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
               :
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(from), "n"(sizeof(T)),
                 "r"(there ? static_cast<unsigned>(sizeof(T)) : 0u)
               : "memory");
#else
  *to = there ? *from : T(0);
#endif
}
AGF_DEVICE void wait_for_brought() {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.wait_all;" : : : "memory");
#endif
}

// A thread's share of one operand's tiles, sent for before they are used: `rounds` numbers of each of some rows, which
// lie along the memory. Threads of a warp share rows of 32 bytes, what memory hands out at once, where those are inner
// indices: their neighbours are other outer indices, and so they do not meet in a bank when they write.
template <typename T, int extent, int deep, int width>
class Share {
 public:
  static constexpr int stride = tile_stride<extent>;

  AGF_DEVICE Share(const Operand<T>& from, size_t member, size_t outer, size_t outers, size_t inner, unsigned thread)
      : across_(from.across),
        lanes_(across_ ? extent / rounds : deep / rounds),
        step_(width / lanes_),
        along_(thread % lanes_),
        row_(thread / lanes_),
        outers_(outers - outer < extent ? static_cast<unsigned>(outers - outer) : extent),
        jump_(step_ * from.stride),
        ahead_(across_ ? deep * from.stride : deep),
        at_(from.at + member * from.step + (across_ ? inner + row_ : outer + row_) * from.stride +
            (across_ ? outer : inner) + along_) {}

  // Sends for the next tile's numbers, of which `left` inner indices are there.
  AGF_DEVICE void fetch(size_t left, T* tile) {
    const unsigned inners = left < deep ? static_cast<unsigned>(left) : deep;
    const unsigned length = across_ ? outers_ : inners, rows = across_ ? inners : outers_;
#pragma unroll
    for (unsigned r = 0; r < count / rounds; ++r) {
#pragma unroll
      for (unsigned q = 0; q < rounds; ++q) {
        const unsigned row = row_ + r * step_, along = along_ + q * lanes_;
        bring(tile + (across_ ? row * stride + along : along * stride + row), at_ + r * jump_ + q * lanes_,
              row < rows && along < length);
      }
    }
    at_ += ahead_;
  }

 private:
  static constexpr unsigned count = extent * deep / width;
  static constexpr unsigned rounds = deep / std::min({static_cast<int>(32 / sizeof(T)), deep, width});
  static_assert(count * width == extent * deep && count % rounds == 0);
  static_assert(width % (extent / rounds) == 0 && width % (deep / rounds) == 0);

  bool across_;
  unsigned lanes_, step_, along_, row_, outers_;
  size_t jump_, ahead_;
  const T* at_;
};

// then(member, i, j, (op(A) op(B))_ij) for every entry of every matrix of a batch. What it needs of a column is taken
// by then.of(member, j), once for several rows i: then.of(member, j)(i, sum).
template <typename T, typename Tile, typename Then>
struct Product {
  static constexpr int width = Tile::threads, at_once = Tile::at_once;
  using ShareA = Share<T, Tile::high, Tile::deep, width>;
  using ShareB = Share<T, Tile::wide, Tile::deep, width>;
  static constexpr int a_size = Tile::deep * ShareA::stride, b_size = Tile::deep * ShareB::stride;
  // Sums go from registers to whom they are for by way of shared memory, in slices.
  using Sums = TileSums<T, Tile>;
  static constexpr int slice_stride = tile_stride<Tile::wide>;
  static constexpr size_t shared_bytes = std::max(2 * (a_size + b_size), Sums::slice_high* slice_stride) * sizeof(T);
  static constexpr int lanes = Tile::wide < width ? Tile::wide : width;
  static_assert(width % lanes == 0);

  size_t m, n, k, part;  // a block sums over `part` of the inner index
  size_t tiles_high, tiles_wide, parts;
  Operand<T> a, b;
  Then then;
  T* partial;  // (batch, parts, m, n) where there are several parts

  AGF_DEVICE void operator()(const Team& team) const {
    T* const shared = team.shared<T>();
    const unsigned thread = team.thread();
    // In 32 bits as long as registers are scarce; a grid has no more blocks.
    const auto high = static_cast<unsigned>(tiles_high), tiles = high * static_cast<unsigned>(tiles_wide);
    const unsigned which = team.block() / tiles, tile = team.block() % tiles, down = tile % high, along = tile / high;
    const size_t first = which % static_cast<unsigned>(parts) * part;
    size_t inners = k - first < part ? k - first : part;

    Sums sums(thread);
    ShareA a_share(a, which / static_cast<unsigned>(parts), size_t{down} * Tile::high, m, first, thread);
    ShareB b_share(b, which / static_cast<unsigned>(parts), size_t{along} * Tile::wide, n, first, thread);
    a_share.fetch(inners, shared);
    b_share.fetch(inners, shared + a_size);
    unsigned turn = 0;
    for (bool more = inners > 0; more;) {
      T* const now = shared + turn * (a_size + b_size);
      wait_for_brought();
      // Two tiles take turns: the other one is no longer read by anybody who has passed here.
      team.barrier();
      turn ^= 1u;
      more = inners > Tile::deep;
      sums.add(now, now + a_size, [&] {
        if (!more) return;
        inners -= Tile::deep;
        T* const next = shared + turn * (a_size + b_size);
        a_share.fetch(inners, next);
        b_share.fetch(inners, next + a_size);
      });
    }
    wait_for_brought();  // the zeros of no inner indices

    const size_t top = size_t{down} * Tile::high, left = size_t{along} * Tile::wide;
    // Neighbours in memory are made by neighbours, and the code of `then` stands here once.
#pragma unroll 1
    for (int slice = 0; slice < Sums::slices; ++slice) {
      // The tiles, or the slice before, are no longer read by anybody.
      team.barrier();
      sums.show(slice, shared);
      team.barrier();
#pragma unroll 1
      for (unsigned s = thread % lanes; s < Tile::wide; s += lanes) {
        const size_t j = left + s;
        if (j >= n) break;
        if (parts > 1) {
          for (unsigned r = thread / lanes; r < Sums::slice_high; r += width / lanes) {
            const size_t i = top + Sums::row(slice, r);
            if (i >= m) break;
            partial[(size_t{which} * m + i) * n + j] = shared[r * slice_stride + s];
          }
        } else {
          give(then.of(which, j), slice, top, thread / lanes, shared + s);
        }
      }
    }
  }

 private:
  static constexpr unsigned step = width / lanes;

  // A slice's entries in one column, from the row `first` on.
  template <typename Column>
  AGF_DEVICE void give(const Column& column, int slice, size_t top, unsigned first, const T* sums) const {
    if constexpr (requires { Column::ahead; }) {
      // What several of them are added to is asked for before the first is written: one after the other, each would
      // wait for memory by itself.
#pragma unroll 1
      for (unsigned r = first; r < Sums::slice_high; r += Column::ahead * step) {
        T before[Column::ahead];
        bool there[Column::ahead];
#pragma unroll
        for (unsigned q = 0; q < Column::ahead; ++q) {
          const size_t i = top + Sums::row(slice, r + q * step);
          there[q] = r + q * step < Sums::slice_high && i < m;
          before[q] = there[q] ? column.before(i) : T(0);
        }
#pragma unroll
        for (unsigned q = 0; q < Column::ahead; ++q)
          if (there[q])
            column.put(top + Sums::row(slice, r + q * step), sums[(r + q * step) * slice_stride], before[q]);
      }
    } else {
      for (unsigned r = first; r < Sums::slice_high; r += step) {
        const size_t i = top + Sums::row(slice, r);
        if (i >= m) break;
        column(i, sums[r * slice_stride]);
      }
    }
  }
};

#if !defined(AGF_BLOCK)

// Into how many parts the inner index is cut, where tiles are too few to keep a device busy, or leave much of it idle
// in their last round: as many as take a device of 132 multiprocessors least time, whichever one it is that runs them.
// A part that is written and read once more costs a tile about as much as so many steps of the inner index. Parts of
// no more than eight rounds keep their room small, and what saves less than a sixteenth is not worth any.
inline size_t parts_of(size_t tiles, size_t k, size_t at_once) {
  constexpr size_t multiprocessors = 132, least = 256, most = 64, once_more = 64;
  const size_t together = multiprocessors * at_once;
  const auto rounds = [&](size_t blocks) { return (blocks + together - 1) / together; };
  size_t best = 1, cost = rounds(tiles) * k;
  for (size_t parts = 2; parts <= std::min({most, k / least, 8 * together / tiles}); ++parts) {
    const size_t steps = rounds(tiles * parts) * ((k + parts - 1) / parts + once_more);
    if (steps + steps / 16 < cost) best = parts, cost = steps;
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
