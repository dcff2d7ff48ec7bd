// The nonlinearities: sigma, sigma' and sigma'' at a point, for every sigma of models.def.
#pragma once

#include "agf/config.hpp"
#include "agf/elementary.hpp"

namespace agf {

enum class Sigma : int {
#define AGF_DENSE(name, leaf, degree, homogeneous, kinked, linear) name,
#include "agf/models.def"
#undef AGF_DENSE
};

namespace AGF_LEAF {

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
// would cancel, it is e - 1 that is computed; far out, where 1 - sigma^2 would cancel, e is itself accurate.
template <typename T>
struct Tanh {
  AGF_HD explicit Tanh(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    const T size = magnitude(z);
    const Exponential<T> e(T(-2) * size);
    const Sum<T> q = reciprocal(e.times(T(1)), T(1));
    const T rising = product(-e.minus_one(), q);
    const T value = with_sign(rising, z);
    const Sum<T> slope = e.unscaled(T(4) * square(q));
    return {value, e.scaled(slope.high), e.scaled(product(T(-2) * value, halved(slope)))};
  }
  AGF_HD static Proportional<T> leading() { return {T(1)}; }
};

// sigma(z) = z Phi(z). Phi(-|z|) as exp(-z^2/2) times a smooth factor, which keeps its relative accuracy for z << 0.
template <typename T>
struct Gelu {
  AGF_HD explicit Gelu(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    constexpr T far = sizeof(T) == sizeof(float) ? T(15) : T(39);
    const T size = magnitude(z);
    const T held = size > far ? far : size;
    const Exponential<T> e = bell(held, T(0.5));
    const Sum<T> q = reciprocal(held, T(3));
    const T factor = normal_tail((T(1) - T(6) * q.high) - T(6) * q.low);
    const T tail = e.scaled(product(e.unscaled(factor), q));
    const T cumulative = z < T(0) ? tail : T(1) - tail;
    // Bounded where the exponential vanishes.
    const T near = with_sign(held, z);
    const Sum<T> density = e.unscaled(T(0.39894228040143267794));
    return {(z < T(0) ? near : z) * cumulative, cumulative + e.scaled(density.high * near + density.low * near),
            e.scaled(density.high * (T(2) - near * near))};
  }
  AGF_HD static Proportional<T> leading() { return {T(0.5)}; }
};

// sigma(z) = z for z > 0, exp(z) - 1 for z <= 0
template <typename T>
struct Elu {
  AGF_HD explicit Elu(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    const bool on = z > T(0);
    const Exponential<T> e(on ? T(0) : z);
    const T slope = e.times(T(1));
    return {on ? z : e.minus_one(), slope, on ? T(0) : slope};
  }
  AGF_HD static Proportional<T> leading() { return {T(1)}; }
};

// sigma(z) = z p, p = 1 / (1 + exp(-z)), q = 1 - p: sigma' = p (1 + z q), sigma'' = p q (2 + z (q - p))
template <typename T>
struct Silu {
  AGF_HD explicit Silu(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    constexpr T far = -Format<T>::lowest;
    const T size = magnitude(z);
    const T held = size > far ? far : size;
    const Exponential<T> e(-held);
    const Sum<T> inverse = reciprocal(e.times(T(1)), T(1));
    const T large = inverse.high + inverse.low;
    const T small = e.times(large);
    const T p = z < T(0) ? small : large;
    const T q = z < T(0) ? large : small;
    // Bounded where p or q vanishes.
    const T near = with_sign(held, z);
    return {(z < T(0) ? near : z) * p, p * (T(1) + near * q),
            e.times(square(inverse) * (T(2) - held * (T(1) - T(2) * small)))};
  }
  AGF_HD static Proportional<T> leading() { return {T(0.5)}; }
};

// sigma(z) = erf z. By its odd part near 0, by 1 - erfc from |z| = 1.
template <typename T>
struct Erf {
  AGF_HD explicit Erf(T) {}
  AGF_HD Jet<T> operator()(T z) const {
    constexpr T far = sizeof(T) == sizeof(float) ? T(10.75) : T(28);
    const T size = magnitude(z);
    const T held = size > far ? far : size;
    const Exponential<T> e = bell(held, T(1));
    const T beyond = T(1) - e.times(erfc_scaled(held));
    const T inner = held * erf_core(held * held);
    const T rising = held < T(1) ? inner : beyond;
    const T slope = e.times(T(1.12837916709551257390));
    const T near = with_sign(held, z);
    return {with_sign(rising, z), slope, T(-2) * near * slope};
  }
  AGF_HD static Proportional<T> leading() { return {T(1.12837916709551257390)}; }
};

}  // namespace AGF_LEAF
}  // namespace agf
