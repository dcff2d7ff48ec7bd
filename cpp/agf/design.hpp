// The inputs of a linear model f(x) = sum_j beta_j x_j on n samples, by columns.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "column_loops.hpp"

namespace agf {

class Design {
 public:
  virtual ~Design() = default;

  virtual std::size_t rows() const = 0;     // n
  virtual std::size_t columns() const = 0;  // d

  // out = x_j, n long.
  virtual void column(std::size_t j, double* out) const = 0;
  // out_j = x_j . r for every column. Equal columns give equal bits, opposite columns opposite ones.
  virtual void correlate(const double* r, double* out) const = 0;
  // out_k = x_{which[k]} . r, the same bits as from all columns.
  virtual void correlate(const std::vector<std::size_t>& which, const double* r, double* out) const = 0;
  // out += sum_k b_k x_{which[k]}.
  virtual void combine(const std::vector<std::size_t>& which, const double* b, double* out) const = 0;
  // The same in twice the precision: out = high + low.
  virtual void combine(const std::vector<std::size_t>& which, const double* b, double* high, double* low) const = 0;
  // out += sum_k b_k x x^T of x = x_{which[k]}, (n, n): the lower triangle, what is above it may be anything.
  virtual void outer(const std::vector<std::size_t>& which, const double* b, double* out) const = 0;
  // out_j = |x_j|.
  virtual void lengths(double* out) const = 0;

  // The design whose column j is x_j' . x_j over j', filled up with zeros to a multiple of 8 rows. Equal columns give
  // equal entries, bit for bit, and it is symmetric.
  virtual std::unique_ptr<Design> gram() const = 0;
  // For work on vectors beside the columns.
  virtual const ColumnLoops& loops() const = 0;
};

}  // namespace agf
