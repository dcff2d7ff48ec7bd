// Loops over columns of inputs and over triangles, for isa_table.inl: eight lanes of double, whatever the set has.
//
// A tail is filled up with zeros, so that every number is made by the same operations wherever it stands: equal
// columns give equal bits, opposite ones opposite bits.

namespace agf::AGF_LEAF {

typedef double Eight __attribute__((vector_size(64)));
constexpr size_t lanes = 8;

template <typename T>
struct Octet {
  T at[lanes];
};

template <typename T>
inline __attribute__((always_inline)) void load(const T* a, Eight& v) {
  if constexpr (sizeof(T) == sizeof(double)) {
    __builtin_memcpy(&v, a, sizeof(v));
  } else {
    typedef T Narrow __attribute__((vector_size(lanes * sizeof(T))));
    Narrow narrow;
    __builtin_memcpy(&narrow, a, sizeof(narrow));
    v = __builtin_convertvector(narrow, Eight);
  }
}

template <typename T>
inline __attribute__((always_inline)) void load_tail(const T* a, size_t count, Eight& v) {
  Octet<T> filled = {};
  for (size_t i = 0; i < count; ++i) filled.at[i] = a[i];
  load(filled.at, v);
}

inline __attribute__((always_inline)) void store(double* a, const Eight& v) { __builtin_memcpy(a, &v, sizeof(v)); }

inline __attribute__((always_inline)) void store_tail(double* a, size_t count, const Eight& v) {
  for (size_t i = 0; i < count; ++i) a[i] = v[i];
}

inline __attribute__((always_inline)) double total(const Eight& v) {
  return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
}

// out_k = x_k . r of `width` columns at once, which share what is read of r. Two sums each: additions take longer than
// they are apart.
template <size_t width, typename T>
inline __attribute__((always_inline)) void dot_columns(size_t n, const T* const* x, const double* r, double* out) {
  Eight even[width] = {}, odd[width] = {}, value, column;
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    load(r + i, value);
    for (size_t k = 0; k < width; ++k) {
      load(x[k] + i, column);
      even[k] += column * value;
    }
    load(r + i + lanes, value);
    for (size_t k = 0; k < width; ++k) {
      load(x[k] + i + lanes, column);
      odd[k] += column * value;
    }
  }
  if (i + lanes <= n) {
    load(r + i, value);
    for (size_t k = 0; k < width; ++k) {
      load(x[k] + i, column);
      even[k] += column * value;
    }
    i += lanes;
  }
  if (i < n) {
    load_tail(r + i, n - i, value);
    for (size_t k = 0; k < width; ++k) {
      load_tail(x[k] + i, n - i, column);
      odd[k] += column * value;
    }
  }
  for (size_t k = 0; k < width; ++k) out[k] = total(even[k] + odd[k]);
}

template <typename T>
void dots(size_t n, size_t count, const T* const* x, const double* r, double* out) {
  size_t k = 0;
  for (; k + 4 <= count; k += 4) dot_columns<4>(n, x + k, r, out + k);
  for (; k < count; ++k) dot_columns<1>(n, x + k, r, out + k);
}

// out += sum_k b_k x_k, column by column in their order.
template <size_t width, typename T>
inline __attribute__((always_inline)) void add_columns(size_t n, const T* const* x, const double* b, double* out) {
  Eight sum, column;
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    load(out + i, sum);
    for (size_t k = 0; k < width; ++k) {
      load(x[k] + i, column);
      sum += column * b[k];
    }
    store(out + i, sum);
  }
  if (i < n) {
    load_tail(out + i, n - i, sum);
    for (size_t k = 0; k < width; ++k) {
      load_tail(x[k] + i, n - i, column);
      sum += column * b[k];
    }
    store_tail(out + i, n - i, sum);
  }
}

template <typename T>
void adds(size_t n, size_t count, const T* const* x, const double* b, double* out) {
  size_t k = 0;
  for (; k + 8 <= count; k += 8) add_columns<8>(n, x + k, b + k, out);
  for (; k < count; ++k) add_columns<1>(n, x + k, b + k, out);
}

// out[4 i + j] = a_i . b_j: operands are read once for four products each.
template <typename T>
void products(size_t n, const T* const* a, const T* const* b, double* out) {
  Eight sum[16] = {}, left[4], right;
  size_t e = 0;
  for (; e + lanes <= n; e += lanes) {
    for (size_t i = 0; i < 4; ++i) load(a[i] + e, left[i]);
    for (size_t j = 0; j < 4; ++j) {
      load(b[j] + e, right);
      for (size_t i = 0; i < 4; ++i) sum[4 * i + j] += left[i] * right;
    }
  }
  if (e < n) {
    for (size_t i = 0; i < 4; ++i) load_tail(a[i] + e, n - e, left[i]);
    for (size_t j = 0; j < 4; ++j) {
      load_tail(b[j] + e, n - e, right);
      for (size_t i = 0; i < 4; ++i) sum[4 * i + j] += left[i] * right;
    }
  }
  for (size_t k = 0; k < 16; ++k) out[k] = total(sum[k]);
}

inline void forward(size_t k, size_t ld, const double* r, const double* inverse, const unsigned char* live, double* x) {
  for (size_t s = 0; s < k; ++s) {
    if (!live[s]) continue;
    const double* row = r + s * ld;
    const double value = x[s] * inverse[s];
    Eight entries, sum;
    // From the multiple of 8 below: what is left of the diagonal is 0.
    for (size_t t = s / lanes * lanes; t < k; t += lanes) {
      load(row + t, entries);
      load(x + t, sum);
      sum -= entries * value;
      store(x + t, sum);
    }
    x[s] = value;
  }
  for (size_t s = 0; s < k; ++s)
    if (!live[s]) x[s] = 0;
}

inline void backward(size_t k, size_t ld, const double* r, const double* inverse, const unsigned char* live,
                     double* x) {
  for (size_t s = 0; s < k; ++s)
    if (!live[s]) x[s] = 0;
  for (size_t t = k; t < (k + lanes - 1) / lanes * lanes; ++t) x[t] = 0;
  for (size_t s = k; s-- > 0;) {
    if (!live[s]) continue;
    const double* row = r + s * ld;
    const double value = x[s];
    x[s] = 0;
    Eight sums[4] = {}, entries, known;
    size_t t = s / lanes * lanes;
    for (; t + 4 * lanes <= k; t += 4 * lanes) {
      for (size_t m = 0; m < 4; ++m) {
        load(row + t + m * lanes, entries);
        load(x + t + m * lanes, known);
        sums[m] += entries * known;
      }
    }
    for (; t < k; t += lanes) {
      load(row + t, entries);
      load(x + t, known);
      sums[0] += entries * known;
    }
    x[s] = (value - total((sums[0] + sums[1]) + (sums[2] + sums[3]))) * inverse[s];
  }
}

inline void rotate(size_t n, double c, double s, double* a, double* b) {
  Eight upper, lower;
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    load(a + i, upper);
    load(b + i, lower);
    store(a + i, upper * c + lower * s);
    store(b + i, lower * c - upper * s);
  }
  if (i < n) {
    load_tail(a + i, n - i, upper);
    load_tail(b + i, n - i, lower);
    store_tail(a + i, n - i, upper * c + lower * s);
    store_tail(b + i, n - i, lower * c - upper * s);
  }
}

inline double dot(size_t n, const double* a, const double* b) {
  double out;
  dot_columns<1>(n, &a, b, &out);
  return out;
}

inline void add(size_t n, double factor, const double* x, double* y) { add_columns<1>(n, &x, &factor, y); }

inline double waits(size_t d, const double* g, const double* at, const double* low, const double* high,
                    const unsigned char* closed, double least, double* wait) {
  constexpr double never = __builtin_huge_val();
  double soonest[lanes];
  for (size_t k = 0; k < lanes; ++k) soonest[k] = never;
  const auto of = [&](size_t i) {
    const double rate = g[i], end = rate > 0 ? high[i] : low[i];
    const double time = (end - at[i]) / rate, ahead = time > 0 ? time : 0;
    return !closed[i] && __builtin_fabs(rate) > least ? ahead : never;
  };
  size_t i = 0;
  for (; i + lanes <= d; i += lanes) {
    for (size_t k = 0; k < lanes; ++k) wait[i + k] = of(i + k);
    for (size_t k = 0; k < lanes; ++k) soonest[k] = wait[i + k] < soonest[k] ? wait[i + k] : soonest[k];
  }
  for (; i < d; ++i) {
    wait[i] = of(i);
    soonest[0] = wait[i] < soonest[0] ? wait[i] : soonest[0];
  }
  for (size_t k = 1; k < lanes; ++k) soonest[0] = soonest[k] < soonest[0] ? soonest[k] : soonest[0];
  return soonest[0];
}

template <typename T>
constexpr cpu::ColumnSums<T> column_sums() {
  return {dots<T>, adds<T>, products<T>};
}

constexpr ColumnLoops column_loops() { return {forward, backward, rotate, dot, add, waits}; }

}  // namespace agf::AGF_LEAF
