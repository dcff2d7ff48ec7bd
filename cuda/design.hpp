// Columns of inputs on a device.
#pragma once

#include <cstddef>

#include "agf/containers.hpp"
#include "agf/design.hpp"
#include "block/views.hpp"
#include "room.hpp"

#if !defined(AGF_BLOCK)
#include "block/carrier_of.hpp"
#endif

namespace AGF_SPACE::cuda {

// Columns in T = float or double, products in double. The order of every sum depends on sizes alone, and that of a
// product of columns on their length alone. Const methods may be called from several threads at once.
template <typename T>
class DesignCuda final : public Design {
 public:
#if defined(AGF_BLOCK)
  // On columns of the design that was viewed, which outlives this one.
  AGF_CORE explicit DesignCuda(const shared::DesignView& view) : x_(view.x), n_(view.n), d_(view.d) {}
#else
  // `columns` (d, n) row-major: one column of inputs after the other. On the host they are copied; on the device the
  // memory is the caller's and is not: a design may be most of what the device holds.
  DesignCuda(int device, Stream stream, const T* columns, std::size_t n, std::size_t d, bool on_host);

  // For runs that blocks carry: the columns in double, themselves or a copy of them in the room.
  const double* in_double(Room& room) const;
  const Carrier* carrier() const override { return carrier_of(device_); }
#endif
  // With the memory of its columns.
  AGF_CORE DesignCuda(int device, Held<T>&& columns, std::size_t n, std::size_t d);

  AGF_CORE int device() const { return device_; }

  // Vectors are the host's; in a block the run's.
  AGF_CORE std::size_t rows() const override { return n_; }
  AGF_CORE std::size_t columns() const override { return d_; }
  AGF_CORE void column(std::size_t j, double* out) const override;
  AGF_CORE void correlate(const double* r, double* out) const override;
  AGF_CORE void correlate(const Array<std::size_t>& which, const double* r, double* out) const override;
  AGF_CORE void combine(const Array<std::size_t>& which, const double* b, double* out) const override;
  AGF_CORE void combine(const Array<std::size_t>& which, const double* b, double* high, double* low) const override;
  AGF_CORE void outer(const Array<std::size_t>& which, const double* b, double* out) const override;
  AGF_CORE void lengths(double* out) const override;
  AGF_CORE Owned<Design> gram() const override;
  AGF_CORE const ColumnLoops& loops() const override;

  // The same on arrays of the device, queued on the stream.
  struct Columns {
    const std::size_t* which;  // null: the first `count`
    std::size_t count;
  };
  // r null: each column by itself.
  AGF_CORE void correlate(Stream stream, Columns at, const double* r, double* out) const;
  AGF_CORE void combine(Stream stream, Columns at, const double* b, double* out) const;
  AGF_CORE void combine(Stream stream, Columns at, const double* b, double* high, double* low) const;

 private:
  Held<T> held_;
  int device_ = 0;
  const T* x_;
  std::size_t n_, d_;
#if defined(AGF_BLOCK)
  ColumnLoops loops_;
#endif
};

#if !defined(AGF_BLOCK)
extern template class DesignCuda<float>;
extern template class DesignCuda<double>;
#endif

}  // namespace AGF_SPACE::cuda
