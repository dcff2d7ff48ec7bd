// A double with an exponent of its own: relative accuracy of a double at any scale, e^{-23000} included.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace AGF_SPACE {

// 2^k; 0 and infinity beyond the normal range.
AGF_CORE inline double power_of_two(std::int64_t k) {
  if (k < -1022) return 0;
  if (k > 1023) return std::numeric_limits<double>::infinity();
  return std::bit_cast<double>(static_cast<std::uint64_t>(k + 1023) << 52);
}

// mantissa * 2^exponent with 1 <= |mantissa| < 2, or zero.
struct Wide {
  double mantissa = 0;
  std::int64_t exponent = 0;

  AGF_CORE static Wide of(double x, std::int64_t exponent = 0) {
    const auto bits = std::bit_cast<std::uint64_t>(x);
    const auto field = static_cast<std::int64_t>((bits >> 52) & 0x7ff);
    if (field == 0) {
      // Zero or subnormal.
      if (x == 0) return {};
      return of(x * 0x1p60, exponent - 60);
    }
    constexpr std::uint64_t one = std::uint64_t{1023} << 52, rest = ~(std::uint64_t{0x7ff} << 52);
    return {std::bit_cast<double>((bits & rest) | one), exponent + field - 1023};
  }

  // e^x; |x| beyond 1e15, where a double has no fraction left, as 1e15.
  AGF_CORE static Wide exp(double x) {
    constexpr double log2 = 0.6931471805599453094, low = 2.3190468138462996e-17, most = 1e15;
    x = x > most ? most : x < -most ? -most : x;
    const double k = std::nearbyint(x / log2);
    // k ln 2 in two parts: x - k ln 2 is small beside both.
    return of(std::exp(std::fma(-k, log2, x) - k * low), static_cast<std::int64_t>(k));
  }

  AGF_CORE bool zero() const { return mantissa == 0; }
  AGF_CORE double log() const {
    return zero() ? -std::numeric_limits<double>::infinity()
                  : std::log(std::abs(mantissa)) + 0.6931471805599453094 * static_cast<double>(exponent);
  }
  // x / 2^shift as a double.
  AGF_CORE double scaled(std::int64_t shift) const { return zero() ? 0 : mantissa * power_of_two(exponent - shift); }
  AGF_CORE double value() const { return scaled(0); }
  AGF_CORE Wide operator-() const { return {-mantissa, exponent}; }
};

AGF_CORE inline bool is_zero(Wide a) { return a.zero(); }

AGF_CORE inline Wide operator*(Wide a, Wide b) {
  if (a.zero() || b.zero()) return {};
  return Wide::of(a.mantissa * b.mantissa, a.exponent + b.exponent);
}

AGF_CORE inline Wide operator/(Wide a, Wide b) {
  if (a.zero()) return {};
  return Wide::of(a.mantissa / b.mantissa, a.exponent - b.exponent);
}

AGF_CORE inline Wide operator+(Wide a, Wide b) {
  if (a.zero()) return b;
  if (b.zero()) return a;
  if (a.exponent < b.exponent) return b + a;
  return Wide::of(a.mantissa + b.scaled(a.exponent), a.exponent);
}

AGF_CORE inline Wide operator-(Wide a, Wide b) { return a + -b; }

AGF_CORE inline Wide sqrt(Wide a) {
  if (a.zero()) return {};
  const std::int64_t odd = a.exponent & 1;
  return Wide::of(std::sqrt(odd ? 2 * a.mantissa : a.mantissa), (a.exponent - odd) / 2);
}

// |a| < |b|.
AGF_CORE inline bool smaller(Wide a, Wide b) {
  if (a.zero() || b.zero()) return !b.zero();
  return a.exponent != b.exponent ? a.exponent < b.exponent : std::abs(a.mantissa) < std::abs(b.mantissa);
}

AGF_CORE inline Wide dot(std::size_t n, const Wide* a, const Wide* b) {
  std::int64_t top = std::numeric_limits<std::int64_t>::min();
  for (std::size_t i = 0; i < n; ++i)
    if (!a[i].zero() && !b[i].zero() && a[i].exponent + b[i].exponent > top) top = a[i].exponent + b[i].exponent;
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i)
    if (!a[i].zero() && !b[i].zero())
      sum += a[i].mantissa * b[i].mantissa * power_of_two(a[i].exponent + b[i].exponent - top);
  return Wide::of(sum, sum == 0 ? 0 : top);
}

}  // namespace AGF_SPACE
