// The inner loops of an active-set path, on doubles, compiled once per instruction set: a Design names those to use.
//
// Triangles are upper and row-major, `ld` apart (a multiple of 8, rows 64-byte aligned), with zeros left of the
// diagonal; rows that are not `live` are skipped, and their columns hold anything finite. `inverse` is 1 / diagonal.
// Vectors that go with them are readable and writable up to the next multiple of 8.
#pragma once

#include <stddef.h>

namespace agf {

struct ColumnLoops {
  // x <- R^-T x and x <- R^-1 x; entries of rows not live become 0.
  void (*forward)(size_t k, size_t ld, const double* r, const double* inverse, const unsigned char* live, double* x);
  void (*backward)(size_t k, size_t ld, const double* r, const double* inverse, const unsigned char* live, double* x);
  // (a, b) <- (c a + s b, c b - s a)
  void (*rotate)(size_t n, double c, double s, double* a, double* b);
  double (*dot)(size_t n, const double* a, const double* b);
  // y <- y + factor x
  void (*add)(size_t n, double factor, const double* x, double* y);
  // wait_i = max((g_i > 0 ? high_i : low_i) - at_i, 0 towards it) / g_i where |g_i| > least and open_i, else infinity;
  // returns the least of them.
  double (*waits)(size_t d, const double* g, const double* at, const double* low, const double* high,
                  const unsigned char* closed, double least, double* wait);
};

}  // namespace agf
