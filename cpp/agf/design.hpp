// The inputs of a linear model f(x) = sum_j beta_j x_j on n samples, by columns.
#pragma once

#include <cstddef>

#include "column_loops.hpp"
#include "containers.hpp"

namespace AGF_SPACE {

class Carrier;

// Vectors lie in arrays.
class Design {
 public:
  AGF_CORE virtual ~Design() = default;

  AGF_CORE virtual std::size_t rows() const = 0;     // n
  AGF_CORE virtual std::size_t columns() const = 0;  // d

  // out = x_j, n long.
  AGF_CORE virtual void column(std::size_t j, double* out) const = 0;
  // out_j = x_j . r for every column. Equal columns give equal bits, opposite columns opposite ones.
  AGF_CORE virtual void correlate(const double* r, double* out) const = 0;
  // out_k = x_{which[k]} . r, the same bits as from all columns.
  AGF_CORE virtual void correlate(const Array<std::size_t>& which, const double* r, double* out) const = 0;
  // out += sum_k b_k x_{which[k]}.
  AGF_CORE virtual void combine(const Array<std::size_t>& which, const double* b, double* out) const = 0;
  // The same in twice the precision: out = high + low.
  AGF_CORE virtual void combine(const Array<std::size_t>& which, const double* b, double* high, double* low) const = 0;
  // out += sum_k b_k x x^T of x = x_{which[k]}, (n, n): the lower triangle, what is above it may be anything.
  AGF_CORE virtual void outer(const Array<std::size_t>& which, const double* b, double* out) const = 0;
  // out_j = |x_j|.
  AGF_CORE virtual void lengths(double* out) const = 0;

  // The design whose column j is x_j' . x_j over j', filled up with zeros to a multiple of 8 rows. Equal columns give
  // equal entries, bit for bit, and it is symmetric.
  AGF_CORE virtual Owned<Design> gram() const = 0;
  // For work on vectors beside the columns.
  AGF_CORE virtual const ColumnLoops& loops() const = 0;

#if !defined(AGF_BLOCK)
  // As a problem's.
  virtual const Carrier* carrier() const { return nullptr; }
#endif
};

}  // namespace AGF_SPACE
