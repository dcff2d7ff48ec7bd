// Body of the isa_*.cpp files: AGF_LEAF names the instruction set. Nothing here may call an inline function from
// outside agf::AGF_LEAF (see config.hpp), so no standard C++ header is included.
#include "agf/pointwise.hpp"
#include "cpu/isa.hpp"
#include "cpu/product.hpp"

#include "cpu/column_loops.inl"
#include "cpu/triangle.inl"

namespace agf::AGF_LEAF {

template <typename T>
void value(const Nonlinearity& f, const T* ramp, size_t rows, size_t n, T* z) {
  pointwise(f, ramp, rows, n, Value{}, z);
}

template <typename T>
void pair(const Nonlinearity& f, const T* ramp, size_t rows, size_t n, T* z, T* g) {
  pointwise(f, ramp, rows, n, Pair{}, z, g);
}

template <typename T>
void curve(const Nonlinearity& f, const T* ramp, size_t rows, size_t n, T* z, T* t, T* g, const T* h) {
  pointwise(f, ramp, rows, n, Curve{}, z, t, g, h);
}

template <typename T>
void jets(const Nonlinearity& f, const T* ramp, size_t rows, size_t n, T* z, T* s1, T* s2) {
  pointwise(f, ramp, rows, n, Jets{}, z, s1, s2);
}

template <typename T>
void multiply(size_t n, const T* a, const T* b, T* y) {
  for (size_t i = 0; i < n; ++i) y[i] = a[i] * b[i];
}

// The sum of squares of term(0), ..., term(n - 1) in eight running sums: the order is fixed, and the compiler may keep
// them in vectors without reordering anything.
template <typename Term>
double eight_sums(size_t n, const Term& term) {
  constexpr size_t lanes_of_sum = 8;
  double sums[lanes_of_sum] = {};
  size_t i = 0;
  for (; i + lanes_of_sum <= n; i += lanes_of_sum) {
    for (size_t k = 0; k < lanes_of_sum; ++k) {
      const double v = term(i + k);
      sums[k] += v * v;
    }
  }
  for (size_t k = 0; i < n; ++i, ++k) {
    const double v = term(i);
    sums[k] += v * v;
  }
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

template <typename T>
double sum_squares(size_t n, const T* a) {
  return eight_sums(n, [a](size_t i) { return static_cast<double>(a[i]); });
}

template <typename T>
double difference(size_t n, const T* a, const T* b, T* y) {
  // The second pass finds its numbers in the first level of the cache, and both become vectors.
  for (size_t i = 0; i < n; ++i) y[i] = a[i] - b[i];
  return sum_squares(n, y);
}

template <typename T>
void add(size_t n, const T* a, double* total) {
  for (size_t i = 0; i < n; ++i) total[i] += static_cast<double>(a[i]);
}

template <typename T>
constexpr cpu::Loops<T> table() {
  return {value<T>,
          pair<T>,
          curve<T>,
          jets<T>,
          multiply<T>,
          sum_squares<T>,
          difference<T>,
          add<T>,
          outer<T, Order::inner>,
          outer<T, Order::outer>,
          dots<T>,
          transpose<T>};
}

#define AGF_STRING_(x) #x
#define AGF_STRING(x) AGF_STRING_(x)
extern const cpu::Isa entry;
constinit const cpu::Isa entry = {
    AGF_STRING(AGF_LEAF),           table<float>(),          table<double>(),      columns::column_sums<float>(),
    columns::column_sums<double>(), columns::column_loops(), columns::solve_lower, columns::solve_lower_transposed};

}  // namespace agf::AGF_LEAF
