#include "checks.hpp"

#include "each.cuh"

namespace agf::cuda {

template <typename T>
std::size_t count_not_finite(Stream stream, const T* values, std::size_t n) {
  return static_cast<std::size_t>(total(
      stream, n, AGF_LAMBDA(size_t i)->double {
        const T v = values[i];
        return v - v == 0 ? 0.0 : 1.0;
      }));
}

template <typename T>
double sum_of_squares(Stream stream, const T* values, std::size_t n) {
  return total(
      stream, n, AGF_LAMBDA(size_t i)->double {
        const double v = static_cast<double>(values[i]);
        return v * v;
      });
}

template <typename T>
void gather(Stream stream, const T* from, const std::int64_t* rows, std::size_t count, std::size_t width, T* to) {
  each(
      stream, count * width,
      AGF_LAMBDA(size_t i) { to[i] = from[static_cast<size_t>(rows[i / width]) * width + i % width]; });
}

template std::size_t count_not_finite(Stream, const float*, std::size_t);
template std::size_t count_not_finite(Stream, const double*, std::size_t);
template double sum_of_squares(Stream, const float*, std::size_t);
template double sum_of_squares(Stream, const double*, std::size_t);
template void gather(Stream, const float*, const std::int64_t*, std::size_t, std::size_t, float*);
template void gather(Stream, const double*, const std::int64_t*, std::size_t, std::size_t, double*);

}  // namespace agf::cuda
