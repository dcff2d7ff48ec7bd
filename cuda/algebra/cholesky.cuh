// Positive definite systems.
#pragma once

#include <float.h>
#include <stddef.h>

#include "algebra/panels.cuh"
#include "algebra/substitute.cuh"

namespace AGF_SPACE::cuda::algebra {

// A = L L^T in the lower triangle, which alone is read; `ok` 1, or 0 with A undefined unless A is positive definite and
// finite.
//
// Panels of 16 columns, right-looking. The rows of a panel lie in the threads' registers, all of them where n <= 112;
// a barrier a column passes the column of the diagonal block to everybody, who finds the pivot's root by itself. Then
// the trailing triangle takes the whole panel off in one go. 19 barriers a panel with up to 112 rows; 3 more for each
// 96 further rows, and 2 for each of the trailing tiles of 64 x 32.
template <int threads>
struct Cholesky {
  static constexpr int width = threads;
  static constexpr size_t shared_bytes = algebra::shared_bytes;
  static constexpr unsigned own = width >= 16 ? (near_rows + width - 1) / width : 16 / width;
  static_assert(own * width >= panel);

  size_t n;
  double* matrix;
  int* ok;

  // A row of the panel below the diagonal block, which is done and in the slab's first rows.
  AGF_DEVICE static void solve_row(const double* slab, const double* inverse, double* to, unsigned row) {
    // Read when needed: the triangle has more numbers than a thread has registers.
    const volatile double* const triangle = slab;
    double x[panel];
#pragma unroll
    for (unsigned p = 0; p < panel; ++p) x[p] = to[place(row, p)];
#pragma unroll
    for (unsigned j = 0; j < panel; ++j) {
      x[j] *= inverse[j];
#pragma unroll
      for (unsigned p = j + 1; p < panel; ++p) x[p] -= x[j] * triangle[place(p, j)];
    }
#pragma unroll
    for (unsigned p = 0; p < panel; ++p) to[place(row, p)] = x[p];
  }

  AGF_DEVICE void operator()(const Team& team) const {
    double* const slab = team.shared<double>();
    double* const column = slab + place(near_rows, 0);
    double* const inverse = column + 2 * panel;
    const unsigned size = static_cast<unsigned>(n), thread = team.thread();
    for (unsigned k = 0; k < size; k += panel) {
      const unsigned rows = size - k, columns = least(panel, rows), near = least(near_rows, rows);
      double* const block = matrix + k * size + k;
      // What is beyond the matrix is the identity's.
      carry<width>(
          team, (near < panel ? panel : near) * panel,
          [=](unsigned e) {
            const unsigned row = e / panel, p = e % panel;
            return row < rows && p < columns && p <= row ? block[row * size + p] : (p == row ? 1 : 0);
          },
          [=](unsigned e, double value) { slab[place(e / panel, e % panel)] = value; });
      team.barrier();
      double x[own][panel];
#pragma unroll
      for (unsigned r = 0; r < own; ++r) {
        const unsigned row = thread + r * width;
        const bool held = row < (near < panel ? panel : near);
#pragma unroll
        for (unsigned p = 0; p < panel; ++p) x[r][p] = held ? slab[place(row, p)] : 0;
      }
#pragma unroll
      for (unsigned j = 0; j < panel; ++j) {
        // Two columns take turns: what is written next is no longer read by anybody who has passed here.
        double* const turn = column + j % 2 * panel;
#pragma unroll
        for (unsigned r = 0; r < own; ++r)
          if (thread + r * width < panel) turn[thread + r * width] = x[r][j];
        team.barrier();
        const double pivot = turn[j];
        if (!(pivot > 0 && pivot <= DBL_MAX)) {
          if (thread == 0) *ok = 0;
          return;
        }
        const double root = inverse_root(pivot);
        if (thread == 0) inverse[j] = root;
#pragma unroll
        for (unsigned r = 0; r < own; ++r) {
          if (r > 0 && r * width >= near) continue;
          x[r][j] *= root;
          const double share = x[r][j] * root;
#pragma unroll
          for (unsigned p = j + 1; p < panel; ++p) x[r][p] -= share * turn[p];
        }
      }
#pragma unroll
      for (unsigned r = 0; r < own; ++r) {
        const unsigned row = thread + r * width;
        if (row >= near) continue;
#pragma unroll
        for (unsigned p = 0; p < panel; ++p) slab[place(row, p)] = x[r][p];
      }
      team.barrier();
      if (own * width < near) {
        for (unsigned row = own * width + thread; row < near; row += width) solve_row(slab, inverse, slab, row);
        team.barrier();
      }
      carry<width>(
          team, near * panel, [=](unsigned e) { return slab[place(e / panel, e % panel)]; },
          [=](unsigned e, double value) {
            const unsigned row = e / panel, p = e % panel;
            if (p < columns && p <= row) block[row * size + p] = value;
          });
      if (rows > near) {
        double* const chunk = slab + place(panel, 0);
        for (unsigned top = near; top < rows; top += near_rows - panel) {
          const unsigned count = least(near_rows - panel, rows - top);
          double* const from = block + top * size;
          team.barrier();
          fetch<width>(team, from, size, count, chunk);
          team.barrier();
          // A thread's row is its own until it is stored.
          for (unsigned row = thread; row < count; row += width) solve_row(slab, inverse, chunk, row);
          team.barrier();
          carry<width>(
              team, count * panel, [=](unsigned e) { return chunk[place(e / panel, e % panel)]; },
              [=](unsigned e, double value) { from[e / panel * size + e % panel] = value; });
        }
        team.barrier();
        const double* const below = block + panel * size;
        update<width, true, false>(team, slab, below, below, rows - panel, block + panel * size + panel, size);
      } else if (rows > panel) {
        const double* const below = slab + place(panel, 0);
        subtract<width, true>(team, below, below, rows - panel, rows - panel, block + panel * size + panel, size);
        team.barrier();
      }
    }
    if (thread == 0) *ok = 1;
  }
};

// L L^T x = b in place for `count` right-hand sides, each n long and contiguous. n / 16 + 1 barriers for each of the
// two triangles, and again for each further `width` of right-hand sides.
template <int threads>
struct CholeskySolve {
  static constexpr int width = threads;
  static constexpr size_t shared_bytes = algebra::shared_bytes;
  size_t n;
  const double* factor;
  double* rhs;
  size_t count;

  AGF_DEVICE void operator()(const Team& team) const {
    if (n == 0) return;
    double* const shared = team.shared<double>();
    const unsigned size = static_cast<unsigned>(n), sides = static_cast<unsigned>(count);
    substitute<width, true, false, false>(team, size, factor, rhs, sides, shared);
    substitute<width, false, true, false>(team, size, factor, rhs, sides, shared);
  }
};

}  // namespace AGF_SPACE::cuda::algebra
