// Loops over columns of inputs and over triangles, for isa_table.inl: eight lanes of double, whatever the set has.
//
// Tails are filled up with zeros, so that every number is made by the same operations wherever it stands: equal columns
// give equal bits, opposite ones opposite bits.

namespace agf::AGF_LEAF::columns {

typedef double Eight __attribute__((vector_size(64)));
constexpr size_t octet = 8;

template <typename T>
struct Octet {
  T at[octet];
};

template <typename T>
inline __attribute__((always_inline)) void load(const T* a, Eight& v) {
  if constexpr (sizeof(T) == sizeof(double)) {
    __builtin_memcpy(&v, a, sizeof(v));
  } else {
    typedef T Narrow __attribute__((vector_size(octet * sizeof(T))));
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
// they are apart. The columns at `next` come after these: hardware foresees little across their borders. A tail is read
// as the last eight entries, `tail` being those of r with zeros before it.
template <size_t width, typename T>
inline __attribute__((always_inline)) void dot_columns(size_t n, const T* const* x, const T* const* next,
                                                       const double* r, const Eight& tail, double* out) {
  Eight even[width] = {}, odd[width] = {}, value, column;
  size_t i = 0;
  for (; i + 2 * octet <= n; i += 2 * octet) {
    load(r + i, value);
    for (size_t k = 0; k < width; ++k) {
      __builtin_prefetch(next[k] + i);
      load(x[k] + i, column);
      even[k] += column * value;
    }
    load(r + i + octet, value);
    for (size_t k = 0; k < width; ++k) {
      if constexpr (sizeof(T) == sizeof(double)) __builtin_prefetch(next[k] + i + octet);
      load(x[k] + i + octet, column);
      odd[k] += column * value;
    }
  }
  if (i + octet <= n) {
    load(r + i, value);
    for (size_t k = 0; k < width; ++k) {
      load(x[k] + i, column);
      even[k] += column * value;
    }
    i += octet;
  }
  if (i < n) {
    for (size_t k = 0; k < width; ++k) {
      if (n < octet)
        load_tail(x[k], n, column);
      else
        load(x[k] + n - octet, column);
      odd[k] += column * tail;
    }
  }
  for (size_t k = 0; k < width; ++k) out[k] = total(even[k] + odd[k]);
}

template <typename T>
void dots(size_t n, size_t count, const T* const* x, const double* r, double* out) {
  Eight tail = {};
  const size_t left = n % octet, first = n < octet ? 0 : octet - left;
  for (size_t i = 0; i < left; ++i) tail[first + i] = r[n - left + i];
  size_t k = 0;
  for (; k + 8 <= count; k += 4) dot_columns<4>(n, x + k, x + k + 4, r, tail, out + k);
  for (; k + 4 <= count; k += 4) dot_columns<4>(n, x + k, x + k, r, tail, out + k);
  for (; k < count; ++k) dot_columns<1>(n, x + k, x + k, r, tail, out + k);
}

// out += sum_k b_k x_k, column by column in their order.
template <size_t width, typename T>
inline __attribute__((always_inline)) void add_columns(size_t n, const T* const* x, const T* const* next,
                                                       const double* b, double* out) {
  Eight sum, column;
  size_t i = 0;
  for (; i + octet <= n; i += octet) {
    load(out + i, sum);
    for (size_t k = 0; k < width; ++k) {
      __builtin_prefetch(next[k] + i);
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
  for (; k + 16 <= count; k += 8) add_columns<8>(n, x + k, x + k + 8, b + k, out);
  for (; k + 8 <= count; k += 8) add_columns<8>(n, x + k, x + k, b + k, out);
  for (; k < count; ++k) add_columns<1>(n, x + k, x + k, b + k, out);
}

// high + low += sum_k b_k x_k as if in twice the precision, rounded once (Dot2 of Ogita, Rump and Oishi, SIAM J. Sci.
// Comput. 26(6), 2005). Sums and products are to be rounded each by itself here, for their errors to be those taken on.
template <typename T>
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("fp-contract=off")))
#endif
void extended(size_t n, size_t count, const T* const* x, const double* b, double* high, double* low) {
  for (size_t k = 0; k < count; ++k) {
    const T* column = x[k];
    const double factor = b[k];
#if !defined(__FP_FAST_FMA)
    constexpr double halves = 134217729;  // 2^27 + 1: splits a double in two of 26 bits
    const double factor_high = halves * factor - (halves * factor - factor), factor_low = factor - factor_high;
#endif
    for (size_t i = 0; i < n; ++i) {
      const double value = static_cast<double>(column[i]);
      const double product = factor * value;
#if defined(__FP_FAST_FMA)
      const double rest = __builtin_fma(factor, value, -product);
#else
      const double value_high = halves * value - (halves * value - value), value_low = value - value_high;
      const double rest = ((factor_high * value_high - product) + factor_high * value_low + factor_low * value_high) +
                          factor_low * value_low;
#endif
      const double sum = high[i] + product;
      const double moved = sum - high[i];
      low[i] += ((high[i] - (sum - moved)) + (product - moved)) + rest;
      high[i] = sum;
    }
  }
}

// out[4 i + j] = a_i . b_j: operands are read once for four products each.
template <typename T>
void products(size_t n, const T* const* a, const T* const* b, double* out) {
  Eight sum[16] = {}, left[4], right;
  size_t e = 0;
  for (; e + octet <= n; e += octet) {
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

// Eight rows at once, so that x is read and written an eighth as often. Rows not live are zeros with inverse 0.
inline void forward(size_t k, size_t ld, const double* r, const double* inverse, double* x) {
  for (size_t s = 0; s < k; s += octet) {
    const double* row = r + s * ld;
    const size_t rows = k - s < octet ? k - s : octet;
    for (size_t i = 0; i < rows; ++i) {
      x[s + i] *= inverse[s + i];
      for (size_t t = i + 1; t < rows; ++t) x[s + t] -= row[i * ld + s + t] * x[s + i];
    }
    if (rows < octet) break;
    Eight sum, entries, solved;
    load(x + s, solved);
    for (size_t t = s + octet; t < k; t += octet) {
      load(x + t, sum);
      for (size_t i = 0; i < octet; ++i) {
        load(row + i * ld + t, entries);
        sum -= entries * solved[i];
      }
      store(x + t, sum);
    }
  }
}

inline void backward(size_t k, size_t ld, const double* r, const double* inverse, double* x) {
  for (size_t s = (k + octet - 1) / octet * octet; s > 0;) {
    s -= octet;
    const double* row = r + s * ld;
    const size_t rows = k - s < octet ? k - s : octet;
    Eight sums[octet] = {}, known, entries;
    for (size_t t = s + octet; t < k; t += octet) {
      load(x + t, known);
      for (size_t i = 0; i < octet; ++i) {
        load(row + i * ld + t, entries);
        sums[i] += entries * known;
      }
    }
    for (size_t i = rows; i-- > 0;) {
      double value = x[s + i] - total(sums[i]);
      for (size_t t = i + 1; t < rows; ++t) value -= row[i * ld + s + t] * x[s + t];
      x[s + i] = value * inverse[s + i];
    }
  }
}

inline void rotate(size_t n, double c, double s, double* a, double* b) {
  Eight upper, lower;
  size_t i = 0;
  for (; i + octet <= n; i += octet) {
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
  dots(n, 1, &a, b, &out);
  return out;
}

inline void add(size_t n, double factor, const double* x, double* y) { add_columns<1>(n, &x, &x, &factor, y); }

typedef long long Mask __attribute__((vector_size(64)));

// All ones where open.
inline __attribute__((always_inline)) void load_open(const unsigned char* closed, size_t count, Mask& open) {
  typedef unsigned char Bytes __attribute__((vector_size(octet)));
  Octet<unsigned char> filled;
  for (size_t i = 0; i < octet; ++i) filled.at[i] = i < count ? closed[i] : 1;
  Bytes bytes;
  __builtin_memcpy(&bytes, filled.at, sizeof(bytes));
  open = __builtin_convertvector(bytes, Mask) == 0;
}

inline double waits(size_t d, const double* g, const double* at, const double* low, const double* high,
                    const unsigned char* closed, double least, double* wait) {
  const Eight zero = {}, never = zero + __builtin_huge_val();
  Eight soonest = never, rate, place, lower, upper;
  Mask open;
  for (size_t i = 0; i < d; i += octet) {
    const size_t count = d - i < octet ? d - i : octet;
    if (count == octet) {
      load(g + i, rate);
      load(at + i, place);
      load(low + i, lower);
      load(high + i, upper);
    } else {
      load_tail(g + i, count, rate);
      load_tail(at + i, count, place);
      load_tail(low + i, count, lower);
      load_tail(high + i, count, upper);
    }
    load_open(closed + i, count, open);
    const Eight end = rate > zero ? upper : lower, speed = rate > zero ? rate : -rate;
    Eight time = (end - place) / rate;
    time = time > zero ? time : zero;
    time = ((speed > zero + least) & open) ? time : never;
    soonest = time < soonest ? time : soonest;
    if (count == octet)
      store(wait + i, time);
    else
      store_tail(wait + i, count, time);
  }
  double first = soonest[0];
  for (size_t k = 1; k < octet; ++k) first = soonest[k] < first ? soonest[k] : first;
  return first;
}

inline size_t arrivals(size_t d, const double* wait, const double* g, const double* low, const double* high,
                       double soonest, double tie, size_t* who, double* second) {
  const Eight zero = {}, never = zero + __builtin_huge_val();
  Eight next = never, time, rate, lower, upper;
  size_t found = 0;
  for (size_t i = 0; i < d; i += octet) {
    const size_t count = d - i < octet ? d - i : octet;
    if (count == octet) {
      load(wait + i, time);
      load(g + i, rate);
      load(low + i, lower);
      load(high + i, upper);
    } else {
      load_tail(wait + i, count, time);
      for (size_t k = count; k < octet; ++k) time[k] = __builtin_huge_val();
      load_tail(g + i, count, rate);
      load_tail(low + i, count, lower);
      load_tail(high + i, count, upper);
    }
    const Eight speed = rate > zero ? rate : -rate, way = speed * soonest, span = upper - lower;
    const Eight longer = ((span > way) & (span < never)) ? span : way;
    const Mask here = ((time - soonest) * speed <= longer * tie) & (time < never);
    const Eight later = here ? never : time;
    next = later < next ? later : next;
    long long any = 0;
    for (size_t k = 0; k < octet; ++k) any |= here[k];
    if (any)
      for (size_t k = 0; k < count; ++k)
        if (here[k]) who[found++] = i + k;
  }
  *second = next[0];
  for (size_t k = 1; k < octet; ++k) *second = next[k] < *second ? next[k] : *second;
  return found;
}

inline void travel(size_t d, double time, const double* g, const unsigned char* closed, double* at) {
  for (size_t i = 0; i < d; ++i) at[i] += closed[i] ? 0 : g[i] * time;
}

template <typename T>
constexpr cpu::ColumnSums<T> column_sums() {
  return {dots<T>, adds<T>, extended<T>, products<T>};
}

constexpr ColumnLoops column_loops() { return {forward, backward, rotate, dot, add, waits, arrivals, travel}; }

}  // namespace agf::AGF_LEAF::columns
