// Elementary functions without branches or tables, so that a loop over them becomes vectors in every instruction set.
//
// The coefficients are minimax polynomials, by tools/minimax.py; the bound of each in units of its function is beside
// it. Nothing relies on a fused multiply-add, and nothing is lost where the compiler forms one.
#pragma once

#include <stdint.h>

#include "agf/config.hpp"

namespace agf::AGF_LEAF {

template <typename T>
struct Format;

template <>
struct Format<float> {
  using Bits = uint32_t;
  static constexpr int fraction = 23;
  static constexpr float bias = 127;
  static constexpr Bits sign = 0x80000000u, upper_half = 0xfffff000u;
  // Added and taken away again, it rounds to an integer, which stands in the low bits of the sum.
  static constexpr float rounder = 12582912.0f;
  // e^lowest is 0, also when multiplied by what follows; below 2^narrow the scale is applied in two steps.
  static constexpr float lowest = -112, narrow = -80, step = 64, step_down = 0x1p-64f;
  static constexpr float ln2_high = 0x1.62ep-1f, ln2_low = 0x1.0bfbe8p-15f;
};

template <>
struct Format<double> {
  using Bits = uint64_t;
  static constexpr int fraction = 52;
  static constexpr double bias = 1023;
  static constexpr Bits sign = 0x8000000000000000u, upper_half = 0xfffffffff8000000u;
  static constexpr double rounder = 6755399441055744.0;
  static constexpr double lowest = -760, narrow = -900, step = 128, step_down = 0x1p-128;
  static constexpr double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
};

// c0 + c1 x + c2 x^2 + ..., by pairs: half the depth of Horner's rule. The last sum is Horner's, which rounds least.
template <typename T>
AGF_HD T by_pairs(T, T, T c0) {
  return c0;
}
template <typename T>
AGF_HD T by_pairs(T x, T, T c0, T c1) {
  return c0 + x * c1;
}
template <typename T, typename... Rest>
AGF_HD T by_pairs(T x, T square, T c0, T c1, Rest... rest) {
  return (c0 + x * c1) + square * by_pairs(x, square, rest...);
}
template <typename T, typename... Rest>
AGF_HD T polynomial(T x, T c0, Rest... rest) {
  return c0 + x * by_pairs(x, x * x, rest...);
}

// (e^r - 1 - r) / r^2 for |r| <= 0.35, relative to (e^r - 1) / r^2
AGF_HD float exponential_tail(float r) {  // 2^-26.1
  return polynomial(r, 0.500000007f, 0.166665381f, 0.0416662521f, 0.00836724442f, 0.00139484451f);
}
AGF_HD double exponential_tail(double r) {  // 2^-55.5
  return polynomial(r, 0.50000000000000061, 0.16666666666666688, 0.041666666666566018, 0.0083333333333132476,
                    0.0013888888935028945, 0.00019841269906317434, 2.4801501106857421e-5, 2.7557224706836945e-6,
                    2.7627704930777957e-7, 2.5115587376272637e-8);
}

// (x + 3) e^(x^2/2) Phi(-x) with t = (x - 3) / (x + 3), for 0 <= x <= 15 and 39
AGF_HD float normal_tail(float t) {  // 2^-30.0
  return polynomial(t, 0.729083690f, -0.509331991f, 0.230017699f, -0.0472626879f, -0.0104625129f, 0.00696931093f,
                    0.00102475380f, -0.00103257286f, -0.000244729575f, 0.000131329693f, 5.44886672e-5f);
}
AGF_HD double normal_tail(double t) {  // 2^-56.0
  return polynomial(t, 0.72908369013337300, -0.50933198191748957, 0.23001771997460355, -0.047263025142961071,
                    -0.010462867023303328, 0.0069726212401203855, 0.0010275922589409345, -0.0010458286171993980,
                    -0.00025657534465247667, 0.00015439441116290401, 7.8812666349616083e-5, -1.3245692187890307e-5,
                    -2.0689172368879199e-5, -3.5191638097779675e-6, 3.6404419409288804e-6, 2.2604854258534958e-6,
                    6.3670931375118279e-9, -6.0003187943677195e-7, -2.6985397356189846e-7, 5.0210549895263656e-8,
                    9.1392507981381749e-8, 1.9961465637855962e-8, -1.1160563185436261e-8, -5.5445650487007593e-9,
                    -4.8131520979231343e-10);
}

// erf(x) / x with s = x^2, for x <= 1
AGF_HD float erf_core(float s) {  // 2^-29.6
  return polynomial(s, 1.12837917f, -0.376126258f, 0.112835851f, -0.0268538114f, 0.00518832650f, -0.000801018273f,
                    7.85382462e-5f);
}
AGF_HD double erf_core(double s) {  // 2^-56.9
  return polynomial(s, 1.1283791670955126, -0.37612638903183520, 0.11283791670944186, -0.026866170643111580,
                    0.0052239776061191759, -0.00085483259293422154, 0.00012055293577619460, -1.4924712314370755e-5,
                    1.6447131710596525e-6, -1.6206314746124552e-7, 1.3710984387566876e-8, -7.7794754848323146e-10);
}

// e^(x^2) erfc(x), for 1 <= x <= 4 and 6, relative to e^(x^2) erf(x): what counts is 1 - erfc
AGF_HD float erfc_scaled(float x) {  // 2^-28.6
  return polynomial(x < 4.0f ? x : 4.0f, 0.992355072f, -1.08032967f, 0.863769883f, -0.520131318f, 0.231513544f,
                    -0.0731974079f, 0.0154268896f, -0.00193161600f, 0.000108191913f);
}
AGF_HD double erfc_scaled(double x) {  // 2^-56.4
  return polynomial(x < 6.0 ? x : 6.0, 0.99999613045806002, -1.1283342447879469, 0.99975339228302380,
                    -0.75140056015640447, 0.49791747493998820, -0.29706799464334190, 0.16113747890367684,
                    -0.079547607777057539, 0.035530526458103035, -0.014206140232604603, 0.0050165658524532435,
                    -0.0015416909174450933, 0.00040603379686493098, -9.0158766680058034e-5, 1.6572786089294644e-5,
                    -2.4669834479579796e-6, 2.8897446273306954e-7, -2.5573632420619096e-8, 1.6038753448459907e-9,
                    -6.3416359019775725e-11, 1.1868227262527310e-12);
}

// 2^n for an integer n of the normal range
template <typename T>
AGF_HD T power_of_two(T n) {
  using Bits = typename Format<T>::Bits;
  const Bits biased = __builtin_bit_cast(Bits, n + (Format<T>::rounder + Format<T>::bias));
  return __builtin_bit_cast(T, static_cast<Bits>(biased << Format<T>::fraction));
}

// |x|, and a number that is not negative with the sign of x: a bit each, where a choice would compare and blend.
template <typename T>
AGF_HD T magnitude(T x) {
  using Bits = typename Format<T>::Bits;
  return __builtin_bit_cast(T, static_cast<Bits>(__builtin_bit_cast(Bits, x) & ~Format<T>::sign));
}
template <typename T>
AGF_HD T with_sign(T size, T x) {
  using Bits = typename Format<T>::Bits;
  const Bits sign = __builtin_bit_cast(Bits, x) & Format<T>::sign;
  return __builtin_bit_cast(T, static_cast<Bits>(__builtin_bit_cast(Bits, size) | sign));
}

// x with the lower half of its digits cleared: products of two such are exact.
template <typename T>
AGF_HD T upper_half(T x) {
  using Bits = typename Format<T>::Bits;
  return __builtin_bit_cast(T, static_cast<Bits>(__builtin_bit_cast(Bits, x) & Format<T>::upper_half));
}

// high + low, where high alone is the number to half its digits or all of them
template <typename T>
struct Sum {
  T high;
  T low;
};

// e^x = (1 + excess) scale rest, with |excess| < 0.42 and powers of two; x <= 0, and 0 far out.
template <typename T>
struct Exponential {
  T excess;
  T scale;
  T rest;

  AGF_HD explicit Exponential(T x) {
    const T held = x < Format<T>::lowest ? Format<T>::lowest : x;
    const T n = steps(held);
    // The first product and difference are exact.
    finish(n, (held - n * Format<T>::ln2_high) - n * Format<T>::ln2_low, T(0));
  }
  // e^(x + low), where low is a correction of x
  AGF_HD Exponential(T x, T low) {
    const T held = x < Format<T>::lowest ? Format<T>::lowest : x;
    const T n = steps(held + low);
    const T first = held - n * Format<T>::ln2_high;
    const T second = low - n * Format<T>::ln2_low;
    const T r = first + second;
    finish(n, r, (r - first) - second);
  }

  AGF_HD T scaled(T a) const { return a * scale * rest; }
  // a e^x
  AGF_HD T times(T a) const { return scaled(a + a * excess); }
  // a e^x before it is scaled, with what its rounding lost
  AGF_HD Sum<T> unscaled(T a) const {
    const T head = a + a * excess;
    return {head, (a - head) + a * excess};
  }
  // e^x - 1, to its own relative accuracy: n = 0 near 0
  AGF_HD T minus_one() const {
    const T power = scale * rest;
    return power * excess + (power - T(1));
  }

 private:
  // The integer nearest to x / ln 2.
  AGF_HD static T steps(T x) { return (x * T(1.44269504088896340736) + Format<T>::rounder) - Format<T>::rounder; }
  // e^(n ln 2 + r - beyond)
  AGF_HD void finish(T n, T r, T beyond) {
    excess = r + (r * r * exponential_tail(r) - beyond);
    const bool narrow = n < Format<T>::narrow;
    scale = power_of_two(narrow ? n + Format<T>::step : n);
    rest = narrow ? Format<T>::step_down : T(1);
  }
};

// e^(-factor x^2) for a power of two as factor: the digits of x^2 beyond a T count when x is large.
template <typename T>
AGF_HD Exponential<T> bell(T x, T factor) {
  const T high = upper_half(x);
  return Exponential<T>(-factor * (high * high), -factor * ((x - high) * (x + high)));
}

// 1 / (x + shift), high of half the digits; x >= 0
template <typename T>
AGF_HD Sum<T> reciprocal(T x, T shift) {
  const T sum = x + shift;
  const T inverse = T(1) / sum;
  const T upper = upper_half(sum);
  const T high = upper_half(inverse);
  // Products and differences are exact but for the last two roundings.
  return {high, ((T(1) - upper * high) - (x - (upper - shift)) * high) * inverse};
}

// a^2, where high has half the digits
template <typename T>
AGF_HD T square(Sum<T> a) {
  return a.high * a.high + a.low * (T(2) * a.high + a.low);
}

// a b, where b.high has half the digits: only the last sum rounds
template <typename T>
AGF_HD T product(T a, Sum<T> b) {
  const T high = upper_half(a);
  return high * b.high + ((a - high) * b.high + a * b.low);
}
template <typename T>
AGF_HD T product(Sum<T> a, Sum<T> b) {
  const T high = upper_half(a.high);
  return high * b.high + (((a.high - high) + a.low) * b.high + a.high * b.low);
}

// a with half the digits in high
template <typename T>
AGF_HD Sum<T> halved(Sum<T> a) {
  const T high = upper_half(a.high);
  return {high, (a.high - high) + a.low};
}

}  // namespace agf::AGF_LEAF
