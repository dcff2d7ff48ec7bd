// Products of small matrices that lie in cache, compiled once per instruction set. Nothing is packed: operands are read
// where they are.
#pragma once

#include <stddef.h>

#include "agf/config.hpp"

namespace agf::AGF_LEAF {

#if defined(__AVX512F__)
inline constexpr size_t vector_bytes = 64;
#elif defined(__AVX2__)
inline constexpr size_t vector_bytes = 32;
#else
inline constexpr size_t vector_bytes = 16;
#endif

template <typename T>
inline constexpr size_t lanes = vector_bytes / sizeof(T);

template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(vector_bytes)));
};
template <typename T>
using Vector = typename VectorOf<T>::type;

template <typename T>
inline Vector<T> load(const T* from) {
  Vector<T> v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}
template <typename T>
inline void store(T* to, Vector<T> v) {
  __builtin_memcpy(to, &v, sizeof(v));
}

// 0, 1, ..., n - 1 as template arguments: shuffles want their indices as constants.
template <size_t... i>
struct Numbers {};
#if defined(__clang__)
template <typename, size_t... i>
using NumbersOf = Numbers<i...>;
template <size_t n>
using Upto = __make_integer_seq<NumbersOf, size_t, n>;
#else
template <size_t n>
using Upto = Numbers<__integer_pack(n)...>;
#endif

// ---------------------------------------------------------------------------------- vectors along the rows of B and C

// The most rows of C that stay in registers beside `width` vectors of each: two chains of multiply-adds, each four
// deep, want eight or more sums, and every sum, a row of B and one number of A must be in a register.
constexpr size_t most_rows(size_t width) {
#if defined(__AVX512F__)
  return width == 8 ? 3 : width == 4 ? 6 : 8;
#else
  return width == 8 ? 1 : width == 3 ? 4 : width == 2 ? 6 : 8;
#endif
}
#if defined(__AVX512F__)
inline constexpr size_t widest = 4;
#else
inline constexpr size_t widest = 2;
#endif

// How A is read: A(i, p) = a[i stride + p] with the inner index contiguous, or a[i + p stride].
enum class Order { inner, outer };

template <typename T, Order order, size_t rows, size_t width>
void outer_tile(size_t k, const T* a, size_t stride, const T* b, size_t ldb, bool add, T* c, size_t ldc) {
  constexpr size_t L = lanes<T>;
  Vector<T> sum[rows][width];
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < width; ++j) sum[i][j] = Vector<T>{};
  }
  for (size_t p = 0; p < k; ++p) {
    Vector<T> row[width];
    for (size_t j = 0; j < width; ++j) row[j] = load(b + j * L);
    b += ldb;
    for (size_t i = 0; i < rows; ++i) {
      const T factor = order == Order::inner ? a[i * stride + p] : a[i];
      for (size_t j = 0; j < width; ++j) sum[i][j] += factor * row[j];
    }
    if (order == Order::outer) a += stride;
  }
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < width; ++j) {
      T* to = c + i * ldc + j * L;
      store(to, add ? load(to) + sum[i][j] : sum[i][j]);
    }
  }
}

template <typename T, Order order, size_t rows, size_t width>
void outer_rows(size_t h, size_t k, const T* a, size_t stride, const T* b, size_t ldb, bool add, T* c, size_t ldc) {
  if constexpr (rows > 0) {
    if (h == rows) return outer_tile<T, order, rows, width>(k, a, stride, b, ldb, add, c, ldc);
    outer_rows<T, order, rows - 1, width>(h, k, a, stride, b, ldb, add, c, ldc);
  }
}

// One slab of `width` vectors of columns, in tiles of about equally many rows.
template <typename T, Order order, size_t width>
void outer_slab(size_t m, size_t k, const T* a, size_t stride, const T* b, size_t ldb, bool add, T* c, size_t ldc) {
  constexpr size_t most = most_rows(width);
  for (size_t tiles = (m + most - 1) / most; m > 0; --tiles) {
    const size_t h = (m + tiles - 1) / tiles;
    outer_rows<T, order, most, width>(h, k, a, stride, b, ldb, add, c, ldc);
    a += order == Order::inner ? h * stride : h;
    c += h * ldc;
    m -= h;
  }
}

// C (m, n) = A B, or C + A B where `add`: A (m, k) in either order, rows of B and C `ldb` and `ldc` apart. n is rounded
// up to whole vectors: B must be readable and C writable as far. Every element is one sum in the order of the inner
// index.
template <typename T, Order order>
void outer(size_t m, size_t n, size_t k, const T* a, size_t stride, const T* b, size_t ldb, bool add, T* c,
           size_t ldc) {
  constexpr size_t L = lanes<T>;
  size_t left = (n + L - 1) / L;
  const auto slab = [&]<size_t width>() {
    outer_slab<T, order, width>(m, k, a, stride, b, ldb, add, c, ldc);
    b += width * L;
    c += width * L;
    left -= width;
  };
  if (m <= most_rows(8)) {
    while (left >= 8) slab.template operator()<8>();
  }
  while (left) {
    // Five in two and three, not four and one: one vector is hardly enough to keep the units busy.
    if (widest >= 4 && left >= 4 && left != 5) {
      slab.template operator()<widest>();
    } else if (left == 3 || left == 5) {
      slab.template operator()<3>();
    } else if (left >= 2) {
      slab.template operator()<2>();
    } else {
      slab.template operator()<1>();
    }
  }
}

// ------------------------------------------------------------------------------------- vectors along the inner index

// Rows of A and of B in one tile of dot products.
#if defined(__AVX512F__)
inline constexpr size_t dots_high = 4, dots_wide = 4;
#else
inline constexpr size_t dots_high = 4, dots_wide = 2;
#endif

// The sums of the lanes of `lanes` vectors, in one vector, by a tree: neighbours at `step` are added and two vectors
// become one.
template <typename T, size_t step>
struct Fold {
  static constexpr size_t low(size_t i) {
    const size_t group = i / (2 * step), within = i % (2 * step);
    return (within < step ? 0 : lanes<T>)+group * 2 * step + within % step;
  }
  template <size_t... i>
  static Vector<T> add(Vector<T> u, Vector<T> v, Numbers<i...>) {
    return __builtin_shufflevector(u, v, low(i)...) + __builtin_shufflevector(u, v, low(i) + step...);
  }
};

template <typename T, size_t step = 1>
Vector<T> lane_sums(const Vector<T>* v) {
  if constexpr (step == lanes<T>) {
    return v[0];
  } else {
    Vector<T> half[lanes<T>];
    constexpr size_t count = lanes<T> / step;
    for (size_t i = 0; i < count / 2; ++i) half[i] = Fold<T, step>::add(v[2 * i], v[2 * i + 1], Upto<lanes<T>>{});
    return lane_sums<T, 2 * step>(half);
  }
}

template <typename T, size_t rows, size_t columns>
void dots_tile(size_t k, const T* a, size_t lda, const T* b, size_t ldb, bool add, T* c, size_t ldc) {
  constexpr size_t L = lanes<T>, padded = (rows * columns + L - 1) / L * L;
  Vector<T> sum[padded];
  for (size_t i = 0; i < padded; ++i) sum[i] = Vector<T>{};
  for (size_t p = 0; p < k; p += L) {
    Vector<T> row[columns];
    for (size_t j = 0; j < columns; ++j) row[j] = load(b + j * ldb + p);
    for (size_t i = 0; i < rows; ++i) {
      const Vector<T> factor = load(a + i * lda + p);
      for (size_t j = 0; j < columns; ++j) sum[i * columns + j] += factor * row[j];
    }
  }
  T total[padded];
  for (size_t i = 0; i < padded; i += L) store(total + i, lane_sums<T>(sum + i));
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < columns; ++j) {
      T& to = c[i * ldc + j];
      to = add ? to + total[i * columns + j] : total[i * columns + j];
    }
  }
}

template <typename T, size_t rows, size_t columns>
void dots_pick(size_t m, size_t n, size_t k, const T* a, size_t lda, const T* b, size_t ldb, bool add, T* c,
               size_t ldc) {
  if constexpr (rows > 0 && columns > 0) {
    if (m < rows) return dots_pick<T, rows - 1, columns>(m, n, k, a, lda, b, ldb, add, c, ldc);
    if (n < columns) return dots_pick<T, rows, columns - 1>(m, n, k, a, lda, b, ldb, add, c, ldc);
    dots_tile<T, rows, columns>(k, a, lda, b, ldb, add, c, ldc);
  }
}

// C (m, n) = A B^T, or C + A B^T where `add`: A (m, k), B (n, k). k is rounded up to whole vectors: both must be
// readable as far, with zeros in one of them.
template <typename T>
void dots(size_t m, size_t n, size_t k, const T* a, size_t lda, const T* b, size_t ldb, bool add, T* c, size_t ldc) {
  for (size_t i = 0; i < m; i += dots_high) {
    const size_t h = m - i < dots_high ? m - i : dots_high;
    for (size_t j = 0; j < n; j += dots_wide) {
      const size_t w = n - j < dots_wide ? n - j : dots_wide;
      dots_pick<T, dots_high, dots_wide>(h, w, k, a + i * lda, lda, b + j * ldb, ldb, add, c + i * ldc + j, ldc);
    }
  }
}

// ------------------------------------------------------------------------------------------------------ transposition

// Squares of `side` by `side`, whose rows become columns by exchanging blocks of half the size, a quarter, ...
inline constexpr size_t side = 8;

template <typename T>
struct RowOf {
  typedef T type __attribute__((vector_size(side * sizeof(T))));
};

template <typename Row, size_t step, size_t... i>
inline void exchange(Row* row, Numbers<i...>) {
  for (size_t k = 0; k < side; ++k) {
    if (k / step % 2 == 1) continue;
    const Row upper = row[k], lower = row[k + step];
    row[k] = __builtin_shufflevector(upper, lower, (i / step % 2 == 1 ? side + i - step : i)...);
    row[k + step] = __builtin_shufflevector(upper, lower, (i / step % 2 == 1 ? side + i : i + step)...);
  }
}

// to (columns, rows) = from (rows, columns), rows of each `stride` and `to_stride` apart.
template <typename T>
void transpose(size_t rows, size_t columns, const T* from, size_t stride, T* to, size_t to_stride) {
  using Row = typename RowOf<T>::type;
  const size_t down = rows / side * side, across = columns / side * side;
  for (size_t i = 0; i < down; i += side) {
    for (size_t j = 0; j < across; j += side) {
      Row row[side];
      for (size_t k = 0; k < side; ++k) __builtin_memcpy(&row[k], from + (i + k) * stride + j, sizeof(Row));
      exchange<Row, 4>(row, Upto<side>{});
      exchange<Row, 2>(row, Upto<side>{});
      exchange<Row, 1>(row, Upto<side>{});
      for (size_t k = 0; k < side; ++k) __builtin_memcpy(to + (j + k) * to_stride + i, &row[k], sizeof(Row));
    }
    for (size_t j = across; j < columns; ++j) {
      for (size_t k = i; k < i + side; ++k) to[j * to_stride + k] = from[k * stride + j];
    }
  }
  for (size_t i = down; i < rows; ++i) {
    for (size_t j = 0; j < columns; ++j) to[j * to_stride + i] = from[i * stride + j];
  }
}

}  // namespace agf::AGF_LEAF
