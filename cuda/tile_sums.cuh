// What a block of threads sums up in registers: a tile of a product, from tiles of its factors in shared memory.
#pragma once

#include <stddef.h>

#include "team.cuh"

namespace AGF_SPACE::cuda {

// Four numbers of shared memory in one go.
template <typename T>
struct alignas(16) Quad {
  T at[4];
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
  using Large = TileOf<128, 128, 16, 8, 8, 1>;
  using Small = TileOf<32, 32, 16, 4, 4, 6>;
};
template <>
struct Tiles<double> {
  using Large = WarpTileOf<128, 64, 16, 32, 32>;
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

  AGF_DEVICE explicit TileSums(unsigned thread)
      : down_(thread / (wide / columns)), along_(thread % (wide / columns)), sum_{} {}

  AGF_DEVICE void add(const T* a, const T* b) {
#pragma unroll
    for (int q = 0; q < deep; ++q) {
      T a_mine[rows], b_mine[columns];
      read<high, rows>(a + q * tile_stride<high>, down_, a_mine);
      read<wide, columns>(b + q * tile_stride<wide>, along_, b_mine);
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
      for (int s = 0; s < columns; s += quad) {
        Quad<T> four;
#pragma unroll
        for (int q = 0; q < quad; ++q) four.at[q] = sum_[r][s + q];
        *reinterpret_cast<Quad<T>*>(at + place<wide, columns>(along_, s)) = four;
      }
    }
  }

 private:
  // The place in the tile of the r-th row or column of a thread: quads, one after the other for the threads.
  template <int extent, int count>
  AGF_DEVICE static unsigned place(unsigned thread, int r) {
    return static_cast<unsigned>(r / quad * (extent / (count / quad)) + r % quad) + thread * quad;
  }
  template <int extent, int count>
  AGF_DEVICE static void read(const T* from, unsigned thread, T* to) {
#pragma unroll
    for (int r = 0; r < count; r += quad) {
      const Quad<T> four = *reinterpret_cast<const Quad<T>*>(from + place<extent, count>(thread, r));
#pragma unroll
      for (int q = 0; q < quad; ++q) to[r + q] = four.at[q];
    }
  }

  unsigned down_, along_;
  T sum_[rows][columns];
};

// By warps, on the tensor cores of devices that have them for double: they are twice as fast as threads by themselves.
// A warp makes `rows` by `columns` numbers in pieces of 16 by 8, of which a thread holds rows g and g + 8 and columns
// 2 t and 2 t + 1, g = lane / 4 and t = lane % 4, in the order of PTX's mma.m16n8k16. The host sums up the same numbers
// one by one.
template <int high, int wide, int deep, int rows, int columns, int at_once>
class TileSums<double, WarpTileOf<high, wide, deep, rows, columns, at_once>> {
  static constexpr int piece_high = 16, piece_wide = 8, piece_deep = 16;
  static constexpr int down = rows / piece_high, along = columns / piece_wide;
  static_assert(down * piece_high == rows && along * piece_wide == columns && deep % piece_deep == 0);

 public:
  // A piece of rows of every warp.
  static constexpr int slices = down, slice_high = high / slices;
  AGF_DEVICE static unsigned row(int slice, unsigned r) {
    return r / piece_high * rows + static_cast<unsigned>(slice * piece_high) + r % piece_high;
  }

  AGF_DEVICE explicit TileSums(unsigned thread)
      : warp_down_(thread / 32 / (wide / columns)),
        warp_along_(thread / 32 % (wide / columns)),
        group_(thread % 32 / 4),
        member_(thread % 4),
        sum_{} {}

  AGF_DEVICE void add(const double* a, const double* b) {
#pragma unroll
    for (int first = 0; first < deep; first += piece_deep) {
      const double* const a_piece = a + first * tile_stride<high> + warp_down_ * rows;
      const double* const b_piece = b + first * tile_stride<wide> + warp_along_ * columns;
#if defined(__CUDA_ARCH__)
      double right[along][4];
#pragma unroll
      for (int s = 0; s < along; ++s) {
#pragma unroll
        for (unsigned q = 0; q < 4; ++q)
          right[s][q] = b_piece[(4 * q + member_) * tile_stride<wide> + s * piece_wide + group_];
      }
#pragma unroll
      for (int r = 0; r < down; ++r) {
        double left[8];
#pragma unroll
        for (unsigned q = 0; q < 8; ++q)
          left[q] = a_piece[(q / 2 * 4 + member_) * tile_stride<high> + r * piece_high + q % 2 * 8 + group_];
#pragma unroll
        for (int s = 0; s < along; ++s) multiply(left, right[s], sum_[r][s]);
      }
#else
      for (int r = 0; r < down; ++r) {
        for (int s = 0; s < along; ++s) {
          for (unsigned e = 0; e < 4; ++e) {
            const double* const left = a_piece + static_cast<unsigned>(r * piece_high) + row_of(e);
            const double* const right = b_piece + static_cast<unsigned>(s * piece_wide) + column_of(e);
            for (int q = 0; q < piece_deep; ++q)
              sum_[r][s][e] += left[q * tile_stride<high>] * right[q * tile_stride<wide>];
          }
        }
      }
#endif
    }
  }

  AGF_DEVICE void show(int slice, double* to) const {
#pragma unroll
    for (int r = 0; r < down; ++r) {
      if (r != slice) continue;
      double* const piece = to + warp_down_ * piece_high * tile_stride<wide> + warp_along_ * columns;
#pragma unroll
      for (int s = 0; s < along; ++s) {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e)
          piece[row_of(e) * tile_stride<wide> + static_cast<unsigned>(s * piece_wide) + column_of(e)] = sum_[r][s][e];
      }
    }
  }

 private:
  AGF_DEVICE unsigned row_of(unsigned e) const { return group_ + e / 2 * 8; }
  AGF_DEVICE unsigned column_of(unsigned e) const { return 2 * member_ + e % 2; }

#if defined(__CUDA_ARCH__)
  // sum += left right of a warp, (16, 16) by (16, 8): of the factors a thread holds inner indices t, t + 4, ..., of the
  // left one both of its rows at each, of the right one column g.
  AGF_DEVICE static void multiply(const double (&left)[8], const double (&right)[4], double (&sum)[4]) {
#if __CUDA_ARCH__ >= 900
    asm("mma.sync.aligned.m16n8k16.row.col.f64.f64.f64.f64 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7, %8, %9, %10, %11}, {%12, %13, %14, %15}, {%0, %1, %2, %3};"
        : "+d"(sum[0]), "+d"(sum[1]), "+d"(sum[2]), "+d"(sum[3])
        : "d"(left[0]), "d"(left[1]), "d"(left[2]), "d"(left[3]), "d"(left[4]), "d"(left[5]), "d"(left[6]),
          "d"(left[7]), "d"(right[0]), "d"(right[1]), "d"(right[2]), "d"(right[3]));
#else
    // Its quarters of the inner index and halves of the rows.
#pragma unroll
    for (int q = 0; q < 4; ++q) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
            : "+d"(sum[2 * half]), "+d"(sum[2 * half + 1])
            : "d"(left[2 * q + half]), "d"(right[q]));
    }
#endif
  }
#endif

  unsigned warp_down_, warp_along_, group_, member_;
  double sum_[down][along][4];
};

}  // namespace AGF_SPACE::cuda
