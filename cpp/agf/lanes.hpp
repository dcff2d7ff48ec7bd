// Sums that the compiler may keep in vectors.
#pragma once

#include <cstddef>

namespace agf {

// a . b by eight running sums: the order is fixed, so nothing need be reordered.
template <typename T>
double lane_dot(std::size_t n, const T* a, const double* b) {
  constexpr std::size_t lanes = 8;
  double sums[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (std::size_t k = 0; k < lanes; ++k) sums[k] += static_cast<double>(a[i + k]) * b[i + k];
  for (std::size_t k = 0; i < n; ++i, ++k) sums[k] += static_cast<double>(a[i]) * b[i];
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

}  // namespace agf
