// Columns of inputs on the CPU.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "agf/design.hpp"

namespace agf::cpu {

// Columns in T = float or double, products in double. The memory is the caller's and is not copied: a design may be
// most of what the machine holds. Blocks of columns are shared among threads; every number is one dot product in a
// fixed order, so results are bitwise equal for any number of threads.
template <typename T>
class DesignCpu : public Design {
 public:
  // `columns` (d, n) row-major: one column of inputs after the other.
  DesignCpu(const T* columns, std::size_t n, std::size_t d) : x_(columns), n_(n), d_(d) {}

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

 private:
  template <typename Body>
  void by_pieces(const std::vector<std::size_t>& which, const double* b, const Body& body) const;

  const T* x_;
  std::size_t n_, d_;
};

}  // namespace agf::cpu
