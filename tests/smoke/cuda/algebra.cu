// Linear algebra of one block beside its definitions, in long double.
#include "algebra.cuh"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <vector>

#include "../check.hpp"
#include "algebra/alone.cuh"
#include "leaves.hpp"
#include "room.hpp"

namespace {

int failures = 0;

using namespace agf::cuda;
using Numbers = std::vector<double>;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

#if defined(AGF_SHIM_THREADS)
// Threads of the system take their time at barriers.
const std::vector<std::size_t> sizes = {1, 3, 17, 33}, large_sizes = {116}, special_sizes = {2, 17};
#else
const std::vector<std::size_t> sizes = {1, 2, 3, 5, 16, 17, 31, 33, 64, 100, 112, 113, 150};
const std::vector<std::size_t> large_sizes = {129, 200, 256, 400}, special_sizes = {1, 2, 3, 5, 17, 33, 40, 100};
#endif

template <template <int> class Kernel, int width, typename... Arguments>
void run(Arguments... arguments) {
  const Stream stream;
  using Made = Kernel<width>;
  launch(stream, 1, width, Made::shared_bytes, Made{arguments...});
}

template <typename T>
std::vector<T> fetch(const T* at, std::size_t count) {
  std::vector<T> out(count);
  download(out.data(), at, count * sizeof(T), Stream{});
  return out;
}

// The upper triangle is not to be read.
Numbers lower_of(std::size_t n, Numbers a) {
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = i + 1; j < n; ++j) a[i * n + j] = not_a_number;
  return a;
}

Numbers positive_definite(std::size_t n, unsigned seed) {
  const auto x = smoke::normal(n * n, seed);
  Numbers a(n * n);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t p = 0; p < n; ++p) a[i * n + j] += x[i * n + p] * x[j * n + p];
      if (i == j) a[i * n + j] += 0.1;
    }
  return a;
}

Numbers symmetric(std::size_t n, unsigned seed) {
  auto a = smoke::normal(n * n, seed);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < i; ++j) a[j * n + i] = a[i * n + j];
  return a;
}

// max_i |A x - b|_i against eps n (|A| |x| + |b|)_i, for each right-hand side.
double residual(std::size_t n, const Numbers& a, const Numbers& x, const Numbers& b) {
  double worst = 0;
  for (std::size_t c = 0; c < b.size() / n; ++c) {
    long double error = 0, size = 0;
    for (std::size_t i = 0; i < n; ++i) {
      long double sum = -b[c * n + i], absolute = std::abs(sum);
      for (std::size_t j = 0; j < n; ++j) {
        const long double term = static_cast<long double>(a[i * n + j]) * x[c * n + j];
        sum += term;
        absolute += std::abs(term);
      }
      error = std::max(error, std::isnan(sum) ? std::numeric_limits<long double>::infinity() : std::abs(sum));
      size = std::max(size, absolute);
    }
    const long double unit = DBL_EPSILON * static_cast<long double>(n) * size;
    worst = std::max(worst, static_cast<double>(error / unit));
  }
  return worst;
}

template <int width>
bool cholesky(std::size_t n, const Numbers& a, Numbers& factor) {
  Room room{Stream{}};
  const auto given = lower_of(n, a);
  double* const matrix = room.take(given.data(), given.size());
  int* const ok = room.take<int>(1);
  run<algebra::Cholesky, width>(n, matrix, ok);
  factor = fetch(matrix, n * n);
  return fetch(ok, 1)[0] != 0;
}

template <int width>
void cholesky_of(std::size_t n) {
  const auto a = positive_definite(n, static_cast<unsigned>(n));
  Numbers factor;
  CHECK((cholesky<width>(n, a, factor)));
  double worst = 0;
  bool untouched = true;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      long double sum = -a[i * n + j];
      for (std::size_t p = 0; p <= j; ++p) sum += static_cast<long double>(factor[i * n + p]) * factor[j * n + p];
      const double unit = DBL_EPSILON * static_cast<double>(n + 2) * std::sqrt(a[i * n + i] * a[j * n + j]);
      const double error = static_cast<double>(std::abs(sum)) / unit;
      worst = std::max(worst, std::isnan(error) ? DBL_MAX : error);
    }
    for (std::size_t j = i + 1; j < n; ++j) untouched = untouched && std::isnan(factor[i * n + j]);
  }
  CHECK(worst <= 1);
  CHECK(untouched);
  Numbers again;
  CHECK((cholesky<width>(n, a, again)));
  const auto equal = [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); };
  CHECK(std::equal(factor.begin(), factor.end(), again.begin(), equal));

  for (const std::size_t count : {1, 3, 70}) {
    if (count == 70 && n > 64) continue;
    const auto b = smoke::normal(n * count, 7);
    Room room{Stream{}};
    const double* const held = room.take(factor.data(), factor.size());
    double* const rhs = room.take(b.data(), b.size());
    run<algebra::CholeskySolve, width>(n, held, rhs, count);
    CHECK(residual(n, a, fetch(rhs, b.size()), b) <= 4);
  }
}

// Every way of not being positive definite, first seen at row `at`.
template <int width>
void cholesky_refuses(std::size_t n, std::size_t at) {
  Numbers factor;
  auto a = positive_definite(n, 3);
  a[at * n + at] = -1;
  CHECK((!cholesky<width>(n, a, factor)));
  a[at * n + at] = 0;
  CHECK((!cholesky<width>(n, a, factor)));
  a[at * n + at] = not_a_number;
  CHECK((!cholesky<width>(n, a, factor)));
  a[at * n + at] = std::numeric_limits<double>::infinity();
  CHECK((!cholesky<width>(n, a, factor)));
  if (at == 0) return;
  a = positive_definite(n, 3);
  a[at * n] = not_a_number;
  CHECK((!cholesky<width>(n, a, factor)));
  a[at * n] = 1e6;
  CHECK((!cholesky<width>(n, a, factor)));
}

template <int width>
bool lu(std::size_t n, const Numbers& a, Numbers& factor, std::vector<int>& pivots) {
  Room room{Stream{}};
  double* const matrix = room.take(a.data(), a.size());
  int* const exchanged = room.take<int>(n);
  int* const ok = room.take<int>(1);
  run<algebra::Lu, width>(n, matrix, exchanged, ok);
  factor = fetch(matrix, n * n);
  pivots = fetch(exchanged, n);
  return fetch(ok, 1)[0] != 0;
}

template <int width>
void lu_of(std::size_t n) {
  const auto a = smoke::normal(n * n, static_cast<unsigned>(n) + 1);
  Numbers factor;
  std::vector<int> pivots;
  CHECK((lu<width>(n, a, factor, pivots)));
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      long double sum = -a[static_cast<std::size_t>(pivots[i]) * n + j], absolute = std::abs(sum);
      for (std::size_t p = 0; p <= std::min(i, j); ++p) {
        const long double term = static_cast<long double>(p == i ? 1 : factor[i * n + p]) * factor[p * n + j];
        sum += term;
        absolute += std::abs(term);
      }
      const long double error = std::abs(sum) / (DBL_EPSILON * static_cast<long double>(n + 2) * absolute);
      worst = std::max(worst, std::isnan(error) ? DBL_MAX : static_cast<double>(error));
      if (j < i) largest = std::max(largest, std::abs(factor[i * n + j]));
    }
  CHECK(worst <= 1);
  CHECK(largest <= 1);
  for (const std::size_t count : {1, 3, 70}) {
    if (count == 70 && n > 64) continue;
    const auto b = smoke::normal(n * count, 9);
    Room room{Stream{}};
    const double* const held = room.take(factor.data(), factor.size());
    const int* const exchanged = room.take(pivots.data(), pivots.size());
    double* const rhs = room.take(b.data(), b.size());
    run<algebra::LuSolve, width>(n, held, exchanged, rhs, count);
    CHECK(residual(n, a, fetch(rhs, b.size()), b) <= 40);
  }
}

template <int width>
void lu_refuses(std::size_t n) {
  Numbers factor;
  std::vector<int> pivots;
  CHECK((!lu<width>(n, Numbers(n * n, 0.0), factor, pivots)));
  auto a = smoke::normal(n * n, 4);
  for (std::size_t i = 0; i < n; ++i) a[i * n + n / 2] = 0;
  CHECK((!lu<width>(n, a, factor, pivots)));
  a = smoke::normal(n * n, 4);
  a[n / 2 * n + n / 3] = not_a_number;
  CHECK((!lu<width>(n, a, factor, pivots)));
  // A permutation has nothing to round.
  Numbers permutation(n * n);
  for (std::size_t i = 0; i < n; ++i) permutation[i * n + (i + n / 2) % n] = 1;
  CHECK((lu<width>(n, permutation, factor, pivots)));
  bool right = true;
  for (std::size_t i = 0; i < n; ++i) {
    right = right && permutation[static_cast<std::size_t>(pivots[i]) * n + i] == 1;
    for (std::size_t j = 0; j < n; ++j) right = right && factor[i * n + j] == (i == j ? 1 : 0);
  }
  CHECK(right);
}

struct Spectrum {
  Numbers values, vectors;
};

template <int width>
Spectrum eigen(std::size_t n, const Numbers& a) {
  Room room{Stream{}};
  const auto given = lower_of(n, a);
  double* const matrix = room.take(given.data(), given.size());
  double* const values = room.take<double>(n);
  double* const work = room.take<double>(n * n);
  run<algebra::Eigen, width>(n, matrix, values, work);
  return {fetch(values, n), fetch(matrix, n * n)};
}

// Worst of |V V^T - 1| / (n eps) and |A v - lambda v| / (n eps max|lambda|), in two norms of rows.
template <int width>
Spectrum eigen_of(std::size_t n, const Numbers& a) {
  const auto got = eigen<width>(n, a);
  const double* const v = got.vectors.data();
  CHECK(std::is_sorted(got.values.begin(), got.values.end()));
  const double norm = std::max(std::abs(got.values.front()), std::abs(got.values.back()));
  const double unit = DBL_EPSILON * static_cast<double>(n + 4);
  // Twice, so that neither huge nor tiny squares are lost.
  const double scale = norm > 0 ? norm : 1;
  double skew = 0, left = 0;
  for (std::size_t k = 0; k < n; ++k) {
    for (std::size_t l = 0; l <= k; ++l) {
      long double sum = k == l ? -1 : 0;
      for (std::size_t i = 0; i < n; ++i) sum += static_cast<long double>(v[k * n + i]) * v[l * n + i];
      skew = std::max(skew, std::isnan(sum) ? DBL_MAX : static_cast<double>(std::abs(sum)));
    }
    long double squares = 0;
    for (std::size_t i = 0; i < n; ++i) {
      long double sum = -static_cast<long double>(got.values[k]) / scale * v[k * n + i];
      for (std::size_t j = 0; j < n; ++j) sum += static_cast<long double>(a[i * n + j]) / scale * v[k * n + j];
      squares += sum * sum;
    }
    left = std::max(left, std::isnan(squares) ? DBL_MAX : static_cast<double>(std::sqrt(squares)));
  }
  if (!(skew <= 2 * unit && left <= 2 * unit))
    std::fprintf(stderr, "n %zu, width %d: skew %g, residual %g\n", n, width, skew / unit, left / unit);
  CHECK(skew <= 2 * unit);
  CHECK(left <= 2 * unit);
  return got;
}

// Q diag(values) Q^T with Q a product of reflections.
Numbers with_values(const Numbers& values) {
  const std::size_t n = values.size();
  Numbers a(n * n);
  for (std::size_t i = 0; i < n; ++i) a[i * n + i] = values[i];
  for (unsigned seed = 0; seed < 2; ++seed) {
    const auto u = smoke::normal(n, seed);
    double square = 0;
    for (const double x : u) square += x * x;
    Numbers w(n);
    double kappa = 0;
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) w[i] += 2 / square * a[i * n + j] * u[j];
      kappa += w[i] * u[i] / square;
    }
    for (std::size_t i = 0; i < n; ++i) w[i] -= kappa * u[i];
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) a[i * n + j] -= u[i] * w[j] + w[i] * u[j];
  }
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < i; ++j) a[j * n + i] = a[i * n + j];
  return a;
}

template <int width>
void eigen_known(const Numbers& values) {
  const std::size_t n = values.size();
  const auto got = eigen_of<width>(n, with_values(values));
  auto sorted = values;
  std::sort(sorted.begin(), sorted.end());
  const double norm = std::max(std::abs(sorted.front()), std::abs(sorted.back()));
  double worst = 0;
  for (std::size_t i = 0; i < n; ++i) worst = std::max(worst, std::abs(got.values[i] - sorted[i]));
  CHECK(worst <= 4 * DBL_EPSILON * static_cast<double>(n + 4) * norm);
}

template <int width>
void eigen_families(std::size_t n) {
  // Diagonal, and zero: exact.
  Numbers diagonal(n * n), expected(n);
  for (std::size_t i = 0; i < n; ++i)
    diagonal[i * n + i] = expected[i] = std::ldexp(1.0, static_cast<int>(i * 7 % n) - static_cast<int>(n / 2));
  std::sort(expected.begin(), expected.end());
  CHECK(eigen_of<width>(n, diagonal).values == expected);
  CHECK(eigen_of<width>(n, Numbers(n * n, 0.0)).values == Numbers(n, 0.0));
  // Clusters: two values; a rank of one; spread over many orders either way; a path, whose values are known.
  Numbers values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = i % 2 ? 1 : -2;
  eigen_known<width>(values);
  for (std::size_t i = 0; i < n; ++i) values[i] = i == 0 ? 5 : 0;
  eigen_known<width>(values);
  for (std::size_t i = 0; i < n; ++i) values[i] = 1 + 1e-13 * static_cast<double>(i);
  eigen_known<width>(values);
  for (std::size_t i = 0; i < n; ++i)
    values[i] = std::pow(10.0, -20.0 * static_cast<double>(i) / static_cast<double>(n));
  eigen_known<width>(values);
  std::reverse(values.begin(), values.end());
  eigen_known<width>(values);
  Numbers graded(n * n), path(n * n);
  const double pi = std::acos(-1.0);
  for (std::size_t i = 0; i < n; ++i) {
    expected[i] = 2 - 2 * std::cos(pi * static_cast<double>(i + 1) / static_cast<double>(n + 1));
    path[i * n + i] = 2;
    if (i > 0) path[i * n + i - 1] = path[(i - 1) * n + i] = -1;
    for (std::size_t j = 0; j < n; ++j) graded[i * n + j] = std::pow(10.0, -static_cast<double>(i + j) / 4);
  }
  const auto steps = eigen_of<width>(n, path);
  double worst = 0;
  for (std::size_t i = 0; i < n; ++i) worst = std::max(worst, std::abs(steps.values[i] - expected[i]));
  CHECK(worst <= 4 * DBL_EPSILON * static_cast<double>(n + 4));
  eigen_of<width>(n, graded);
  // Near the ends of the range.
  for (const double scale : {1e300, 1e-300, 5e-324}) {
    auto a = symmetric(n, 8);
    for (double& entry : a) entry *= scale;
    if (scale > 1e-320) {
      eigen_of<width>(n, a);
    } else {
      const auto got = eigen<width>(n, a);
      CHECK(std::all_of(got.values.begin(), got.values.end(), [](double x) { return std::abs(x) < 1e-320; }));
    }
  }
  // No numbers.
  for (const double bad : {not_a_number, std::numeric_limits<double>::infinity()}) {
    auto a = symmetric(n, 8);
    a[(n - 1) * n] = bad;
    const auto got = eigen<width>(n, a);
    CHECK(std::all_of(got.values.begin(), got.values.end(), [](double x) { return std::isnan(x); }));
  }
}

// Systems of several threads, entry beside entry.
template <int width>
struct Alone {
  static constexpr size_t shared_bytes = 0;
  unsigned n, systems;
  double *factors, *x;
  int* ok;
  AGF_DEVICE void operator()(const Team& team) const {
    for (unsigned k = team.thread(); k < systems; k += width) {
      const algebra::alone::Entries own{factors + k, n, systems};
      ok[k] = algebra::alone::cholesky(own) ? 1 : 0;
      if (ok[k]) algebra::alone::cholesky_solve(own, x + k, systems);
    }
  }
};

// Every third is not positive definite, for one reason or another.
template <int width>
void alone_of(std::size_t n) {
  constexpr unsigned systems = 70;
  std::vector<Numbers> matrices(systems);
  const auto b = smoke::normal(n * systems, 7);
  Numbers beside(n * n * systems);
  const auto refused = [](unsigned k) { return k % 3 == 2; };
  for (unsigned k = 0; k < systems; ++k) {
    auto& a = matrices[k] = positive_definite(n, k);
    const std::size_t at = k % n;
    const double bad[] = {-1, 0, not_a_number, std::numeric_limits<double>::infinity()};
    if (refused(k)) a[at * n + at] = bad[k % 4];
    const auto given = lower_of(n, a);
    for (std::size_t e = 0; e < n * n; ++e) beside[e * systems + k] = given[e];
  }
  Room room{Stream{}};
  double* const factors = room.take(beside.data(), beside.size());
  double* const x = room.take(b.data(), b.size());
  int* const ok = room.take<int>(systems);
  run<Alone, width>(static_cast<unsigned>(n), systems, factors, x, ok);
  const auto fine = fetch(ok, systems);
  const auto got = fetch(x, b.size());
  for (unsigned k = 0; k < systems; ++k) {
    CHECK((fine[k] != 0) == !refused(k));
    if (refused(k)) continue;
    Numbers own(n), right(n);
    for (std::size_t i = 0; i < n; ++i) {
      own[i] = got[i * systems + k];
      right[i] = b[i * systems + k];
    }
    CHECK(residual(n, matrices[k], own, right) <= 4);
  }
}

template <int width>
void all() {
  for (const std::size_t n : sizes) {
    cholesky_of<width>(n);
    if (n <= 33) alone_of<width>(n);
    lu_of<width>(n);
    eigen_of<width>(n, symmetric(n, static_cast<unsigned>(n)));
    eigen_of<width>(n, positive_definite(n, static_cast<unsigned>(n)));
  }
  for (const std::size_t n : large_sizes) {
    cholesky_of<width>(n);
    lu_of<width>(n);
    if (n <= 256) eigen_of<width>(n, symmetric(n, static_cast<unsigned>(n)));
  }
  for (const std::size_t n : special_sizes) {
    cholesky_refuses<width>(n, 0);
    cholesky_refuses<width>(n, n / 2);
    cholesky_refuses<width>(n, n - 1);
    lu_refuses<width>(n);
    eigen_families<width>(n);
  }
#if !defined(AGF_SHIM_THREADS)
  cholesky_refuses<width>(150, 140);
  lu_refuses<width>(150);
#endif
}

}  // namespace

int algebra_failures() {
  all<4>();
  all<64>();
  return failures;
}
