#include "cpu/backend.hpp"

#include "cpu/blas.hpp"
#include "cpu/pool.hpp"

namespace agf::cpu {
namespace {

class CpuBackend final : public agf::Backend {
 public:
  void parallel(std::size_t count, const agf::Task& task) override { pool::parallel(count, task); }
  bool cholesky(std::size_t n, double* matrix) override { return blas::cholesky(static_cast<int>(n), matrix); }
  void cholesky_solve(std::size_t n, const double* factor, double* rhs, std::size_t count) override {
    blas::cholesky_solve(static_cast<int>(n), factor, rhs, static_cast<int>(count));
  }
  bool lu(std::size_t n, double* matrix, int* pivots) override { return blas::lu(static_cast<int>(n), matrix, pivots); }
  void lu_solve(std::size_t n, const double* factor, const int* pivots, double* rhs, std::size_t count) override {
    blas::lu_solve(static_cast<int>(n), factor, pivots, rhs, static_cast<int>(count));
  }
  void eigen(std::size_t n, double* matrix, double* values) override {
    blas::eigen(static_cast<int>(n), matrix, values);
  }
};

}  // namespace

agf::Backend& backend() {
  static CpuBackend instance;
  return instance;
}

}  // namespace agf::cpu
