// Triangular systems.
#pragma once

#include <stddef.h>

#include "algebra/panels.cuh"

namespace AGF_SPACE::cuda::algebra {

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

}  // namespace AGF_SPACE::cuda::algebra
