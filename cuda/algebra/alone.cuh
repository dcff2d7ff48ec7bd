// Dense linear algebra of a thread by itself, for many small systems: each thread has one. Their matrices are n x n and
// lie entry beside entry: entry (i, j) of one is `stride` numbers from its neighbour (i, j + 1), and the same entry of
// the next system is beside it, so that threads side by side read numbers side by side.
#pragma once

#include <float.h>
#include <stddef.h>

#include "algebra/panels.cuh"

namespace AGF_SPACE::cuda::algebra::alone {

struct Entries {
  double* at;
  unsigned n;
  size_t stride;
  AGF_DEVICE double& operator()(unsigned i, unsigned j) const { return at[(i * n + j) * stride]; }
};

// A = L L^T in the lower triangle, which alone is read, with the diagonal of L inverted; false, with A undefined,
// unless A is positive definite and finite. A column at a time, and four rows of it: their sums do not wait for one
// another.
AGF_DEVICE bool cholesky(const Entries& a) {
  constexpr unsigned together = 4;
  const unsigned n = a.n;
  for (unsigned j = 0; j < n; ++j) {
    double inverse = 0;
    for (unsigned i = j; i < n; i += together) {
      double sum[together];
#pragma unroll
      for (unsigned r = 0; r < together; ++r) sum[r] = i + r < n ? a(i + r, j) : 0;
#pragma unroll 2
      for (unsigned p = 0; p < j; ++p) {
        const double across = a(j, p);
#pragma unroll
        for (unsigned r = 0; r < together; ++r)
          if (i + r < n) sum[r] -= a(i + r, p) * across;
      }
      if (i == j) {
        if (!(sum[0] > 0 && sum[0] <= DBL_MAX)) return false;
        inverse = inverse_root(sum[0]);
        sum[0] = 1;
      }
#pragma unroll
      for (unsigned r = 0; r < together; ++r)
        if (i + r < n) a(i + r, j) = sum[r] * inverse;
    }
  }
  return true;
}

// L L^T x = b for the factor of `cholesky`, in place. Numbers of x are `width` apart.
AGF_DEVICE void cholesky_solve(const Entries& l, double* x, unsigned width) {
  const unsigned n = l.n;
  for (unsigned i = 0; i < n; ++i) {
    double sum = x[i * width];
#pragma unroll 4
    for (unsigned p = 0; p < i; ++p) sum -= l(i, p) * x[p * width];
    x[i * width] = sum * l(i, i);
  }
  for (unsigned i = n; i-- > 0;) {
    double sum = x[i * width];
#pragma unroll 4
    for (unsigned p = i + 1; p < n; ++p) sum -= l(p, i) * x[p * width];
    x[i * width] = sum * l(i, i);
  }
}

}  // namespace AGF_SPACE::cuda::algebra::alone
