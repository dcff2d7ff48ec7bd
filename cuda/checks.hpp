// What is asked of arrays on a device before work begins, and rows picked out of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device.hpp"

namespace agf::cuda {

// How many of n values are NaN or infinite.
template <typename T>
std::size_t count_not_finite(Stream stream, const T* values, std::size_t n);

// sum_i v_i^2, in double.
template <typename T>
double sum_of_squares(Stream stream, const T* values, std::size_t n);

// Row k of `to` is row rows_k of `from`, (., width).
template <typename T>
void gather(Stream stream, const T* from, const std::int64_t* rows, std::size_t count, std::size_t width, T* to);

extern template std::size_t count_not_finite(Stream, const float*, std::size_t);
extern template std::size_t count_not_finite(Stream, const double*, std::size_t);
extern template double sum_of_squares(Stream, const float*, std::size_t);
extern template double sum_of_squares(Stream, const double*, std::size_t);
extern template void gather(Stream, const float*, const std::int64_t*, std::size_t, std::size_t, float*);
extern template void gather(Stream, const double*, const std::int64_t*, std::size_t, std::size_t, double*);

}  // namespace agf::cuda
