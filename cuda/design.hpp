// Columns of inputs on a device.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "agf/design.hpp"
#include "room.hpp"

namespace agf::cuda {

// Columns in T = float or double, products in double. The order of every sum depends on sizes alone, and that of a
// product of columns on their length alone. Const methods may be called from several threads at once.
template <typename T>
class DesignCuda final : public Design {
 public:
  // `columns` (d, n) row-major: one column of inputs after the other. On the host they are copied; on the device the
  // memory is the caller's and is not: a design may be most of what the device holds.
  DesignCuda(int device, Stream stream, const T* columns, std::size_t n, std::size_t d, bool on_host);
  // With the memory of its columns.
  DesignCuda(int device, Held<T>&& columns, std::size_t n, std::size_t d);

  int device() const { return device_; }

  // Vectors are the host's.
  std::size_t rows() const override { return n_; }
  std::size_t columns() const override { return d_; }
  void column(std::size_t j, double* out) const override;
  void correlate(const double* r, double* out) const override;
  void correlate(const std::vector<std::size_t>& which, const double* r, double* out) const override;
  void combine(const std::vector<std::size_t>& which, const double* b, double* out) const override;
  void combine(const std::vector<std::size_t>& which, const double* b, double* high, double* low) const override;
  void outer(const std::vector<std::size_t>& which, const double* b, double* out) const override;
  void lengths(double* out) const override;
  std::unique_ptr<Design> gram() const override;
  const ColumnLoops& loops() const override;

  // The same on arrays of the device, queued on the stream.
  struct Columns {
    const std::size_t* which;  // null: the first `count`
    std::size_t count;
  };
  // r null: each column by itself.
  void correlate(Stream stream, Columns at, const double* r, double* out) const;
  void combine(Stream stream, Columns at, const double* b, double* out) const;
  void combine(Stream stream, Columns at, const double* b, double* high, double* low) const;

 private:
  Held<T> held_;
  int device_;
  const T* x_;
  std::size_t n_, d_;
};

extern template class DesignCuda<float>;
extern template class DesignCuda<double>;

}  // namespace agf::cuda
