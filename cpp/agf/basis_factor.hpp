// The triangle R of X_B = Q R for a set B of columns that changes, with or without Q.
//
// Each column of B has a slot. Without Q the triangle is that of the normal equations, R^T R = X_B^T X_B, and a column
// comes in by one triangular solve: its rounding is eps cond(X_B)^2, which whoever solves with it must correct from the
// columns themselves. With Q, a column comes in by orthogonalisation, twice, at eps cond(X_B). Either way one goes out
// by rotations along its row, O(k^2) (and O(n k) on Q); its slot stays as a hole until `compact`, so that nothing
// is moved. A factor lies in an array, as do the vectors that it is given.
#pragma once

#include <cstddef>

#include "column_loops.hpp"
#include "containers.hpp"

namespace AGF_SPACE {

class BasisFactor {
 public:
  AGF_CORE explicit BasisFactor(const ColumnLoops& loops) : loops_(loops) {}

  AGF_CORE std::size_t slots() const { return live_.size(); }  // holes included
  AGF_CORE bool live(std::size_t s) const { return live_[s]; }
  AGF_CORE std::size_t padded() const { return (slots() + 7) / 8 * 8; }

  // Renumbers slots once holes are many. Returns the old slot of each new one; empty: nothing changed.
  AGF_CORE Array<std::size_t> compact();

  // R^-T x and R^-1 x, x by slot and `padded()` long.
  AGF_CORE void forward(double* x) const;
  AGF_CORE void backward(double* x) const;

  // A new last slot for a column of which `r` is R^-T X_B^T x by slot, and `left` its length outside X_B.
  AGF_CORE void append(const double* r, double left);
  // Takes slot s out; z, by slot, is rotated along: R^T z is what it was in every other slot.
  AGF_CORE void remove(std::size_t s, double* z);

  AGF_CORE bool orthonormal() const { return rows_ > 0; }
  // From here on with Q, of columns n long: no slots are left.
  AGF_CORE void start_orthonormal(std::size_t n);
  // v <- v - Q Q^T v, twice where once is not enough; r gets Q^T v by slot. Returns |v|, `length` before.
  AGF_CORE double orthogonalize(double* v, double length, double* r) const;
  // The same as above, and v / left is the new column of Q.
  AGF_CORE void append(const double* r, double left, const double* v);
  // z = Q^T v; v <- v - factor Q z.
  AGF_CORE void project(const double* v, double* z) const;
  AGF_CORE void subtract(double factor, const double* z, double* v) const;
  AGF_CORE const double* q(std::size_t s) const { return &q_[s * rows_]; }

 private:
  const ColumnLoops& loops_;
  std::size_t ld_ = 0;
  Array<double> r_;  // rows ld_ apart
  Array<double> inverse_;
  Array<unsigned char> live_;
  std::size_t holes_ = 0;
  std::size_t rows_ = 0;  // of Q; 0: there is none
  Array<double> q_;       // columns by slot
  Array<double> lane_;

  AGF_CORE void reserve(std::size_t slots);
};

}  // namespace AGF_SPACE
