// Systems of any matrix.
#pragma once

#include <float.h>
#include <math.h>
#include <stddef.h>

#include "algebra/panels.cuh"
#include "algebra/substitute.cuh"

namespace AGF_SPACE::cuda::algebra {

// P A = L U with partial pivoting, in place: row i of P A is row pivots[i] of A. `ok` 1, or 0 with A undefined where a
// pivot is zero or no number.
//
// Panels of 16 columns, in shared memory where they have up to 112 rows; three barriers a column: two levels of the
// search for the pivot, whose candidates the elimination before has found, and the exchange, by all threads and of
// whole rows. Then rows of U without a barrier, a thread a column, and the trailing matrix in tiles of 64 x 32, two
// barriers each.
template <int threads>
struct Lu {
  static constexpr int width = threads;
  static constexpr size_t shared_bytes = algebra::shared_bytes;
  static constexpr unsigned group = width >= 64 ? 8 : width >= 16 ? 4 : 2, groups = width / group;
  static_assert(group * groups == width && width <= 64);

  size_t n;
  double* matrix;
  int* pivots;
  int* ok;

  // The largest number of a column, and its row.
  struct Candidate {
    double size;
    unsigned row;
    AGF_DEVICE void meet(double other_size, unsigned other_row) {
      if (!(other_size > size)) return;
      size = other_size;
      row = other_row;
    }
  };

  template <bool near>
  AGF_DEVICE double& entry(double* slab, unsigned k, unsigned row, unsigned p) const {
    return near ? slab[place(row, p)] : matrix[(k + row) * static_cast<unsigned>(n) + k + p];
  }

  template <bool near>
  AGF_DEVICE bool eliminate(const Team& team, double* slab, unsigned k) const {
    const unsigned size = static_cast<unsigned>(n), rows = size - k, columns = least(panel, rows);
    const unsigned thread = team.thread();
    double* const pivot_row = slab + place(near_rows, 0);
    double* const candidates = pivot_row + panel;
    double* const winners = candidates + width;
    unsigned* const candidate_rows = reinterpret_cast<unsigned*>(winners + groups);
    unsigned* const winner_rows = candidate_rows + width;
    static_assert((place(near_rows, 0) + panel) * sizeof(double) +
                      (width + groups) * (sizeof(double) + sizeof(unsigned)) <=
                  shared_bytes);
    Candidate mine{0, 0};
    for (unsigned row = thread; row < rows; row += width) mine.meet(fabs(entry<near>(slab, k, row, 0)), row);
    for (unsigned j = 0; j < columns; ++j) {
      candidates[thread] = mine.size;
      candidate_rows[thread] = mine.row;
      team.barrier();
      if (thread < groups) {
        Candidate winner{0, 0};
#pragma unroll
        for (unsigned q = 0; q < group; ++q)
          winner.meet(candidates[thread * group + q], candidate_rows[thread * group + q]);
        winners[thread] = winner.size;
        winner_rows[thread] = winner.row;
      }
      team.barrier();
      Candidate pivot{0, 0};
#pragma unroll
      for (unsigned q = 0; q < groups; ++q) pivot.meet(winners[q], winner_rows[q]);
      if (!(pivot.size > 0 && pivot.size <= DBL_MAX)) return false;
      for (unsigned p = thread; p < columns; p += width) {
        double& to = entry<near>(slab, k, j, p);
        double& from = entry<near>(slab, k, pivot.row, p);
        const double value = from;
        from = to;
        to = value;
        pivot_row[p] = value;
      }
      if (pivot.row != j) {
        double* const to = matrix + (k + j) * size;
        double* const from = matrix + (k + pivot.row) * size;
        for (unsigned p = thread; p < size; p += width) {
          if (p - k < columns) continue;
          const double value = from[p];
          from[p] = to[p];
          to[p] = value;
        }
        if (thread == 0) {
          const int value = pivots[k + pivot.row];
          pivots[k + pivot.row] = pivots[k + j];
          pivots[k + j] = value;
        }
      }
      team.barrier();
      mine = Candidate{0, 0};
      const double divisor = pivot_row[j];
      for (unsigned row = thread; row < rows; row += width) {
        if (row <= j) continue;
        const double share = entry<near>(slab, k, row, j) / divisor;
        entry<near>(slab, k, row, j) = share;
        // Four at a time, as in `carry`.
        for (unsigned first = j + 1; first < columns; first += 4) {
          double value[4] = {};
#pragma unroll
          for (unsigned q = 0; q < 4; ++q)
            if (first + q < columns) value[q] = entry<near>(slab, k, row, first + q) - share * pivot_row[first + q];
#pragma unroll
          for (unsigned q = 0; q < 4; ++q)
            if (first + q < columns) entry<near>(slab, k, row, first + q) = value[q];
          if (first == j + 1) mine.meet(fabs(value[0]), row);
        }
      }
    }
    team.barrier();
    return true;
  }

  AGF_DEVICE void operator()(const Team& team) const {
    double* const slab = team.shared<double>();
    const unsigned size = static_cast<unsigned>(n), thread = team.thread();
    for (unsigned i = thread; i < size; i += width) pivots[i] = static_cast<int>(i);
    for (unsigned k = 0; k < size; k += panel) {
      const unsigned rows = size - k, columns = least(panel, rows);
      double* const block = matrix + k * size + k;
      bool fine;
      if (rows <= near_rows) {
        carry<width>(
            team, rows * panel,
            [=](unsigned e) { return e % panel < columns ? block[e / panel * size + e % panel] : 0; },
            [=](unsigned e, double value) { slab[place(e / panel, e % panel)] = value; });
        team.barrier();
        fine = eliminate<true>(team, slab, k);
      } else {
        fine = eliminate<false>(team, slab, k);
      }
      if (!fine) {
        if (thread == 0) *ok = 0;
        return;
      }
      if (rows <= near_rows) {
        carry<width>(
            team, rows * panel, [=](unsigned e) { return slab[place(e / panel, e % panel)]; },
            [=](unsigned e, double value) {
              if (e % panel < columns) block[e / panel * size + e % panel] = value;
            });
      } else {
        fetch<width>(team, block, size, panel, slab);
        team.barrier();
      }
      if (rows <= panel) break;
      // Read when needed, as in Cholesky.
      const volatile double* const triangle = slab;
      for (unsigned column = panel + thread; column < rows; column += width) {
        double x[panel];
#pragma unroll
        for (unsigned p = 0; p < panel; ++p) x[p] = block[p * size + column];
#pragma unroll
        for (unsigned j = 0; j < panel; ++j) {
#pragma unroll
          for (unsigned p = j + 1; p < panel; ++p) x[p] -= triangle[place(p, j)] * x[j];
        }
#pragma unroll
        for (unsigned p = 0; p < panel; ++p) block[p * size + column] = x[p];
      }
      team.barrier();
      update<width, false, true>(team, slab, block + panel * size, block + panel, rows - panel,
                                 block + panel * size + panel, size);
    }
    if (thread == 0) *ok = 1;
  }
};

// A x = b in place with the factors and pivots of Lu. Barriers: those of CholeskySolve, and 2 for the permutation of
// every 1536 numbers of the right-hand sides.
template <int threads>
struct LuSolve {
  static constexpr int width = threads;
  static constexpr size_t shared_bytes = algebra::shared_bytes;
  static constexpr unsigned most = 1536;
  static_assert(most * sizeof(double) <= shared_bytes);
  size_t n;
  const double* factor;
  const int* pivots;
  double* rhs;
  size_t count;

  AGF_DEVICE void operator()(const Team& team) const {
    if (n == 0) return;
    double* const shared = team.shared<double>();
    const unsigned size = static_cast<unsigned>(n), sides = static_cast<unsigned>(count);
    if (size <= most) {
      const unsigned together = most / size;
      for (unsigned first = 0; first < sides; first += together) {
        const unsigned numbers = least(together, sides - first) * size;
        double* const b = rhs + static_cast<size_t>(first) * size;
        carry<width>(
            team, numbers, [=](unsigned e) { return b[e]; }, [=](unsigned e, double value) { shared[e] = value; });
        team.barrier();
        const int* const from = pivots;
        carry<width>(
            team, numbers, [=](unsigned e) { return shared[e / size * size + static_cast<unsigned>(from[e % size])]; },
            [=](unsigned e, double value) { b[e] = value; });
        team.barrier();
      }
    } else {
      // In place: what was at pivots[i] has been exchanged to where the pivots lead on.
      for (unsigned side = team.thread(); side < sides; side += width) {
        double* const b = rhs + static_cast<size_t>(side) * size;
        for (unsigned i = 0; i < size; ++i) {
          unsigned from = static_cast<unsigned>(pivots[i]);
          while (from < i) from = static_cast<unsigned>(pivots[from]);
          const double value = b[from];
          b[from] = b[i];
          b[i] = value;
        }
      }
      team.barrier();
    }
    substitute<width, true, false, true>(team, size, factor, rhs, sides, shared);
    substitute<width, false, false, false>(team, size, factor, rhs, sides, shared);
  }
};

}  // namespace AGF_SPACE::cuda::algebra
