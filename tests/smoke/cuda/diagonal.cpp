// Diagonal networks: every product of columns, and every leaf, in both dtypes, beside the CPU; which bits are equal.
#include "diagonal.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

#include "../check.hpp"
#include "cpu/diagonal.hpp"
#include "cpu/isa.hpp"
#include "host.hpp"
#include "leaves.hpp"

namespace {

int failures = 0;

using Vector = std::vector<double>;

template <typename T>
std::vector<T> draw(std::size_t size, unsigned seed) {
  const auto wide = smoke::normal(size, seed);
  return std::vector<T>(wide.begin(), wide.end());
}

void close(const char* what, std::size_t n, std::size_t d, const Vector& got, const Vector& expected, double bound) {
  const double apart = smoke::distance(got, expected);
  if (apart <= bound) return;
  std::fprintf(stderr, "%s of %zu columns of %zu differs by %g\n", what, d, n, apart);
  ++failures;
}

// Column j is that of j % different, with the other sign where j / different is odd.
template <typename T>
std::vector<T> repeated(std::size_t n, std::size_t d, std::size_t different) {
  std::vector<T> columns = draw<T>(n * d, 1);
  for (std::size_t j = different; j < d; ++j)
    for (std::size_t i = 0; i < n; ++i) columns[j * n + i] = -columns[(j - different) * n + i];
  return columns;
}

bool opposite(std::size_t j, std::size_t different) { return j / different % 2 == 1; }

void designs(const agf::Design& host, const agf::Design& device, std::size_t different) {
  constexpr double bound = 1e-14;
  const std::size_t n = host.rows(), d = host.columns();
  CHECK(device.rows() == n && device.columns() == d);
  CHECK(&device.loops() == &host.loops());
  const Vector r = smoke::normal(n, 2), b = smoke::normal(d, 3);
  Vector expected(n), got(n, std::nan(""));
  host.column(d / 2, expected.data());
  device.column(d / 2, got.data());
  CHECK(got == expected);

  Vector all(d, std::nan(""));
  expected.assign(d, 0);
  host.correlate(r.data(), expected.data());
  device.correlate(r.data(), all.data());
  close("correlate", n, d, all, expected, bound);
  for (std::size_t j = 0; j < d; ++j)
    CHECK(all[j] == (opposite(j, different) ? -all[j % different] : all[j % different]));

  // Some, not in order.
  std::vector<std::size_t> which;
  for (std::size_t k = 0; k < (d + 2) / 3; ++k) which.push_back((7 * k + d / 2) % d);
  Vector some(which.size(), std::nan(""));
  device.correlate(which, r.data(), some.data());
  for (std::size_t k = 0; k < which.size(); ++k) CHECK(some[k] == all[which[k]]);
  device.correlate({}, r.data(), nullptr);

  std::vector<std::size_t> every(d);
  for (std::size_t j = 0; j < d; ++j) every[j] = j;
  for (const auto& set : {which, every}) {
    expected = got = r;
    host.combine(set, b.data(), expected.data());
    device.combine(set, b.data(), got.data());
    close("combine", n, d, got, expected, bound);
    Vector low(n, 1e-20), expected_low(low);
    expected = got = r;
    host.combine(set, b.data(), expected.data(), expected_low.data());
    device.combine(set, b.data(), got.data(), low.data());
    // Sums of a thousand products or fewer, in an arithmetic of 106 bits.
    double apart = 0, largest = 0;
    for (std::size_t i = 0; i < n; ++i) {
      apart = std::max(apart, std::abs((got[i] - expected[i]) + (low[i] - expected_low[i])));
      largest = std::max(largest, std::abs(expected[i]));
    }
    CHECK(apart <= 1e-28 * largest);
  }
  got = r;
  device.combine({}, nullptr, got.data());
  CHECK(got == r);

  if (n < 1000) {
    Vector square(n * n, 0.5), beside(square);
    host.outer(every, b.data(), beside.data());
    device.outer(every, b.data(), square.data());
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = i + 1; j < n; ++j) square[i * n + j] = beside[i * n + j] = 0;
    close("outer", n, d, square, beside, 1e-13);
  }

  expected.assign(d, 0);
  got.assign(d, std::nan(""));
  host.lengths(expected.data());
  device.lengths(got.data());
  close("lengths", n, d, got, expected, bound);
  for (std::size_t j = 0; j < d; ++j) CHECK(got[j] == got[j % different]);
}

void grams(const agf::Design& host, const agf::Design& device, std::size_t different) {
  const std::unique_ptr<agf::Design> expected = host.gram(), got = device.gram();
  const std::size_t d = host.columns(), rows = (d + 7) / 8 * 8;
  CHECK(got->rows() == rows && got->columns() == d);
  Vector g(d * rows, std::nan("")), beside(d * rows);
  for (std::size_t j = 0; j < d; ++j) {
    expected->column(j, beside.data() + j * rows);
    got->column(j, g.data() + j * rows);
  }
  close("gram", host.rows(), d, g, beside, 1e-14);
  int wrong = 0;
  for (std::size_t j = 0; j < d; ++j) {
    const double sign = opposite(j, different) ? -1 : 1;
    for (std::size_t i = 0; i < d; ++i)
      wrong += g[j * rows + i] != g[i * rows + j] || g[j * rows + i] != sign * g[j % different * rows + i];
    for (std::size_t i = d; i < rows; ++i) wrong += g[j * rows + i] != 0;
  }
  CHECK(wrong == 0);
  // As a design it is one like others.
  designs(agf::cpu::DesignCpu<double>(g.data(), rows, d), *got, different);
}

template <typename T>
void leaves(const agf::cpu::DiagonalCpu<T>& host, const agf::cuda::DiagonalCuda<T>& device) {
  using namespace agf::cuda;
  const std::size_t n = host.samples(), d = host.inputs(), depth = host.depth(), size = d * depth, more = 5;
  const auto theta = draw<T>(size, 4), v = draw<T>(size, 5), r = draw<T>(n, 6), x = draw<T>(more * d, 7);
  const double bound = sizeof(T) == 4 ? 1e-6 : 1e-13;
  const Stream stream;
  Room room(stream);
  const T* const at = room.take(theta.data(), size);
  const T* const along = room.take(v.data(), size);
  const T* const given = room.take(r.data(), n);
  T* const out = room.take<T>(std::max({size, n, more}));
  std::vector<T> here(std::max({size, n, more}));
  const auto compare = [&](const char* name, std::size_t count) {
    std::vector<T> back(count);
    download(back.data(), out, count * sizeof(T), stream);
    close(name, n, d, Vector(back.begin(), back.end()), Vector(here.begin(), here.begin() + static_cast<long>(count)),
          bound);
  };
  const double loss = host.residual(theta.data(), here.data());
  CHECK(std::abs(device.residual(stream, at, out) - loss) <= 1e-13 * loss);
  compare("residual", n);
  CHECK(std::abs(device.loss(stream, at) - loss) <= 1e-13 * loss);
  for (const bool own : {false, true}) {
    const T* const with = own ? nullptr : r.data();
    host.utility(theta.data(), with, here.data(), nullptr);
    device.utility(stream, at, own ? nullptr : given, out, nullptr);
    compare("utility", d);
    host.utility(theta.data(), with, nullptr, here.data());
    device.utility(stream, at, own ? nullptr : given, nullptr, out);
    compare("gradient", size);
  }
  host.hessian_vector(theta.data(), v.data(), here.data());
  device.hessian_vector(stream, at, along, out);
  compare("Hessian", size);
  host.predict(theta.data(), x.data(), more, here.data());
  device.predict(stream, at, room.take(x.data(), x.size()), more, out);
  compare("predict", more);
  CHECK(device.target() == host.target() && device.depth() == depth);
}

template <typename T>
void network(std::size_t n, std::size_t d, std::size_t different, std::size_t depth, bool with_gram) {
  using namespace agf::cuda;
  const auto columns = repeated<T>(n, d, different), y = draw<T>(n, 8);
  const agf::cpu::DiagonalCpu<T> host(columns.data(), y.data(), n, d, depth);
  const Stream stream;
  Room room(stream);
  const DiagonalCuda<T> device(0, stream, columns.data(), room.take(y.data(), n), n, d, depth, true);
  // The same from memory of the device, in place.
  const DiagonalCuda<T> in_place(0, stream, room.take(columns.data(), n * d), room.take(y.data(), n), n, d, depth,
                                 false);
  designs(host.design(), device.design(), different);
  leaves(host, device);
  leaves(host, in_place);
  if (with_gram) grams(host.design(), device.design(), different);
}

// (1 + 2^-30) (1 + 2^-31) - (1 + 2^-30 + 2^-31) = 2^-61, of which sums of doubles keep nothing; with a large number in
// between that goes again, in other parts of the sum.
void in_twice_the_precision() {
  constexpr std::size_t n = 11, d = 100;
  Vector columns(n * d, 0.0), factors(d, 1.0);
  std::fill_n(columns.begin(), n, 1 + std::ldexp(1, -30));
  std::fill_n(columns.begin() + 1 * n, n, 1.0);
  std::fill_n(columns.begin() + 40 * n, n, std::ldexp(1, 30));
  std::fill_n(columns.begin() + 99 * n, n, -std::ldexp(1, 30));
  factors[0] = 1 + std::ldexp(1, -31);
  factors[1] = -(1 + std::ldexp(1, -30) + std::ldexp(1, -31));
  const agf::cuda::DesignCuda<double> design(0, {}, columns.data(), n, d, true);
  std::vector<std::size_t> all(d);
  for (std::size_t j = 0; j < d; ++j) all[j] = j;
  Vector high(n, 0.0), low(n, 0.0);
  design.combine(all, factors.data(), high.data(), low.data());
  for (std::size_t i = 0; i < n; ++i) CHECK(high[i] + low[i] == std::ldexp(1, -61));
}

}  // namespace

int diagonal_failures() {
  agf::cuda::host().columns = &agf::cpu::isa().columns;
#if defined(AGF_SHIM_THREADS)
  // ThreadSanitizer is slow.
  network<float>(9, 37, 15, 2, true);
  network<double>(4100, 3, 3, 2, false);
  return failures;
#endif
  for (const std::size_t depth : {std::size_t{2}, std::size_t{3}}) {
    network<double>(1, 1, 1, depth, true);
    network<float>(37, 5, 2, depth, true);
    network<double>(37, 13, 4, depth, true);
    // Columns shared out in a sum; several blocks, and tiles of a Gram matrix, with a part of its inner index each.
    network<float>(9, 331, 150, depth, true);
    network<double>(600, 150, 60, depth, true);
    // Several pieces of a column.
    network<float>(9001, 11, 3, depth, true);
    network<double>(4096, 9, 9, depth, false);
  }
  in_twice_the_precision();
  return failures;
}
