// One neuron of a diagonal network: beta = prod_l u_l, U = beta g, with g = E[x r] of its input x. Numbers in double.
#pragma once

#include <stddef.h>

#include "agf/config.hpp"

namespace agf::AGF_LEAF {

// prod_{k but l, m} u_k; l = m leaves one out, l = m = depth none.
template <typename T>
AGF_HD double product_without(const T* u, size_t depth, size_t l, size_t m) {
  double product = 1;
#if defined(__CUDA_ARCH__)
#pragma unroll 1  // depths are small, and four turns at once take registers that loops around this one need
#endif
  for (size_t k = 0; k < depth; ++k)
    if (k != l && k != m) product *= static_cast<double>(u[k]);
  return product;
}

// beta
template <typename T>
AGF_HD double coefficient(const T* u, size_t depth) {
  return product_without(u, depth, depth, depth);
}

// dbeta/du_l
template <typename T>
AGF_HD double coefficient_slope(const T* u, size_t depth, size_t l) {
  return product_without(u, depth, l, l);
}

// The change of beta along v.
template <typename T>
AGF_HD double coefficient_change(const T* u, const T* v, size_t depth) {
  double change = 0;
  for (size_t l = 0; l < depth; ++l) change += coefficient_slope(u, depth, l) * static_cast<double>(v[l]);
  return change;
}

// Entry l of hess L v. L's gradient is -g dbeta/du: its derivative along v has the second derivatives of beta, and the
// change of g, which is -`pulled` = -E[x sum_j x_j dbeta_j] over all neurons.
template <typename T>
AGF_HD double hessian_vector_entry(const T* u, const T* v, size_t depth, size_t l, double g, double pulled) {
  double sum = pulled * coefficient_slope(u, depth, l);
  for (size_t m = 0; m < depth; ++m)
    if (m != l) sum -= g * product_without(u, depth, l, m) * static_cast<double>(v[m]);
  return sum;
}

}  // namespace agf::AGF_LEAF
