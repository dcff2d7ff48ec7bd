#include "product.hpp"

#include "product.cuh"

namespace AGF_SPACE::cuda {

// C = alpha op(A) op(B) + beta C
template <typename T>
struct Stored {
  struct Column {
    T alpha, beta;
    T* c;
    size_t stride;
    static constexpr unsigned ahead = 8;
    AGF_DEVICE T before(size_t i) const { return beta == T(0) ? T(0) : c[i * stride]; }
    AGF_DEVICE void put(size_t i, T sum, T seen) const {
      c[i * stride] = beta == T(0) ? alpha * sum : alpha * sum + beta * seen;
    }
    AGF_DEVICE void operator()(size_t i, T sum) const { put(i, sum, before(i)); }
  };

  T alpha, beta;
  Matrix<T> c;
  AGF_DEVICE Column of(size_t member, size_t j) const { return {alpha, beta, c.at + member * c.step + j, c.stride}; }
};

template <typename T>
AGF_CORE AGF_APART void product(Stream stream, Op a_op, Op b_op, std::size_t m, std::size_t n, std::size_t k,
                                double alpha, Matrix<const T> a, Matrix<const T> b, double beta, Matrix<T> c,
                                std::size_t batch) {
  product_then<T>(stream, a_op, b_op, m, n, k, a, b, Stored<T>{static_cast<T>(alpha), static_cast<T>(beta), c}, batch);
}

#if !defined(AGF_BLOCK)
template void product<float>(Stream, Op, Op, std::size_t, std::size_t, std::size_t, double, Matrix<const float>,
                             Matrix<const float>, double, Matrix<float>, std::size_t);
template void product<double>(Stream, Op, Op, std::size_t, std::size_t, std::size_t, double, Matrix<const double>,
                              Matrix<const double>, double, Matrix<double>, std::size_t);
#endif

}  // namespace AGF_SPACE::cuda
