// What the engines ask of a block beside its problems: see agf/backend.hpp.
#pragma once

#include <cstddef>

#include "agf/backend.hpp"
#include "algebra.cuh"
#include "block/containers.hpp"

namespace AGF_SPACE::cuda {

static_assert(algebra::shared_bytes <= most_shared);

class BlockBackend final : public Backend {
 public:
  AGF_CORE BlockBackend() : ok_(1, 0) {}

  // One after the other: each shares its own work with all threads.
  AGF_CORE void parallel(std::size_t count, const Task& task) override {
    for (std::size_t i = 0; i < count; ++i) task(i);
  }

  AGF_CORE bool cholesky(std::size_t n, double* matrix) override {
    share(1, algebra::Cholesky<crew_width>{n, matrix, ok_.data()});
    return ok_[0] != 0;
  }
  AGF_CORE void cholesky_solve(std::size_t n, const double* factor, double* rhs, std::size_t count) override {
    share(1, algebra::CholeskySolve<crew_width>{n, factor, rhs, count});
  }
  AGF_CORE bool lu(std::size_t n, double* matrix, int* pivots) override {
    share(1, algebra::Lu<crew_width>{n, matrix, pivots, ok_.data()});
    return ok_[0] != 0;
  }
  AGF_CORE void lu_solve(std::size_t n, const double* factor, const int* pivots, double* rhs,
                         std::size_t count) override {
    share(1, algebra::LuSolve<crew_width>{n, factor, pivots, rhs, count});
  }
  AGF_CORE void eigen(std::size_t n, double* matrix, double* values) override {
    work_.resize(n * n);
    share(1, algebra::Eigen<crew_width>{n, matrix, values, work_.data()});
  }

 private:
  Array<int> ok_;
  Array<double> work_;
};

}  // namespace AGF_SPACE::cuda
