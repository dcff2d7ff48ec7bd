// The nonlinearities: sigma, sigma' and sigma'' at a point, for every sigma of models.def.
#pragma once

#include <math.h>

#include "agf/config.hpp"

namespace agf {

enum class Sigma : int {
#define AGF_DENSE(name, leaf, degree, homogeneous, kinked, linear) name,
#include "agf/models.def"
#undef AGF_DENSE
};

namespace AGF_LEAF {

// C functions by name: the overloads of <cmath> are inline functions, which a wide translation unit must not emit.
AGF_HD float exponential(float x) { return ::expf(x); }
AGF_HD double exponential(double x) { return ::exp(x); }
AGF_HD float exponential_minus_one(float x) { return ::expm1f(x); }
AGF_HD double exponential_minus_one(double x) { return ::expm1(x); }
AGF_HD float error_function(float x) { return ::erff(x); }
AGF_HD double error_function(double x) { return ::erf(x); }
AGF_HD float error_function_complement(float x) { return ::erfcf(x); }
AGF_HD double error_function_complement(double x) { return ::erfc(x); }

// sigma(z), sigma'(z), sigma''(z).
template <typename T>
struct Jet {
  T value;
  T slope;
  T bend;
};

// sigma(z) = gain z: identity, and the leading term of every non-homogeneous sigma of degree 1.
template <typename T>
struct Proportional {
  T gain;
  AGF_HD Jet<T> operator()(T z) const { return {gain * z, gain, T(0)}; }
};

// sigma(z) = z
template <typename T>
struct Identity {
  AGF_HD explicit Identity(T) {}
  AGF_HD Jet<T> operator()(T z) const { return {z, T(1), T(0)}; }
  AGF_HD static Proportional<T> leading() { return {T(1)}; }
};

// sigma(z) = max(z, 0), sigma'(0) = 0
template <typename T>
struct Relu {
  AGF_HD explicit Relu(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    const bool on = z > T(0);
    return {on ? z : T(0), on ? T(1) : T(0), T(0)};
  }
  AGF_HD T lower() const { return T(0); }
};

// sigma(z) = z for z > 0, slope z for z <= 0
template <typename T>
struct LeakyRelu {
  T slope;
  AGF_HD explicit LeakyRelu(T parameter) : slope(parameter) {}
  AGF_HD Jet<T> operator()(T z) const {
    const T factor = z > T(0) ? T(1) : slope;
    return {factor * z, factor, T(0)};
  }
  AGF_HD T lower() const { return slope; }
};

// A kinked sigma whose step of sigma', from `lower` to 1, is a ramp on [-width, width]; width > 0.
//   |z| < width:  sigma' = lower + (1 - lower) (z + width) / (2 width),  sigma its integral, equal to the branches at
//   the ends
template <typename T>
struct Ramped {
  T lower;
  T width;
  AGF_HD Jet<T> operator()(T z) const {
    const T bend = (T(1) - lower) / (T(2) * width);
    const T run = z + width;
    const bool inside = z > -width && z < width;
    const T factor = z > T(0) ? T(1) : lower;
    const T flat = factor * z;
    const T curved = lower * z + T(0.5) * bend * run * run;
    return {inside ? curved : flat, inside ? lower + bend * run : factor, inside ? bend : T(0)};
  }
};

// sigma(z) = z^k
template <typename T>
struct Power2 {
  AGF_HD explicit Power2(T) {}
  AGF_HD Jet<T> operator()(T z) const { return {z * z, T(2) * z, T(2)}; }
};
template <typename T>
struct Power3 {
  AGF_HD explicit Power3(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    const T square = z * z;
    return {square * z, T(3) * square, T(6) * z};
  }
};
template <typename T>
struct Power4 {
  AGF_HD explicit Power4(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    const T square = z * z;
    return {square * square, T(4) * square * z, T(12) * square};
  }
};
template <typename T>
struct Power5 {
  AGF_HD explicit Power5(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    const T square = z * z;
    return {square * square * z, T(5) * square * square, T(20) * square * z};
  }
};

// sigma(z) = tanh z. With e = exp(-2|z|): |sigma| = (1 - e) / (1 + e), sigma' = 4 e / (1 + e)^2. Near 0, where 1 - e
// would cancel, e - 1 comes from expm1; far out, where 1 - sigma^2 would cancel, e is itself accurate.
template <typename T>
struct Tanh {
  AGF_HD explicit Tanh(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    const T size = z < T(0) ? -z : z;
    T e, gap;
    if (size < T(0.35)) {
      gap = -exponential_minus_one(T(-2) * size);
      e = T(1) - gap;
    } else {
      e = exponential(T(-2) * size);
      gap = T(1) - e;
    }
    const T sum = T(1) + e;
    const T value = z < T(0) ? -gap / sum : gap / sum;
    const T slope = T(4) * e / (sum * sum);
    return {value, slope, T(-2) * value * slope};
  }
  AGF_HD static Proportional<T> leading() { return {T(1)}; }
};

// sigma(z) = z Phi(z). Phi by erfc, which keeps its relative accuracy for z << 0.
template <typename T>
struct Gelu {
  AGF_HD explicit Gelu(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    const T cumulative = T(0.5) * error_function_complement(z * T(-0.70710678118654752440));
    const T density = T(0.39894228040143267794) * exponential(T(-0.5) * z * z);
    return {z * cumulative, cumulative + z * density, density * (T(2) - z * z)};
  }
  AGF_HD static Proportional<T> leading() { return {T(0.5)}; }
};

// sigma(z) = z for z > 0, exp(z) - 1 for z <= 0
template <typename T>
struct Elu {
  AGF_HD explicit Elu(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    if (z > T(0)) return {z, T(1), T(0)};
    if (z > T(-1)) {
      const T value = exponential_minus_one(z);
      return {value, value + T(1), value + T(1)};
    }
    const T e = exponential(z);
    return {e - T(1), e, e};
  }
  AGF_HD static Proportional<T> leading() { return {T(1)}; }
};

// sigma(z) = z p, p = 1 / (1 + exp(-z)), q = 1 - p: sigma' = p (1 + z q), sigma'' = p q (2 + z (q - p))
template <typename T>
struct Silu {
  AGF_HD explicit Silu(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    const T e = exponential(z < T(0) ? z : -z);
    const T large = T(1) / (T(1) + e);
    const T small = e * large;
    const T p = z < T(0) ? small : large;
    const T q = z < T(0) ? large : small;
    return {z * p, p * (T(1) + z * q), p * q * (T(2) + z * (q - p))};
  }
  AGF_HD static Proportional<T> leading() { return {T(0.5)}; }
};

// sigma(z) = erf z
template <typename T>
struct Erf {
  AGF_HD explicit Erf(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    const T slope = T(1.12837916709551257390) * exponential(-z * z);
    return {error_function(z), slope, T(-2) * z * slope};
  }
  AGF_HD static Proportional<T> leading() { return {T(1.12837916709551257390)}; }
};

}  // namespace AGF_LEAF
}  // namespace agf
