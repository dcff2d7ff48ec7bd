// The inner loops of an active-set path, on doubles, compiled once per instruction set: a Design names those to use.
//
// Triangles are upper and row-major, `ld` apart, a multiple of 8, with zeros left of the diagonal and `inverse` that of
// the diagonal. A row of zeros with inverse 0 stands for none; its column may hold anything finite. Rows and vectors
// that go with them are there up to the next multiple of 8, with zeros beyond `k`.
#pragma once

#include <stddef.h>

#include "config.hpp"

namespace AGF_SPACE {

#if defined(AGF_BLOCK)

// In a block all threads share each of them: block/columns.cuh.
struct ColumnLoops {
  AGF_CORE void forward(size_t k, size_t ld, const double* r, const double* inverse, double* x) const;
  AGF_CORE void backward(size_t k, size_t ld, const double* r, const double* inverse, double* x) const;
  AGF_CORE void rotate(size_t n, double c, double s, double* a, double* b) const;
  AGF_CORE double dot(size_t n, const double* a, const double* b) const;
  AGF_CORE void add(size_t n, double factor, const double* x, double* y) const;
  AGF_CORE double waits(size_t d, const double* g, const double* at, const double* low, const double* high,
                        const unsigned char* closed, double least, double* wait) const;
  AGF_CORE size_t arrivals(size_t d, const double* wait, const double* g, const double* low, const double* high,
                           double soonest, double tie, size_t* who, double* second) const;
  AGF_CORE void travel(size_t d, double time, const double* g, const unsigned char* closed, double* at) const;
};

#else

struct ColumnLoops {
  // x <- R^-T x and x <- R^-1 x; 0 where there is no row.
  void (*forward)(size_t k, size_t ld, const double* r, const double* inverse, double* x);
  void (*backward)(size_t k, size_t ld, const double* r, const double* inverse, double* x);
  // (a, b) <- (c a + s b, c b - s a)
  void (*rotate)(size_t n, double c, double s, double* a, double* b);
  double (*dot)(size_t n, const double* a, const double* b);
  // y <- y + factor x
  void (*add)(size_t n, double factor, const double* x, double* y);

  // A race on a line: runners at `at` go at rates g to the end that lies ahead, unless they are closed or no faster
  // than `least`. wait_i is the time that it takes, infinity for those who do not go; returns the least of them.
  double (*waits)(size_t d, const double* g, const double* at, const double* low, const double* high,
                  const unsigned char* closed, double least, double* wait);
  // Who of them is there at `soonest`, to within `tie` times the way from end to end (where it is finite), and when the
  // first of the others comes. Returns their number.
  size_t (*arrivals)(size_t d, const double* wait, const double* g, const double* low, const double* high,
                     double soonest, double tie, size_t* who, double* second);
  // at_i += time g_i of all who are not closed.
  void (*travel)(size_t d, double time, const double* g, const unsigned char* closed, double* at);
};

#endif

}  // namespace AGF_SPACE
