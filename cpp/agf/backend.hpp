// What the numerical core asks of the machine it runs on: tasks, dense linear algebra, interruption.
#pragma once

#include <cstddef>

#include "containers.hpp"

namespace AGF_SPACE {

// A function of a number, for the length of a call: refers to what it was made from.
class Task {
 public:
  template <typename F>
  AGF_CORE Task(const F& f) : f_(&f), call_(&call<F>) {}
  AGF_CORE void operator()(std::size_t i) const { call_(f_, i); }

 private:
  template <typename F>
  AGF_CORE static void call(const void* f, std::size_t i) {
    (*static_cast<const F*>(f))(i);
  }

  const void* f_;
  void (*call_)(const void*, std::size_t);
};

class Backend {
 public:
  AGF_CORE virtual ~Backend() = default;

  // Runs task(0) ... task(count - 1), each exactly once, in any order, on any thread; returns when all are done.
  // Tasks write to places of their own, so results do not depend on the number of threads. An exception thrown
  // by a task is rethrown here, and tasks not yet begun are left out. A call from inside a task runs serially.
  AGF_CORE virtual void parallel(std::size_t count, const Task& task) = 0;

  // Matrices are n x n, row-major and symmetric; the lower triangle is read.
  // Overwrites the lower triangle with L, A = L L^T; false, with A in an undefined state, unless A is positive
  // definite.
  AGF_CORE virtual bool cholesky(std::size_t n, double* matrix) = 0;
  // Solves L L^T x = b in place for `count` right-hand sides, each n long and contiguous.
  AGF_CORE virtual void cholesky_solve(std::size_t n, const double* factor, double* rhs, std::size_t count) = 0;
  // General LU with partial pivoting (row-major n x n, overwritten); false if exactly singular.
  AGF_CORE virtual bool lu(std::size_t n, double* matrix, int* pivots) = 0;
  AGF_CORE virtual void lu_solve(std::size_t n, const double* factor, const int* pivots, double* rhs,
                                 std::size_t count) = 0;
  // Ascending eigenvalues; row k of `matrix` becomes the k-th orthonormal eigenvector.
  AGF_CORE virtual void eigen(std::size_t n, double* matrix, double* values) = 0;
};

}  // namespace AGF_SPACE
