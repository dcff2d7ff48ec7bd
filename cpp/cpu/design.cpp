#include "cpu/design.hpp"

#include <algorithm>
#include <cmath>

#include "agf/interrupt.hpp"
#include "agf/lanes.hpp"
#include "cpu/pool.hpp"

namespace agf::cpu {
namespace {

// Columns of one task, and samples of one piece of a sum of columns: both stay in cache.
constexpr std::size_t block = 64, piece = 1024;

template <typename Body>
void by_blocks(std::size_t columns, std::size_t n, const Body& body) {
  const std::size_t blocks = (columns + block - 1) / block;
  pool::for_each(blocks, 2.0 * static_cast<double>(columns) * static_cast<double>(n), [&](std::size_t b) {
    look_for_interruption();
    const std::size_t last = std::min(columns, (b + 1) * block);
    for (std::size_t j = b * block; j < last; ++j) body(j);
  });
}

}  // namespace

template <typename T>
void DesignCpu<T>::column(std::size_t j, double* out) const {
  const T* x = x_ + j * n_;
  for (std::size_t i = 0; i < n_; ++i) out[i] = static_cast<double>(x[i]);
}

template <typename T>
void DesignCpu<T>::correlate(const double* r, double* out) const {
  by_blocks(d_, n_, [&](std::size_t j) { out[j] = lane_dot(n_, x_ + j * n_, r); });
}

template <typename T>
void DesignCpu<T>::correlate(const std::vector<std::size_t>& which, const double* r, double* out) const {
  by_blocks(which.size(), n_, [&](std::size_t k) { out[k] = lane_dot(n_, x_ + which[k] * n_, r); });
}

template <typename T>
template <typename Sum>
void DesignCpu<T>::add(const std::vector<std::size_t>& which, const double* b, Sum* out) const {
  const std::size_t pieces = (n_ + piece - 1) / piece;
  const double flops = 2.0 * static_cast<double>(which.size()) * static_cast<double>(n_);
  pool::for_each(pieces, flops, [&](std::size_t p) {
    look_for_interruption();
    const std::size_t first = p * piece, last = std::min(n_, first + piece);
    for (std::size_t k = 0; k < which.size(); ++k) {
      const T* x = x_ + which[k] * n_;
      const Sum factor = b[k];
      for (std::size_t i = first; i < last; ++i) out[i] += factor * static_cast<Sum>(x[i]);
    }
  });
}

template <typename T>
void DesignCpu<T>::combine(const std::vector<std::size_t>& which, const double* b, double* out) const {
  add(which, b, out);
}

template <typename T>
void DesignCpu<T>::combine(const std::vector<std::size_t>& which, const double* b, long double* out) const {
  add(which, b, out);
}

template <typename T>
void DesignCpu<T>::lengths(double* out) const {
  by_blocks(d_, n_, [&](std::size_t j) {
    const T* x = x_ + j * n_;
    double sum = 0;
    for (std::size_t i = 0; i < n_; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    out[j] = std::sqrt(sum);
  });
}

template class DesignCpu<float>;
template class DesignCpu<double>;

}  // namespace agf::cpu
