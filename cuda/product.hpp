// Products of matrices on a device.
#pragma once

#include <cstddef>

#include "agf/config.hpp"
#include "device.hpp"

namespace AGF_SPACE::cuda {

enum class Op { none, transpose };

// A matrix in row-major order, and the next one of a batch `step` further on.
template <typename T>
struct Matrix {
  T* at;
  std::size_t stride;
  std::size_t step = 0;
};

// C (m, n) = alpha op(A) op(B) + beta C of every matrix of a batch, inner length k. Sums are in T, on tensor cores
// where those have it in full; on one kind of device their order depends on m, n, k and `batch` alone.
template <typename T>
AGF_CORE AGF_APART void product(Stream stream, Op a_op, Op b_op, std::size_t m, std::size_t n, std::size_t k,
                                double alpha, Matrix<const T> a, Matrix<const T> b, double beta, Matrix<T> c,
                                std::size_t batch = 1);

}  // namespace AGF_SPACE::cuda
