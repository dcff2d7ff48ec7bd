// Solves with a Cholesky factor, for isa_table.inl: L lower, row-major, `n` apart. Eight rows at once, so that x is
// read and written an eighth as often; needs column_loops.inl.

namespace agf::AGF_LEAF::columns {

// x <- L^-1 x
inline void solve_lower(size_t n, const double* l, double* x) {
  for (size_t s = 0; s < n; s += octet) {
    const double* row = l + s * n;
    const size_t rows = n - s < octet ? n - s : octet;
    Eight sums[octet] = {}, known, entries;
    if (rows == octet) {
      for (size_t t = 0; t < s; t += octet) {
        load(x + t, known);
        for (size_t i = 0; i < octet; ++i) {
          load(row + i * n + t, entries);
          sums[i] += entries * known;
        }
      }
    } else {
      for (size_t t = 0; t < s; t += octet) {
        load(x + t, known);
        for (size_t i = 0; i < rows; ++i) {
          load(row + i * n + t, entries);
          sums[i] += entries * known;
        }
      }
    }
    for (size_t i = 0; i < rows; ++i) {
      double value = x[s + i] - total(sums[i]);
      for (size_t t = 0; t < i; ++t) value -= row[i * n + s + t] * x[s + t];
      x[s + i] = value / row[i * n + s + i];
    }
  }
}

// x <- L^-T x
inline void solve_lower_transposed(size_t n, const double* l, double* x) {
  for (size_t s = (n + octet - 1) / octet * octet; s > 0;) {
    s -= octet;
    const double* row = l + s * n;
    const size_t rows = n - s < octet ? n - s : octet;
    double solved[octet] = {};
    for (size_t i = rows; i-- > 0;) {
      double value = x[s + i];
      for (size_t t = i + 1; t < rows; ++t) value -= row[t * n + s + i] * solved[t];
      solved[i] = value / row[i * n + s + i];
      x[s + i] = solved[i];
    }
    Eight sum, entries;
    if (rows == octet) {
      for (size_t t = 0; t < s; t += octet) {
        load(x + t, sum);
        for (size_t i = 0; i < octet; ++i) {
          load(row + i * n + t, entries);
          sum -= entries * solved[i];
        }
        store(x + t, sum);
      }
    } else {
      for (size_t t = 0; t < s; t += octet) {
        load(x + t, sum);
        for (size_t i = 0; i < rows; ++i) {
          load(row + i * n + t, entries);
          sum -= entries * solved[i];
        }
        store(x + t, sum);
      }
    }
  }
}

}  // namespace agf::AGF_LEAF::columns
