// Loops over entries of matrices, and over few but long pieces of work, that the threads of a block share as `each`.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>

#include "backend.hpp"
#include "containers.hpp"

namespace AGF_SPACE {

AGF_CORE inline bool is_zero(double x) { return x == 0; }

#if !defined(AGF_BLOCK)

// f(k, i, j) for all k < count, i < rows, j < columns.
template <typename F>
void each_entry(std::size_t count, std::size_t rows, std::size_t columns, const F& f) {
  for (std::size_t k = 0; k < count; ++k)
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = 0; j < columns; ++j) f(k, i, j);
}

// f(i, j) for all i < rows, j < columns.
template <typename F>
void each_entry(std::size_t rows, std::size_t columns, const F& f) {
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < columns; ++j) f(i, j);
}

// start + sum_i f(i), added one after the other.
template <typename F>
double plus_total(double start, std::size_t n, const F& f) {
  for (std::size_t i = 0; i < n; ++i) start += f(i);
  return start;
}

// The least of f(i), infinity where there is none; what is not a number does not count.
template <typename F>
double least(std::size_t n, std::size_t, const F& f) {
  double lowest = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < n; ++i) lowest = std::min(lowest, f(i));
  return lowest;
}

// All i < n for which f(i) holds, in ascending order; f may be asked twice.
template <typename F>
void where(std::size_t n, const F& f, Array<std::size_t>& found) {
  found.clear();
  for (std::size_t i = 0; i < n; ++i)
    if (f(i)) found.push_back(i);
}

#endif

template <typename F>
AGF_CORE Array<std::size_t> where(std::size_t n, const F& f) {
  Array<std::size_t> found;
  where(n, f, found);
  return found;
}

template <typename F>
AGF_CORE double least(std::size_t n, const F& f) {
  return least(n, 1, f);
}

// f(i, j) for all j <= i < n.
template <typename F>
AGF_CORE void each_below(std::size_t n, const F& f) {
#if defined(AGF_BLOCK)
  each_entry(n, n, [=](std::size_t i, std::size_t j) {
    if (j <= i) f(i, j);
  });
#else
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j <= i; ++j) f(i, j);
#endif
}

// entry(i, j) for all i < rows, j < columns, and row(i) once all of its entries are done.
template <typename Entry, typename Row>
AGF_CORE void each_row(Backend& backend, std::size_t rows, std::size_t columns, const Entry& entry, const Row& row) {
#if defined(AGF_BLOCK)
  (void)backend;
  each_entry(rows, columns, entry);
  each_task(rows, row);
#else
  backend.parallel(rows, [&](std::size_t i) {
    for (std::size_t j = 0; j < columns; ++j) entry(i, j);
    row(i);
  });
#endif
}

// y += factor x.
template <typename T>
AGF_CORE void add_row(std::size_t n, T factor, const T* x, T* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] = y[i] + factor * x[i];
}

// c (rows, columns) += a b: a(i, k) for i < rows, k < inner, and b (inner, columns). Sums are in the order of k, and
// leave out where a is zero.
template <typename T, typename A>
AGF_CORE void add_product(std::size_t rows, std::size_t inner, std::size_t columns, const A& a, const T* b, T* c) {
#if defined(AGF_BLOCK)
  each_entry(rows, columns, [=](std::size_t i, std::size_t j) {
    T sum = c[i * columns + j];
    for (std::size_t k = 0; k < inner; ++k) {
      const T left = a(i, k);
      if (!is_zero(left)) sum = sum + left * b[k * columns + j];
    }
    c[i * columns + j] = sum;
  });
#else
  // Whole rows at a time: neighbours do not wait for one another.
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t k = 0; k < inner; ++k) {
      const T left = a(i, k);
      if (!is_zero(left)) add_row(columns, left, b + k * columns, c + i * columns);
    }
#endif
}

// Takes n elements out of an array.
template <typename T>
AGF_CORE void cut(Array<T>& values, std::size_t first, std::size_t n) {
  Array<T> rest(values.size() - n);
  const T* const from = values.data();
  T* const to = rest.data();
  each(rest.size(), [=](std::size_t e) { to[e] = from[e < first ? e : e + n]; });
  values = std::move(rest);
}

}  // namespace AGF_SPACE
