// What is computed for one neuron of modular addition, and how many are taken at once.
#pragma once

#include <stddef.h>

#include <algorithm>

#include "modular.hpp"
#include "team.cuh"

namespace AGF_SPACE::cuda {

// As many items as have room in the arrays of one chunk, where each takes so many numbers.
AGF_CORE inline std::size_t items_at_once(std::size_t items, std::size_t numbers, std::size_t least = 1) {
#if !defined(__CUDACC__)
  constexpr std::size_t most_numbers = std::size_t{1} << 12;  // so that chunks are seen
#elif defined(AGF_BLOCK)
  constexpr std::size_t most_numbers = std::size_t{1} << 17;  // many blocks share a device's memory
#else
  constexpr std::size_t most_numbers = std::size_t{1} << 22;
#endif
  return std::min(items, std::max(least, most_numbers / std::max<std::size_t>(1, numbers)));
}

// One neuron's share of analyses, features and slopes, and the numbers it takes.
struct ModularCuda::Form {
  unsigned k, p, m, d;
  bool reduced;
  double root;
  const double *gain, *waves, *map;

  AGF_HD unsigned rows() const { return 2 * p + k * k; }

  // A_s or B_s of the side that this parameter begins.
  AGF_HD double mode(const double* from, unsigned s) const {
    if (reduced) return gain[s] * from[s];
    double sum = 0;
    for (unsigned j = 0; j < p; ++j) sum += map[j * k + s] * from[j];
    return sum;
  }
  // A(a) or B(a) from its modes.
  AGF_HD double value(const double* modes, unsigned a) const {
    double sum = 0;
    for (unsigned s = 0; s < k; ++s) sum += modes[s] * waves[a * k + s];
    return sum;
  }
  // What a residual in its components is weighed with, U = features . r w, as a symmetric bilinear form of two
  // analyses: of one with itself the features, of two with factor 2 their derivative.
  AGF_HD double feature(const Analysis& at, const Analysis& along, double factor, unsigned i, unsigned f) const {
    const auto count = static_cast<unsigned>(at.count);
    if (f < 2 * p) {
      const unsigned from = f < p ? i * p + f : (count + i) * p + (f - p);
      return factor * root * at.values[from] * along.values[from];
    }
    const unsigned s = i * k + (f - 2 * p) / k, t = (count + i) * k + (f - 2 * p) % k;
    return factor * (at.modes[s] * along.modes[t] + along.modes[s] * at.modes[t]);
  }
  // Turns features into components of the output: the mean over b of (A + B)^2 is A^2 + E B^2. E B^2 = |B_s|^2 is
  // bilinear, of `at` and `along`; `row`: of the analyses.
  AGF_HD double mean(const Analysis& at, const Analysis& along, double factor, unsigned row) const {
    double sum = 0;
    for (unsigned s = 0; s < k; ++s) sum += at.modes[row * k + s] * along.modes[row * k + s];
    return factor * root * sum;
  }
  // The derivative of weight . features by A_s or B_s of neuron i, halved:
  // (1 / sqrt p) sum_a e_s(a) A(a) weight(a) + sum_t weight_st B_t.
  AGF_HD double slope(const Analysis& at, const double* weight, unsigned side, unsigned i, unsigned s) const {
    const double* const values = at.values + (side * static_cast<unsigned>(at.count) + i) * p;
    double sum = 0;
    for (unsigned a = 0; a < p; ++a) sum += values[a] * weight[side * p + a] * waves[a * k + s];
    return root * sum + cross(at, weight, side, i, s);
  }
  AGF_HD double cross(const Analysis& at, const double* weight, unsigned side, unsigned i, unsigned s) const {
    const double* const other = at.modes + ((1 - side) * static_cast<unsigned>(at.count) + i) * k;
    const double* const mine = weight + 2 * p + s * (side ? 1 : k);
    const unsigned step = side ? k : 1;
    double sum = 0;
    for (unsigned t = 0; t < k; ++t) sum += mine[t * step] * other[t];
    return sum;
  }
};

// 1/2 E|r|^2 is half the sum of these: squares of all components, and, since the means over a and over b both hold the
// mean over all pairs, which counts once, less its square for each output. At most half of the sum goes that way.
AGF_HD std::size_t square_terms(std::size_t rows, std::size_t p) { return (rows + 1) * p; }
AGF_HD double square_term(const double* r, std::size_t rows, std::size_t p, std::size_t e) {
  if (e < rows * p) return r[e] * r[e];
  const double* const column = r + (e - rows * p);
  double sum = 0;
  for (std::size_t a = 0; a < p; ++a) sum += column[a * p];
  return -sum * sum / static_cast<double>(p);
}

}  // namespace AGF_SPACE::cuda
