#include "cpu/design.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "agf/interrupt.hpp"
#include "cpu/isa.hpp"
#include "cpu/pool.hpp"

namespace agf::cpu {
namespace {

// Columns of one task, and samples of one piece of a sum of columns: the piece stays in the first cache.
constexpr std::size_t block = 128, piece = 512;
// Columns whose products with one another are one task of a Gram matrix: they stay in the second cache while all others
// pass by.
constexpr std::size_t gram_block = 32;
// Samples at once: eight columns of them stay in the first cache.
constexpr std::size_t gram_piece = 512;

// Work that passes by once and waits for memory: its operations take some four times as long as those of products that
// stay in cache, by which the pool judges what is worth sharing.
double passing(std::size_t columns, std::size_t n) {
  return 8.0 * static_cast<double>(columns) * static_cast<double>(n);
}

// Calls body(first, last) on blocks of `count` columns.
template <typename Body>
void by_blocks(std::size_t count, std::size_t n, const Body& body) {
  const std::size_t blocks = (count + block - 1) / block;
  pool::for_each(blocks, passing(count, n), [&](std::size_t b) {
    look_for_interruption();
    body(b * block, std::min(count, (b + 1) * block));
  });
}

// With the memory of its columns.
class Gram final : public DesignCpu<double> {
 public:
  Gram(std::vector<double>&& columns, std::size_t rows, std::size_t count)
      : DesignCpu<double>(columns.data(), rows, count), held_(std::move(columns)) {}

 private:
  std::vector<double> held_;  // moved into: its memory is where it was
};

}  // namespace

template <typename T>
void DesignCpu<T>::column(std::size_t j, double* out) const {
  const T* x = x_ + j * n_;
  for (std::size_t i = 0; i < n_; ++i) out[i] = static_cast<double>(x[i]);
}

template <typename T>
void DesignCpu<T>::correlate(const double* r, double* out) const {
  by_blocks(d_, n_, [&](std::size_t first, std::size_t last) {
    const T* x[block];
    for (std::size_t j = first; j < last; ++j) x[j - first] = x_ + j * n_;
    column_sums<T>().dots(n_, last - first, x, r, out + first);
  });
}

template <typename T>
void DesignCpu<T>::correlate(const std::vector<std::size_t>& which, const double* r, double* out) const {
  by_blocks(which.size(), n_, [&](std::size_t first, std::size_t last) {
    const T* x[block];
    for (std::size_t k = first; k < last; ++k) x[k - first] = x_ + which[k] * n_;
    column_sums<T>().dots(n_, last - first, x, r, out + first);
  });
}

// Calls body(first sample, count, columns, pointers to them from that sample on, their factors) on pieces of samples
// and blocks of columns.
template <typename T>
template <typename Body>
void DesignCpu<T>::by_pieces(const std::vector<std::size_t>& which, const double* b, const Body& body) const {
  const std::size_t pieces = (n_ + piece - 1) / piece;
  pool::for_each(pieces, passing(which.size(), n_), [&](std::size_t p) {
    look_for_interruption();
    const std::size_t first = p * piece, count = std::min(n_ - first, piece);
    for (std::size_t k = 0; k < which.size(); k += block) {
      const T* x[block];
      const std::size_t columns = std::min(which.size() - k, block);
      for (std::size_t m = 0; m < columns; ++m) x[m] = x_ + which[k + m] * n_ + first;
      body(first, count, columns, x, b + k);
    }
  });
}

template <typename T>
void DesignCpu<T>::combine(const std::vector<std::size_t>& which, const double* b, double* out) const {
  by_pieces(which, b,
            [&](std::size_t first, std::size_t count, std::size_t columns, const T* const* x, const double* factors) {
              column_sums<T>().adds(count, columns, x, factors, out + first);
            });
}

template <typename T>
void DesignCpu<T>::combine(const std::vector<std::size_t>& which, const double* b, double* high, double* low) const {
  by_pieces(which, b,
            [&](std::size_t first, std::size_t count, std::size_t columns, const T* const* x, const double* factors) {
              column_sums<T>().extended(count, columns, x, factors, high + first, low + first);
            });
}

template <typename T>
void DesignCpu<T>::outer(const std::vector<std::size_t>& which, const double* b, double* out) const {
  std::vector<double> x(n_);
  for (std::size_t k = 0; k < which.size(); ++k) {
    column(which[k], x.data());
    for (std::size_t i = 0; i < n_; ++i) {
      const double part = b[k] * x[i];
      for (std::size_t j = 0; j <= i; ++j) out[i * n_ + j] += part * x[j];
    }
  }
}

template <typename T>
void DesignCpu<T>::lengths(double* out) const {
  by_blocks(d_, n_, [&](std::size_t first, std::size_t last) {
    for (std::size_t j = first; j < last; ++j) {
      const T* x = x_ + j * n_;
      double sum = 0;
      for (std::size_t i = 0; i < n_; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
      out[j] = std::sqrt(sum);
    }
  });
}

template <typename T>
std::unique_ptr<Design> DesignCpu<T>::gram() const {
  const std::size_t rows = (d_ + 7) / 8 * 8;
  std::vector<double> g(d_ * rows, 0.0);
  const std::size_t blocks = (d_ + gram_block - 1) / gram_block;
  const double flops = static_cast<double>(d_) * static_cast<double>(d_) * static_cast<double>(n_);
  pool::for_each(blocks, flops, [&](std::size_t b) {
    const std::size_t first = b * gram_block, last = std::min(d_, first + gram_block);
    for (std::size_t from = 0; from < n_; from += gram_piece) {
      look_for_interruption();
      const std::size_t samples = std::min(n_ - from, gram_piece);
      for (std::size_t j = 0; j < last; j += 4) {
        const T *left[4], *right[4];
        double out[16];
        // Beyond the last column it is the last again.
        for (std::size_t k = 0; k < 4; ++k) right[k] = x_ + std::min(j + k, d_ - 1) * n_ + from;
        for (std::size_t i = std::max(first, j); i < last; i += 4) {
          for (std::size_t k = 0; k < 4; ++k) left[k] = x_ + std::min(i + k, d_ - 1) * n_ + from;
          column_sums<T>().products(samples, left, right, out);
          for (std::size_t k = 0; k < 4 && i + k < last; ++k)
            for (std::size_t m = 0; m < 4 && j + m < last; ++m) g[(i + k) * rows + j + m] += out[4 * k + m];
        }
      }
    }
    for (std::size_t i = first; i < last; ++i)
      for (std::size_t j = 0; j < i; ++j) g[j * rows + i] = g[i * rows + j];
  });
  return std::make_unique<Gram>(std::move(g), rows, d_);
}

template <typename T>
const ColumnLoops& DesignCpu<T>::loops() const {
  return isa().columns;
}

template class DesignCpu<float>;
template class DesignCpu<double>;

}  // namespace agf::cpu
