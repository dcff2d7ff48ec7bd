// Dense linear algebra of one block of threads, on matrices in global memory: what agf::Backend offers, with the same
// contracts, for runs that live in a block. Matrices are n x n, row-major, of doubles.
//
// A kernel here waits neither before its first access nor after its last: what calls it has a barrier on either side.
// The threads of a block take the same turns, whatever the numbers, and add in an order that n and the width decide.
#pragma once

#include <float.h>
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

// T x = b in place for `count` right-hand sides, T triangular: the lower triangle of `factor` if `forward`, else the
// upper one; the transpose of the other one if `transposed`; with ones on the diagonal if `unit`.
//
// Blocks of 16 unknowns, one barrier each: every thread solves the diagonal block by itself, from shared memory, where
// it lies with the diagonal inverted since the step before, and takes the solution off its own rows of the right-hand
// side. The threads are shared out among the right-hand sides. Another triangle may follow without a barrier: it reads
// the right-hand side after its own first one.
template <int width, bool forward, bool transposed, bool unit>
AGF_DEVICE void substitute(const Team& team, unsigned n, const double* factor, double* rhs, unsigned count,
                           double* shared) {
  constexpr unsigned stride = panel + 1, share = panel * panel / width, corners = (panel + width - 1) / width;
  constexpr unsigned together = 2;  // rows, so that more reads are on their way
  static_assert(share * width == panel * panel);
  const unsigned blocks = (n + panel - 1) / panel, thread = team.thread();
  double ahead[share], corner[corners];
  const auto read = [&](unsigned step) {
    const unsigned k = (forward ? step : blocks - 1 - step) * panel;
#pragma unroll
    for (unsigned q = 0; q < share; ++q) {
      const unsigned i = (thread + q * width) / panel, j = (thread + q * width) % panel;
      ahead[q] = k + i < n && k + j < n ? factor[(k + i) * n + k + j] : 0;
    }
    if constexpr (!unit) {
#pragma unroll
      for (unsigned q = 0; q < corners; ++q) {
        const unsigned i = thread + q * width;
        corner[q] = i < panel && k + i < n ? factor[(k + i) * n + k + i] : 1;
      }
    }
  };
  const auto keep = [&](unsigned step) {
    double* const to = shared + step % 2 * (panel * stride);
#pragma unroll
    for (unsigned q = 0; q < share; ++q) {
      const unsigned i = (thread + q * width) / panel, j = (thread + q * width) % panel;
      if (i != j) to[transposed ? j * stride + i : i * stride + j] = ahead[q];
    }
    if constexpr (!unit) {
#pragma unroll
      for (unsigned q = 0; q < corners; ++q) {
        const unsigned i = thread + q * width;
        if (i < panel) to[i * stride + i] = 1 / corner[q];
      }
    }
  };
  for (unsigned first = 0; first < count; first += width) {
    const unsigned members = least(width, count - first), lanes = width / members, lane = thread % lanes;
    const bool active = thread / lanes < members;
    double* const b = rhs + static_cast<size_t>(first + thread / lanes) * n;
    double x[panel] = {};
    const auto store = [&](unsigned k) {
      if (!active || lane != 0) return;
#pragma unroll
      for (unsigned p = 0; p < panel; ++p)
        if (k + p < n) b[k + p] = x[p];
    };
    read(0);
    keep(0);
    team.barrier();
    for (unsigned step = 0; step < blocks; ++step) {
      const unsigned k = (forward ? step : blocks - 1 - step) * panel;
      const double* const triangle = shared + step % 2 * (panel * stride);
      // Others read the right-hand side of a block until the barrier that ends its step.
      if (step > 0) store(forward ? k - panel : k + panel);
      if (step + 1 < blocks) read(step + 1);
      if (active) {
#pragma unroll
        for (unsigned p = 0; p < panel; ++p) x[p] = k + p < n ? b[k + p] : 0;
#pragma unroll
        for (unsigned q = 0; q < panel; ++q) {
          const unsigned j = forward ? q : panel - 1 - q;
          if constexpr (!unit) x[j] *= triangle[j * stride + j];
#pragma unroll
          for (unsigned p = 0; p < panel; ++p)
            if (forward ? p > j : p < j) x[p] -= triangle[p * stride + j] * x[j];
        }
      }
      if (step + 1 < blocks) keep(step + 1);
      if (active) {
        const unsigned columns = least(panel, n - k), end = forward ? n : k;
        for (unsigned i = (forward ? k + panel : 0) + lane; i < end; i += together * lanes) {
          double sum[together];
#pragma unroll
          for (unsigned r = 0; r < together; ++r) {
            const unsigned row = i + r * lanes;
            const double* const at = transposed ? factor + k * n + row : factor + row * n + k;
            double even = row < end ? b[row] : 0, odd = 0;
#pragma unroll
            for (unsigned p = 0; p < panel; p += 2) {
              if (row < end && p < columns) even -= at[p * (transposed ? n : 1)] * x[p];
              if (row < end && p + 1 < columns) odd -= at[(p + 1) * (transposed ? n : 1)] * x[p + 1];
            }
            sum[r] = even + odd;
          }
#pragma unroll
          for (unsigned r = 0; r < together; ++r)
            if (i + r * lanes < end) b[i + r * lanes] = sum[r];
        }
      }
      team.barrier();
    }
    store(forward ? (blocks - 1) * panel : 0);
  }
}

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

// Ascending eigenvalues; row k of `matrix`, whose lower triangle is read, becomes the k-th orthonormal eigenvector.
// n <= 256; `work` holds n * n numbers. Of a matrix with entries that are no numbers, all values are NaN.
//
// Reflections make A tridiagonal, implicit QL makes that diagonal: about an eighth of the operations of Jacobi's
// method. A step of the reduction takes one reflection off A and multiplies by the next vector in one pass, a thread
// two columns: A is read and written once a step, and norms, of at most n numbers in shared memory, each thread sums by
// itself. QL is a chain of n^2 rotations, each waiting for the last, which one thread computes; meanwhile a warp of its
// own applies those of the sweep before, four columns of the vectors a thread. 2 n barriers for the reduction, about
// as many for QL.
template <int threads>
struct Eigen {
  static constexpr int width = threads;
  static constexpr unsigned most = 256;
  // The steering thread's warp would wait for it at every turn.
  static constexpr unsigned first_helper = width > 32 ? 32 : 1, helpers = width - first_helper;
  static_assert(width > 1);

  struct alignas(16) Rotation {
    double cosine, sine;
  };
  // Rotations of rows i and i + 1 for i = high - 1, ..., low.
  struct Sweep {
    unsigned low, high;
    int state;
  };
  enum State { goes_on, done, failed };

  static constexpr size_t shared_bytes = 6 * most * sizeof(double) + 2 * sizeof(Sweep) + 8;
  static_assert(shared_bytes <= algebra::shared_bytes);

  size_t n;
  double* matrix;
  double* values;
  double* work;

  // What thread 0 remembers of QL between sweeps: the block that is worked on, e_high = 0, or is yet to be found.
  struct Progress {
    unsigned low = 0, high = 0, left = 0;
    bool known = false;
  };

  // d_i and e_i, which couples i and i + 1, counted from the end: the reduction leaves what is large at the beginning,
  // and QL wants it at the end.
  struct Tridiagonal {
    double* d;
    double* e;
    unsigned n;
    AGF_DEVICE double& diagonal(unsigned i) const { return d[n - 1 - i]; }
    AGF_DEVICE double& coupling(unsigned i) const { return e[n - 2 - i]; }
    // The largest entry of A is between 1 and 2: what is far less than its rounding is nothing.
    AGF_DEVICE static bool negligible(double coupling, double one, double other) {
      return fabs(coupling) <= DBL_EPSILON * fmax(fabs(one) + fabs(other), 0x1p-6);
    }
  };

  AGF_DEVICE static Sweep next_sweep(const Tridiagonal& t, Progress& at, Rotation* rotations) {
    const unsigned n = t.n;
    for (;;) {
      if (at.low + 1 >= n) return {0, 0, done};
      if (!at.known) {
        at.high = at.low;
        while (at.high + 1 < n && !t.negligible(t.coupling(at.high), t.diagonal(at.high), t.diagonal(at.high + 1)))
          ++at.high;
        at.known = true;
      }
      if (at.high > at.low) break;
      ++at.low;
      at.known = false;
    }
    if (at.left-- == 0) return {0, 0, failed};
    const unsigned low = at.low, high = at.high;
    // Wilkinson's shift, from the first two rows.
    const double first = t.diagonal(low), coupled = t.coupling(low);
    const double half = (t.diagonal(low + 1) - first) / (2 * coupled);
    double g = t.diagonal(high) - first + coupled / (half + copysign(::sqrt(half * half + 1), half));
    double cosine = 1, sine = 1, p = 0;
    double here = t.diagonal(high), next = t.diagonal(high - 1), coupling = t.coupling(high - 1);
    double above = 0;  // d_{i + 2}, which is final
    unsigned split = high;
    for (unsigned i = high; i-- > low;) {
      const double next_after = i > low ? t.diagonal(i - 1) : 0, coupling_after = i > low ? t.coupling(i - 1) : 0;
      const double f = sine * coupling, b = cosine * coupling, square = f * f + g * g;
      if (square < 0x1p-960) {
        // Nothing is left to chase.
        t.diagonal(i + 1) = here - p;
        if (i + 1 < high) t.coupling(i + 1) = 0;
        if (high + 1 < n) t.coupling(high) = 0;
        at.known = false;
        return {i + 1, high, goes_on};
      }
      const double inverse = inverse_root(square), r = square * inverse;
      sine = f * inverse;
      cosine = g * inverse;
      g = here - p;
      const double turned = (next - g) * sine + 2 * cosine * b;
      p = sine * turned;
      const double settled = g + p;
      g = cosine * turned - b;
      rotations[i] = {cosine, sine};
      t.diagonal(i + 1) = settled;
      if (i + 1 < high) {
        t.coupling(i + 1) = r;
        if (t.negligible(r, settled, above)) split = i + 1;
      }
      above = settled;
      here = next;
      next = next_after;
      coupling = coupling_after;
    }
    const double last = here - p;
    t.diagonal(low) = last;
    t.coupling(low) = g;
    if (high + 1 < n) t.coupling(high) = 0;
    at.high = split;
    if (t.negligible(g, last, above)) ++at.low;
    return {low, high, goes_on};
  }

  // Columns of the vectors, each by itself; row i of QL is row n - 1 - i. The rows of four rotations are on their way
  // while the four before are applied.
  AGF_DEVICE static void rotate(const Sweep& sweep, const Rotation* rotations, double* vectors, unsigned n,
                                unsigned helper) {
    constexpr unsigned together = 4, deep = 4;
    const unsigned count = sweep.high - sweep.low;
    if (count == 0) return;
    for (unsigned column = helper; column < n; column += together * helpers) {
      double* const at = vectors + (n - 1 - sweep.high) * n + column;
      const auto read = [&](unsigned row, unsigned q) {
        return row <= count && column + q * helpers < n ? at[row * n + q * helpers] : 0;
      };
      double above[together], here[deep][together];
#pragma unroll
      for (unsigned q = 0; q < together; ++q) {
        above[q] = read(0, q);
#pragma unroll
        for (unsigned r = 0; r < deep; ++r) here[r][q] = read(1 + r, q);
      }
      for (unsigned first = 0; first < count; first += deep) {
        double next[deep][together];
        Rotation rotation[deep];
#pragma unroll
        for (unsigned r = 0; r < deep; ++r) {
#pragma unroll
          for (unsigned q = 0; q < together; ++q) next[r][q] = read(first + deep + 1 + r, q);
          rotation[r] = first + r < count ? rotations[sweep.high - 1 - first - r] : Rotation{1, 0};
        }
#pragma unroll
        for (unsigned r = 0; r < deep; ++r) {
          if (first + r >= count) break;
#pragma unroll
          for (unsigned q = 0; q < together; ++q) {
            if (column + q * helpers < n)
              at[(first + r) * n + q * helpers] = rotation[r].sine * here[r][q] + rotation[r].cosine * above[q];
            above[q] = rotation[r].cosine * here[r][q] - rotation[r].sine * above[q];
          }
        }
#pragma unroll
        for (unsigned r = 0; r < deep; ++r) {
#pragma unroll
          for (unsigned q = 0; q < together; ++q) here[r][q] = next[r][q];
        }
      }
#pragma unroll
      for (unsigned q = 0; q < together; ++q)
        if (column + q * helpers < n) at[count * n + q * helpers] = above[q];
    }
  }

  AGF_DEVICE void no_values(const Team& team) const {
    for (unsigned i = team.thread(); i < static_cast<unsigned>(n); i += width) values[i] = static_cast<double>(NAN);
  }

  // Two columns, from row `from` on: M_ij -= sum_q x_qi s_qj for the vectors x_q, and returns sum_i M_ij y_i in `sums`.
  // Rows go eight at a time, as in `carry`.
  template <unsigned vectors>
  AGF_DEVICE static void pass(double* at, unsigned from, unsigned n, bool both, const double* const (&x)[vectors],
                              const double (&share)[vectors][2], const double* y, double (&sums)[2]) {
    constexpr unsigned deep = 8;
    for (unsigned i = from; i < n; i += deep) {
      double m[deep][2];
#pragma unroll
      for (unsigned r = 0; r < deep; ++r) {
        m[r][0] = i + r < n ? at[(i + r) * n] : 0;
        m[r][1] = both && i + r < n ? at[(i + r) * n + width] : 0;
      }
#pragma unroll
      for (unsigned r = 0; r < deep; ++r) {
        if (i + r >= n) break;
#pragma unroll
        for (unsigned q = 0; q < vectors; ++q) {
          m[r][0] -= x[q][i + r] * share[q][0];
          m[r][1] -= x[q][i + r] * share[q][1];
        }
        sums[0] += m[r][0] * y[i + r];
        sums[1] += m[r][1] * y[i + r];
      }
#pragma unroll
      for (unsigned r = 0; r < deep; ++r) {
        if (i + r >= n) break;
        at[(i + r) * n] = m[r][0];
        if (both) at[(i + r) * n + width] = m[r][1];
      }
    }
  }

  AGF_DEVICE void operator()(const Team& team) const {
    const unsigned size = static_cast<unsigned>(n), thread = team.thread();
    if (size == 0) return;
    double* const diagonal = team.shared<double>();
    double* const coupling = diagonal + most;
    double* const vectors = coupling + most;  // two reflections, then two products
    double* const products = vectors + 2 * most;

    // The largest entry, for a scale.
    double largest = 0;
    for (unsigned e = thread; e < size * size; e += width) {
      const double entry = fabs(matrix[e]);
      if (e % size <= e / size && !(entry <= largest)) largest = entry <= DBL_MAX ? entry : DBL_MAX * 2;
    }
    vectors[thread] = largest;
    team.barrier();
    for (unsigned q = 0; q < width; ++q) largest = fmax(largest, vectors[q]);
    if (!(largest <= DBL_MAX) || size > most) {
      no_values(team);
      return;
    }
    // In two halves, of which neither overflows.
    const int exponent = largest > 0 ? ilogb(largest) : 0;
    const double down = ldexp(1.0, -(exponent / 2)), further_down = ldexp(1.0, exponent / 2 - exponent);
    double* const a = matrix;
    carry<width>(
        team, size * size, [=](unsigned e) { return e % size <= e / size ? a[e] * down * further_down : 0; },
        [=](unsigned e, double value) {
          if (e % size > e / size) return;
          a[e] = value;
          a[e % size * size + e / size] = value;
        });
    team.barrier();
    if (thread == 0) diagonal[0] = matrix[0];
    for (unsigned j = 1 + thread; j < size; j += width) vectors[j] = matrix[j];
    team.barrier();

    // Step k: H_k = 1 - u u^T / h makes row k that of a tridiagonal matrix. A <- H A H = A - u w^T - w u^T with p = A u
    // / h and w = p - kappa u, kappa = u^T p / (2 h), is put off to the pass of the next step.
    double kappa = 0;
    unsigned turn = 0;
    for (unsigned k = 0; k + 2 < size; ++k) {
      double* const u = vectors + turn * most;  // beyond its first number, which is `head`
      double* const p = products + turn * most;
      const double* const u_before = vectors + (turn ^ 1u) * most;
      const double* const p_before = products + (turn ^ 1u) * most;
      double parts[4] = {0, 0, 0, 0};
      for (unsigned i = k + 2; i < size; i += 4) {
#pragma unroll
        for (unsigned q = 0; q < 4; ++q)
          if (i + q < size) parts[q] += u[i + q] * u[i + q];
      }
      const double tail = (parts[0] + parts[1]) + (parts[2] + parts[3]), first = u[k + 1];
      const bool reflects = tail >= 0x1p-960;
      const double root = reflects ? -copysign(::sqrt(first * first + tail), first) : first;
      const double head = first - root, inverse = reflects ? -1 / (root * head) : 0;
      if (thread == 0) {
        coupling[k] = root;
        matrix[k * size + k] = inverse;
      }
      for (unsigned j = k + 1 + thread; j < size; j += 2 * width) {
        const bool both = j + width < size;
        double share[2][2] = {{0, 0}, {0, 0}}, sums[2];
        double* const at = matrix + j;
        if (k > 0) {
          share[1][0] = u_before[j];
          share[0][0] = p_before[j] - 2 * kappa * share[1][0];
          if (both) {
            share[1][1] = u_before[j + width];
            share[0][1] = p_before[j + width] - 2 * kappa * share[1][1];
          }
          // Row k + 1, whose number of u is apart.
          double* const top = at + (k + 1) * size;
          const double u_top = u_before[k + 1], p_top = p_before[k + 1];
          const double one = top[0] - u_top * share[0][0] - p_top * share[1][0];
          const double other = both ? top[width] - u_top * share[0][1] - p_top * share[1][1] : 0;
          top[0] = one;
          if (both) top[width] = other;
          sums[0] = one * head;
          sums[1] = other * head;
          pass<2>(at, k + 2, size, both, {u_before, p_before}, share, u, sums);
        } else {
          sums[0] = at[size] * head;
          sums[1] = both ? at[size + width] * head : 0;
          for (unsigned i = 2; i < size; ++i) {
            sums[0] += at[i * size] * u[i];
            if (both) sums[1] += at[i * size + width] * u[i];
          }
        }
        p[j] = sums[0] * inverse;
        matrix[k * size + j] = j == k + 1 ? head : u[j];
        if (both) {
          p[j + width] = sums[1] * inverse;
          matrix[k * size + j + width] = u[j + width];
        }
      }
      team.barrier();
      parts[0] = p[k + 1] * head;
      parts[1] = parts[2] = parts[3] = 0;
      for (unsigned i = k + 2; i < size; i += 4) {
#pragma unroll
        for (unsigned q = 0; q < 4; ++q)
          if (i + q < size) parts[q] += u[i + q] * p[i + q];
      }
      kappa = ((parts[0] + parts[1]) + (parts[2] + parts[3])) * inverse / 2;
      // The next row at once: the next reflection is made of it.
      double* const u_next = vectors + (turn ^ 1u) * most;
      for (unsigned j = k + 1 + thread; j < size; j += width) {
        const double u_at = j == k + 1 ? head : u[j];
        const double value = matrix[(k + 1) * size + j] - head * (p[j] - 2 * kappa * u_at) - p[k + 1] * u_at;
        if (j == k + 1) {
          diagonal[j] = value;
        } else {
          u_next[j] = value;
        }
      }
      turn ^= 1u;
      team.barrier();
    }
    if (thread == 0 && size > 1) {
      const unsigned last = size - 1;
      coupling[last - 1] = vectors[turn * most + last];
      double value = matrix[last * size + last];
      if (size > 2) {
        const double u = vectors[(turn ^ 1u) * most + last], p = products[(turn ^ 1u) * most + last];
        value -= u * (p - 2 * kappa * u) + p * u;
      }
      diagonal[last] = value;
    }

    // The rows of H_{n-3} ... H_0, a thread two columns: one reflection is taken off in the pass that multiplies by the
    // next.
    for (unsigned j = thread; j < size; j += 2 * width) {
      const bool both = j + width < size;
      for (unsigned i = 0; i < size; ++i) {
        work[i * size + j] = i == j ? 1 : 0;
        if (both) work[i * size + j + width] = i == j + width ? 1 : 0;
      }
      if (size < 3) continue;
      double share[1][2] = {{j > 0 ? matrix[j] * matrix[0] : 0, both ? matrix[j + width] * matrix[0] : 0}};
      for (unsigned k = 0; k + 2 < size; ++k) {
        const double* const u = matrix + k * size;
        const bool more = k + 3 < size;
        double sums[2] = {0, 0};
        // Row k + 1 is done with after this; the next reflection begins below it.
        double* const top = work + (k + 1) * size + j;
        top[0] -= u[k + 1] * share[0][0];
        if (both) top[width] -= u[k + 1] * share[0][1];
        pass<1>(work + j, k + 2, size, both, {u}, share, more ? u + size : u, sums);
        const double inverse = more ? u[size + k + 1] : 0;
        share[0][0] = sums[0] * inverse;
        share[0][1] = sums[1] * inverse;
      }
    }
    team.barrier();

    Rotation* const rotations = reinterpret_cast<Rotation*>(vectors);
    Sweep* const sweeps = reinterpret_cast<Sweep*>(products + 2 * most);
    const Tridiagonal tridiagonal{diagonal, coupling, size};
    Progress progress;
    progress.left = 40 * size;
    if (thread == 0) sweeps[1] = {0, 0, goes_on};
    team.barrier();
    // Sweeps take turns in two places: one is made while the other is applied.
    turn = 0;
    int state = goes_on;
    while (state == goes_on) {
      if (thread == 0) {
        sweeps[turn] = next_sweep(tridiagonal, progress, rotations + turn * most);
      } else if (thread >= first_helper) {
        rotate(sweeps[turn ^ 1u], rotations + (turn ^ 1u) * most, work, size, thread - first_helper);
      }
      team.barrier();
      state = sweeps[turn].state;
      turn ^= 1u;
    }
    if (state == failed) {
      no_values(team);
      return;
    }

    const double up = 1 / down, further_up = 1 / further_down;
    unsigned* const rank = reinterpret_cast<unsigned*>(vectors);
    for (unsigned i = thread; i < size; i += width) {
      const double value = diagonal[i];
      unsigned before = 0;
      for (unsigned j = 0; j < size; ++j) before += diagonal[j] < value || (diagonal[j] == value && j < i);
      rank[i] = before;
      values[before] = value * further_up * up;
    }
    team.barrier();
    const double* const rows = work;
    carry<width>(
        team, size * size, [=](unsigned e) { return rows[e]; },
        [=](unsigned e, double value) { a[rank[e / size] * size + e % size] = value; });
  }
};

}  // namespace AGF_SPACE::cuda::algebra
