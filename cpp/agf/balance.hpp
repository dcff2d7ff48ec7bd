// The balance of two layers, neurons a sigma(w x) with sigma homogeneous of degree k: the flow conserves
// k |a|^2 - |w|^2.
#pragma once

#include <cmath>
#include <cstddef>

#include "linear.hpp"

namespace AGF_SPACE {

// Rows [w (d) | a (c)].
AGF_CORE inline void layer_balance(std::size_t d, std::size_t c, double degree, const double* theta, std::size_t count,
                                   double* out) {
  each(count, d + c, [=](std::size_t i) {
    const double* w = theta + i * (d + c);
    out[i] = degree * dot(c, w + d, w + d) - dot(d, w, w);
  });
}

// Puts neurons back on the balance given without touching their outputs: w <- s w, a <- a / s^k; scale gets s.
// k |a|^2 s^{-2k} - |w|^2 s^2 falls in s; Newton in ln s from so close by needs two or three steps.
AGF_CORE inline void rebalance_layers(std::size_t d, std::size_t c, double degree, double* theta, std::size_t count,
                                      const double* balance, double* scale) {
  constexpr int most = 8;
  each(count, most * (d + c), [=](std::size_t i) {
    double* w = theta + i * (d + c);
    const double outer = degree * dot(c, w + d, w + d), inner = dot(d, w, w);
    double log_s = 0;
    for (int k = 0; k < most; ++k) {
      const double a = outer * std::exp(-2 * degree * log_s), b = inner * std::exp(2 * log_s);
      log_s += (a - b - balance[i]) / (2 * (degree * a + b));
    }
    // A neuron that has all but lost one of its layers has no balance to speak of.
    scale[i] = std::abs(log_s) < 0.5 ? std::exp(log_s) : 1.0;
    const double other = std::pow(scale[i], -degree);
    for (std::size_t e = 0; e < d; ++e) w[e] *= scale[i];
    for (std::size_t e = d; e < d + c; ++e) w[e] *= other;
  });
}

}  // namespace AGF_SPACE
