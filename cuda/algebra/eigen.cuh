// Eigenvectors of symmetric matrices.
#pragma once

#include <float.h>
#include <math.h>
#include <stddef.h>

#include "algebra/panels.cuh"

namespace AGF_SPACE::cuda::algebra {

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
