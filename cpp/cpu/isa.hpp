// The loops of agf/pointwise.hpp and cpu/product.hpp, compiled once per instruction set; one table, chosen once.
#pragma once

#include <stddef.h>

#include "agf/column_loops.hpp"
#include "agf/pointwise.hpp"

namespace agf::cpu {

template <typename T>
struct Loops {
  void (*value)(const Nonlinearity& f, const T* ramp, size_t rows, size_t n, T* z);
  void (*pair)(const Nonlinearity& f, const T* ramp, size_t rows, size_t n, T* z, T* g);
  void (*curve)(const Nonlinearity& f, const T* ramp, size_t rows, size_t n, T* z, T* t, T* g, const T* h);
  void (*jets)(const Nonlinearity& f, const T* ramp, size_t rows, size_t n, T* z, T* s1, T* s2);
  // y <- a * b
  void (*multiply)(size_t n, const T* a, const T* b, T* y);
  // The sum of squares, accumulated in double.
  double (*sum_squares)(size_t n, const T* a);
  // y <- a - b, and the sum of squares of what is written, accumulated in double; y may be b.
  double (*difference)(size_t n, const T* a, const T* b, T* y);
  // total <- total + a
  void (*add)(size_t n, const T* a, double* total);
  // Products and transposition, see cpu/product.hpp. outer: A(i, p) = a[i stride + p]; outer_columns: a[i + p stride].
  void (*outer)(size_t m, size_t n, size_t k, const T* a, size_t stride, const T* b, size_t ldb, bool add, T* c,
                size_t ldc);
  void (*outer_columns)(size_t m, size_t n, size_t k, const T* a, size_t stride, const T* b, size_t ldb, bool add, T* c,
                        size_t ldc);
  void (*dots)(size_t m, size_t n, size_t k, const T* a, size_t lda, const T* b, size_t ldb, bool add, T* c,
               size_t ldc);
  void (*transpose)(size_t rows, size_t columns, const T* from, size_t stride, T* to, size_t to_stride);
};

// Products of columns of T, summed in double.
template <typename T>
struct ColumnSums {
  // out_k = x_k . r
  void (*dots)(size_t n, size_t count, const T* const* x, const double* r, double* out);
  // out += sum_k b_k x_k
  void (*adds)(size_t n, size_t count, const T* const* x, const double* b, double* out);
  // high + low += sum_k b_k x_k, in twice the precision
  void (*extended)(size_t n, size_t count, const T* const* x, const double* b, double* high, double* low);
  // out[4 i + j] = a_i . b_j, four columns each
  void (*products)(size_t n, const T* const* a, const T* const* b, double* out);
};

struct Isa {
  const char* name;
  Loops<float> single_;
  Loops<double> double_;
  ColumnSums<float> single_columns;
  ColumnSums<double> double_columns;
  ColumnLoops columns;
  // x <- L^-1 x and x <- L^-T x, L lower, row-major, (n, n).
  void (*solve_lower)(size_t n, const double* l, double* x);
  void (*solve_lower_transposed)(size_t n, const double* l, double* x);
};

// The widest set the machine has, or the one that the environment variable AGF_ISA names (throws std::runtime_error
// when the machine or the build lacks it).
const Isa& isa();
// Every set of this build that the machine has, narrowest first, null-terminated.
const Isa* const* isa_available();

template <typename T>
const Loops<T>& loops() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return isa().single_;
  } else {
    return isa().double_;
  }
}

template <typename T>
const ColumnSums<T>& column_sums() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return isa().single_columns;
  } else {
    return isa().double_columns;
  }
}

}  // namespace agf::cpu
