// Panels of columns in shared memory, and what a matrix takes off by one.
#pragma once

#include <math.h>
#include <stddef.h>

#include "team.cuh"

namespace AGF_SPACE::cuda::algebra {

// Columns that are eliminated together.
inline constexpr unsigned panel = 16;
// What each kernel may use of the shared memory, from its beginning.
inline constexpr size_t shared_bytes = size_t{1} << 14;
// Rows of a panel that lie in it at once, with room for some vectors beside.
inline constexpr unsigned near_rows = 112;
// Rows and columns of what a pair of slabs takes off.
inline constexpr unsigned group_rows = 64, group_columns = 32;

// Where a slab of rows in shared memory has its number p of a row: rows are read at one p without two threads at one
// bank, and p is an offset that the instruction holds.
inline constexpr unsigned slab_stride = panel + 1;
AGF_DEVICE constexpr unsigned place(unsigned row, unsigned p) { return row * slab_stride + p; }
static_assert((group_rows + group_columns) * slab_stride * sizeof(double) <= shared_bytes);

AGF_DEVICE unsigned least(unsigned a, unsigned b) { return a < b ? a : b; }

AGF_DEVICE double inverse_root(double x) {
#if defined(__CUDA_ARCH__)
  return rsqrt(x);
#else
  return 1 / ::sqrt(x);
#endif
}

// store(e, load(e)) for e < count. Reads go eight at a time: the compiler cannot move one before a write.
template <int width, typename Load, typename Store>
AGF_DEVICE void carry(const Team& team, unsigned count, const Load& load, const Store& store) {
  constexpr unsigned deep = 8;
  for (unsigned first = team.thread(); first < count; first += deep * width) {
    double held[deep];
#pragma unroll
    for (unsigned q = 0; q < deep; ++q) held[q] = first + q * width < count ? load(first + q * width) : 0;
#pragma unroll
    for (unsigned q = 0; q < deep; ++q)
      if (first + q * width < count) store(first + q * width, held[q]);
  }
}

// Rows from `from` into a slab.
template <int width>
AGF_DEVICE void fetch(const Team& team, const double* from, unsigned stride, unsigned rows, double* slab) {
  carry<width>(
      team, rows * panel, [=](unsigned e) { return from[e / panel * stride + e % panel]; },
      [=](unsigned e, double value) { slab[place(e / panel, e % panel)] = value; });
}

// Columns, at most `group_columns`.
template <int width>
AGF_DEVICE void fetch_across(const Team& team, const double* from, unsigned stride, unsigned columns, double* slab) {
  carry<width>(
      team, group_columns * panel,
      [=](unsigned e) {
        return e % group_columns < columns ? from[e / group_columns * stride + e % group_columns] : 0;
      },
      [=](unsigned e, double value) { slab[place(e % group_columns, e / group_columns)] = value; });
}

// C -= A B^T with A and B in slabs, for j <= i alone where `lower`. A thread has 4 x 4 of C in registers, rows and
// columns that its neighbours' lie between: stores and reads of the slabs are contiguous in a warp.
template <int width, bool lower>
AGF_DEVICE void subtract(const Team& team, const double* a, const double* b, unsigned rows, unsigned columns, double* c,
                         unsigned stride) {
  constexpr unsigned quad = 4, along = width >= 32 ? 8 : 2, down = width / along;
  // Tiles that stand out reach no further than what they begin in.
  static_assert(along * down == width && group_rows % (quad * down) == 0 && group_columns % (quad * along) == 0 &&
                (near_rows - panel) % (quad * down) == 0 && (near_rows - panel) % (quad * along) == 0);
  const unsigned down_at = team.thread() / along, along_at = team.thread() % along;
  for (unsigned left = 0; left < columns; left += quad * along) {
    for (unsigned top = lower ? left / (quad * down) * (quad * down) : 0; top < rows; top += quad * down) {
      const unsigned i = top + down_at, j = left + along_at;
      if (lower && i + (quad - 1) * down < j) continue;
      const double* const a_at = a + place(i, 0);
      const double* const b_at = b + place(j, 0);
      double* const c_at = c + i * stride + j;
      const auto inside = [&](unsigned r, unsigned s) {
        const unsigned row = i + r * down, column = j + s * along;
        return row < rows && column < columns && !(lower && column > row);
      };
      double sum[quad][quad];
#pragma unroll
      for (unsigned r = 0; r < quad; ++r) {
#pragma unroll
        for (unsigned s = 0; s < quad; ++s) sum[r][s] = inside(r, s) ? c_at[r * down * stride + s * along] : 0;
      }
#pragma unroll 4
      for (unsigned p = 0; p < panel; ++p) {
        double left_at[quad], right_at[quad];
#pragma unroll
        for (unsigned r = 0; r < quad; ++r) {
          left_at[r] = a_at[place(r * down, p)];
          right_at[r] = b_at[place(r * along, p)];
        }
#pragma unroll
        for (unsigned r = 0; r < quad; ++r) {
#pragma unroll
          for (unsigned s = 0; s < quad; ++s) sum[r][s] -= left_at[r] * right_at[s];
        }
      }
#pragma unroll
      for (unsigned r = 0; r < quad; ++r) {
#pragma unroll
        for (unsigned s = 0; s < quad; ++s)
          if (inside(r, s)) c_at[r * down * stride + s * along] = sum[r][s];
      }
    }
  }
}

// The same with A (size, panel) and B in global memory, B the columns of (panel, size) where it lies `across`: groups
// of rows against groups of columns, two barriers a pair.
template <int width, bool lower, bool across>
AGF_DEVICE void update(const Team& team, double* shared, const double* a, const double* b, unsigned size, double* c,
                       unsigned stride) {
  double* const a_slab = shared + place(group_columns, 0);
  for (unsigned left = 0; left < size; left += group_columns) {
    const unsigned columns = least(group_columns, size - left);
    if constexpr (across) {
      fetch_across<width>(team, b + left, stride, columns, shared);
    } else {
      fetch<width>(team, b + left * stride, stride, columns, shared);
    }
    for (unsigned top = lower ? left : 0; top < size; top += group_rows) {
      const unsigned rows = least(group_rows, size - top);
      fetch<width>(team, a + top * stride, stride, rows, a_slab);
      team.barrier();
      double* const at = c + top * stride + left;
      if (lower && top == left) {
        subtract<width, true>(team, a_slab, shared, rows, columns, at, stride);
      } else {
        subtract<width, false>(team, a_slab, shared, rows, columns, at, stride);
      }
      team.barrier();
    }
  }
}

}  // namespace AGF_SPACE::cuda::algebra
