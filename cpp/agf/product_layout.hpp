// The sizes of problems that see their parameters through one matrix: the same numbers for a host and for a device.
#pragma once

#include <cstddef>

#include "config.hpp"

namespace agf {

// How a neuron's parameters make p (rows, columns): where l (rows), r (columns) and, if there is one, the factor g lie.
struct ProductLayout {
  std::size_t rows, columns, left, right, gain, params;
  bool gained;

  // theta = [w (inputs) | a (outputs)], p = a w^T.
  AGF_HD static ProductLayout bilinear(std::size_t inputs, std::size_t outputs) {
    return {outputs, inputs, inputs, 0, 0, inputs + outputs, false};
  }
  // theta = [v | q (dimension) | k (dimension)], p = v q k^T.
  AGF_HD static ProductLayout trilinear(std::size_t dimension) {
    return {dimension, dimension, 1, 1 + dimension, 0, 1 + 2 * dimension, true};
  }

  AGF_HD std::size_t size() const { return rows * columns; }
  AGF_HD double gain_of(const double* theta) const { return gained ? theta[gain] : 1.0; }
  // (g l)_a, and its derivative along v.
  AGF_HD double left_of(const double* theta, std::size_t a) const { return gain_of(theta) * theta[left + a]; }
  AGF_HD double left_change(const double* theta, const double* v, std::size_t a) const {
    return gained ? theta[gain] * v[left + a] + v[gain] * theta[left + a] : v[left + a];
  }
  // Whether parameter u is one of l, or of r.
  AGF_HD bool of_left(std::size_t u) const { return u >= left && u < left + rows; }
  AGF_HD bool of_right(std::size_t u) const { return u >= right && u < right + columns; }
};

// The sizes of a linear map G of such a matrix.
struct DesignSizes {
  std::size_t rows, columns;
  std::size_t outer, inner;  // of the grid; a list has one row of it
  bool listed, whole;        // whole: the left stands for the identity
  double scale;              // a bound of |G[x y^T]| over unit x and y

  AGF_HD std::size_t entries() const { return outer * inner; }  // of G[P]
  // Of G or its adjoint.
  AGF_HD double flops() const {
    const auto high = static_cast<double>(rows), wide = static_cast<double>(columns), near = static_cast<double>(inner);
    if (listed) return 2 * near * high * wide;
    return 2 * high * near * (wide + (whole ? 0 : static_cast<double>(outer)));
  }
  // Of <G[x_e y_e^T], G[x_f y_f^T]> for n pairs.
  AGF_HD double gram_flops(std::size_t n) const {
    const auto count = static_cast<double>(n);
    if (listed) return count * flops() + count * count * static_cast<double>(inner);
    return count * count * static_cast<double>(outer + inner);
  }
};

}  // namespace agf
