// What a block of threads sums up in registers: a tile of a product, from tiles of its factors in shared memory.
#pragma once

#include <stddef.h>

#include "team.cuh"

namespace AGF_SPACE::cuda {

// Numbers of shared memory in one go, or in two.
template <typename T, int count>
struct alignas(16) Pack {
  T at[count];
};
inline constexpr int quad = 4;

// Of tiles in shared memory, whose numbers along `extent` are neighbours, the next inner index lies so far apart: quads
// stay aligned, and the eight or four inner indices that threads of a warp touch at once are in banks of their own.
template <int extent>
inline constexpr int tile_stride = extent + quad;

// Sizes of a tile: `high` by `wide` of C, `deep` along the inner index, `rows` by `columns` a thread.
template <int high_, int wide_, int deep_, int rows_, int columns_, int at_once_ = 1>
struct TileOf {
  static constexpr int high = high_, wide = wide_, deep = deep_, rows = rows_, columns = columns_, at_once = at_once_;
  static constexpr int threads = high / rows * (wide / columns);
};

// The same made by warps, `rows` by `columns` each.
template <int high_, int wide_, int deep_, int rows_, int columns_, int at_once_ = 1>
struct WarpTileOf {
  static constexpr int high = high_, wide = wide_, deep = deep_, rows = rows_, columns = columns_, at_once = at_once_;
  static constexpr int threads = 32 * (high / rows) * (wide / columns);
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
  using Large = TileOf<16, 16, 16, 8, 8>;
  using Small = TileOf<8, 8, 16, 4, 4>;
};
#else
template <typename T>
struct Tiles;
template <>
struct Tiles<float> {
  using Large = TileOf<128, 128, 16, 8, 8>;
  using Small = TileOf<32, 32, 16, 4, 4, 6>;
};
template <>
struct Tiles<double> {
  using Large = WarpTileOf<128, 128, 16, 64, 32>;
  using Small = TileOf<32, 32, 16, 4, 4, 6>;
};
#endif

// Every thread holds a part of the tile, and shows it in slices, `slice_high` rows of the tile at once.
template <typename T, typename Tile>
class TileSums;

// By threads, each `rows` by `columns` numbers.
template <typename T, int high, int wide, int deep, int rows, int columns, int at_once>
class TileSums<T, TileOf<high, wide, deep, rows, columns, at_once>> {
  static_assert(rows % quad == 0 && columns % quad == 0);

 public:
  // A quad of rows of every thread.
  static constexpr int slices = rows / quad, slice_high = high / slices;
  AGF_DEVICE static unsigned row(int slice, unsigned r) { return static_cast<unsigned>(slice * slice_high) + r; }

  // Threads of a warp make a part of the tile of their own, four down where there are as many, and take turns in it by
  // ones and twos: shared memory hands out 16 bytes a thread in half the time where every other pair asks for the same.
  AGF_DEVICE explicit TileSums(unsigned thread) : sum_{} {
    constexpr unsigned down = high / rows, along = wide / columns;
    if constexpr (down % 4 == 0 && along % 8 == 0) {
      const unsigned lane = thread % 32, warp = thread / 32;
      down_ = warp / (along / 8) * 4 + (lane / 2 % 2 + lane / 16 * 2);
      along_ = warp % (along / 8) * 8 + (lane % 2 + lane / 4 % 4 * 2);
    } else {
      down_ = thread / along;
      along_ = thread % along;
    }
  }

  // `meanwhile` is done by the way: it sends for the next tiles.
  template <typename F>
  AGF_DEVICE void add(const T* a, const T* b, const F& meanwhile) {
    meanwhile();
#pragma unroll
    for (int q = 0; q < deep; ++q) {
      T a_mine[rows], b_mine[columns];
      read<high, rows, quad>(a + q * tile_stride<high>, down_, a_mine);
      read<wide, columns, pack>(b + q * tile_stride<wide>, along_, b_mine);
#pragma unroll
      for (int r = 0; r < rows; ++r) {
#pragma unroll
        for (int s = 0; s < columns; ++s) sum_[r][s] += a_mine[r] * b_mine[s];
      }
    }
  }

  AGF_DEVICE void show(int slice, T* to) const {
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      if (r / quad != slice) continue;
      T* const at = to + (down_ * quad + static_cast<unsigned>(r % quad)) * tile_stride<wide>;
#pragma unroll
      for (int s = 0; s < columns; s += pack) {
        Pack<T, pack> some;
#pragma unroll
        for (int q = 0; q < pack; ++q) some.at[q] = sum_[r][s + q];
        *reinterpret_cast<Pack<T, pack>*>(at + place<wide, columns, pack>(along_, s)) = some;
      }
    }
  }

 private:
  // Columns lie next to those of the neighbour in 16 bytes each, so that eight threads meet in no bank; the few rows
  // that a warp reads do not meet anyway.
  static constexpr int pack = 16 / sizeof(T);

  // The place in the tile of the r-th row or column of a thread: packs, one after the other for the threads.
  template <int extent, int count, int each>
  AGF_DEVICE static unsigned place(unsigned thread, int r) {
    return static_cast<unsigned>(r / each * (extent / (count / each)) + r % each) + thread * each;
  }
  template <int extent, int count, int each>
  AGF_DEVICE static void read(const T* from, unsigned thread, T* to) {
#pragma unroll
    for (int r = 0; r < count; r += each) {
      const auto some = *reinterpret_cast<const Pack<T, each>*>(from + place<extent, count, each>(thread, r));
#pragma unroll
      for (int q = 0; q < each; ++q) to[r + q] = some.at[q];
    }
  }

  unsigned down_, along_;
  T sum_[rows][columns];
};

// What a lane of a warp holds of left (16, 16), right (16, 8) and their product, in the order of PTX's mma.m16n8k16 in
// double: with g = lane / 4 and t = lane % 4, of both factors inner indices t, t + 4, ..., of the left one rows g and
// g + 8 at each, of the right one column g, and of the product these rows and columns 2 t and 2 t + 1.
struct WarpPiece {
  static constexpr int high = 16, wide = 8, deep = 16;

  AGF_HD explicit WarpPiece(unsigned thread) : g(thread % 32 / 4), t(thread % 4) {}

  AGF_HD unsigned left_row(unsigned q) const { return g + q % 2 * 8; }
  AGF_HD unsigned left_inner(unsigned q) const { return t + q / 2 * 4; }
  AGF_HD unsigned right_inner(unsigned q) const { return t + q * 4; }
  AGF_HD unsigned right_column() const { return g; }
  AGF_HD unsigned row(unsigned e) const { return g + e / 2 * 8; }
  AGF_HD unsigned column(unsigned e) const { return 2 * t + e % 2; }

  unsigned g, t;
};

// By warps, on the tensor cores of devices that have them for double, which are twice as fast as threads by themselves:
// a warp makes `rows` by `columns` numbers in pieces. The host sums up the same numbers one by one.
template <int high, int wide, int deep, int rows, int columns, int at_once>
class TileSums<double, WarpTileOf<high, wide, deep, rows, columns, at_once>> {
  using Piece = WarpPiece;
  static constexpr int down = rows / Piece::high, along = columns / Piece::wide;
  static_assert(down * Piece::high == rows && along * Piece::wide == columns && deep % Piece::deep == 0);

 public:
  // A piece of rows of every warp.
  static constexpr int slices = down, slice_high = high / slices;
  AGF_DEVICE static unsigned row(int slice, unsigned r) {
    return r / Piece::high * rows + static_cast<unsigned>(slice * Piece::high) + r % Piece::high;
  }

  AGF_DEVICE explicit TileSums(unsigned thread)
      : warp_down_(thread / 32 / (wide / columns)),
        warp_along_(thread / 32 % (wide / columns)),
        mine_(thread),
        sum_{} {}

  // `meanwhile` is done while the tensor cores are busy with the first pieces.
  template <typename F>
  AGF_DEVICE void add(const double* a, const double* b, const F& meanwhile) {
#pragma unroll
    for (unsigned first = 0; first < deep; first += Piece::deep) {
      const double* const left_at = a + first * tile_stride<high> + warp_down_ * rows;
      const double* const right_at = b + first * tile_stride<wide> + warp_along_ * columns;
#if defined(__CUDA_ARCH__)
      double right[along][4];
#pragma unroll
      for (unsigned s = 0; s < along; ++s) {
#pragma unroll
        for (unsigned q = 0; q < 4; ++q)
          right[s][q] = right_at[mine_.right_inner(q) * tile_stride<wide> + s * Piece::wide + mine_.right_column()];
      }
#pragma unroll
      for (unsigned r = 0; r < down; ++r) {
        double left[8];
#pragma unroll
        for (unsigned q = 0; q < 8; ++q)
          left[q] = left_at[mine_.left_inner(q) * tile_stride<high> + r * Piece::high + mine_.left_row(q)];
#pragma unroll
        for (unsigned s = 0; s < along; ++s) multiply(left, right[s], sum_[r][s]);
        if (first == 0 && r == 0) meanwhile();
      }
#else
      if (first == 0) meanwhile();
      for (unsigned r = 0; r < down; ++r) {
        for (unsigned s = 0; s < along; ++s) {
          for (unsigned e = 0; e < 4; ++e) {
            const double* const left = left_at + r * Piece::high + mine_.row(e);
            const double* const right = right_at + s * Piece::wide + mine_.column(e);
            for (unsigned q = 0; q < Piece::deep; ++q)
              sum_[r][s][e] += left[q * tile_stride<high>] * right[q * tile_stride<wide>];
          }
        }
      }
#endif
    }
  }

  AGF_DEVICE void show(int slice, double* to) const {
    double* const at = to + warp_down_ * Piece::high * tile_stride<wide> + warp_along_ * columns;
#pragma unroll
    for (int r = 0; r < down; ++r) {
      if (r != slice) continue;
#pragma unroll
      for (unsigned s = 0; s < along; ++s) {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e)
          at[mine_.row(e) * tile_stride<wide> + s * Piece::wide + mine_.column(e)] = sum_[r][s][e];
      }
    }
  }

 private:
#if defined(__CUDA_ARCH__)
  // sum += left right of a warp.
  AGF_DEVICE static void multiply(const double (&left)[8], const double (&right)[4], double (&sum)[4]) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f64.f64.f64.f64 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7, %8, %9, %10, %11}, {%12, %13, %14, %15}, {%0, %1, %2, %3};"
        : "+d"(sum[0]), "+d"(sum[1]), "+d"(sum[2]), "+d"(sum[3])
        : "d"(left[0]), "d"(left[1]), "d"(left[2]), "d"(left[3]), "d"(left[4]), "d"(left[5]), "d"(left[6]),
          "d"(left[7]), "d"(right[0]), "d"(right[1]), "d"(right[2]), "d"(right[3]));
#else
    // Quarters of the inner index, and halves of the rows.
#pragma unroll
    for (int q = 0; q < 4; ++q) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
                     : "+d"(sum[2 * half]), "+d"(sum[2 * half + 1])
                     : "d"(left[2 * q + half]), "d"(right[q]));
    }
#endif
  }
#endif

  unsigned warp_down_, warp_along_;
  Piece mine_;
  double sum_[down][along][4];
};

}  // namespace AGF_SPACE::cuda
