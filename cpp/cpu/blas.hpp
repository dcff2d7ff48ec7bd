// Dense products and factorisations, by a private copy of OpenBLAS that runs on the calling thread.
#pragma once

#include <cstddef>
#include <string>

namespace agf::cpu::blas {

// Loads the library; throws std::runtime_error with the reason. Every function below needs it to have returned once.
void load();
// Name, version and core of the library.
std::string description();

enum class Op : int { none = 111, transpose = 112 };

// Row-major C (m, n) = alpha op(A) op(B) + beta C, inner length k.
template <typename T>
void gemm(Op a_op, Op b_op, std::size_t m, std::size_t n, std::size_t k, T alpha, const T* a, std::size_t lda,
          const T* b, std::size_t ldb, T beta, T* c, std::size_t ldc);

// Row-major C (n, n) = alpha A A^T + beta C, A (n, k); the lower triangle alone.
template <typename T>
void syrk(std::size_t n, std::size_t k, T alpha, const T* a, std::size_t lda, T beta, T* c, std::size_t ldc);

// Row-major, see agf::Backend for the meaning of each.
bool cholesky(int n, double* matrix);
void cholesky_solve(int n, const double* factor, double* rhs, int count);
bool lu(int n, double* matrix, int* pivots);
void lu_solve(int n, const double* factor, const int* pivots, double* rhs, int count);
void eigen(int n, double* matrix, double* values);

// An orthonormal basis of the row space of the row-major A (n, d), which is overwritten: fills `basis` (d, rank)
// row-major, d * d long, and returns the rank, by a pivoted QR factorisation at a relative tolerance.
std::size_t row_space(std::size_t n, std::size_t d, double* a, double tolerance, double* basis);

}  // namespace agf::cpu::blas
