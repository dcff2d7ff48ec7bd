// Symmetric positive definite systems of equations of one size, each by itself, with a Cholesky factor of its own.
#pragma once

#include <cstddef>

#include "backend.hpp"
#include "containers.hpp"
#include "entries.hpp"

namespace AGF_SPACE {

// Each has a place. Calls are for `count` of them, in the places that are listed; null: in the first ones, in order.
class Systems {
 public:
  AGF_CORE explicit Systems(Backend& backend) : backend_(backend) {}

  AGF_CORE void resize(std::size_t systems, std::size_t n) {
    systems_ = systems;
    n_ = n;
    factors_.resize(systems * n * n);
  }

  // matrix(k, time)(i, j), j <= i: an entry of the k-th matrix. Each is made and factored several times, and the last
  // factor stays; failed[place] says where one of them was not positive definite.
  template <typename Matrix>
  AGF_CORE void factor(std::size_t count, const int* places, int times, const Matrix& matrix, char* failed) {
    double* const factors = factors_.data();
    const std::size_t n = n_;
#if defined(AGF_BLOCK)
    if (cuda::one_a_thread(systems_, n))
      return cuda::share(1, cuda::FactorAlone<Matrix>{systems_, n, count, factors, places, times, matrix, failed});
#endif
    const auto one = [&](std::size_t k) {
      const std::size_t place = place_of(k, places);
      double* const own = factors + place * n * n;
      failed[place] = 0;
      for (int time = 0; time < times && !failed[place]; ++time) {
        const auto entry = matrix(k, time);
        each_below(n, [=](std::size_t i, std::size_t j) { own[i * n + j] = entry(i, j); });
        failed[place] = backend_.cholesky(n, own) ? 0 : 1;
      }
    };
    constexpr std::size_t worth_a_task = 48;
    if (count > 1 && n >= worth_a_task) {
      backend_.parallel(count, one);
    } else {
      for (std::size_t k = 0; k < count; ++k) one(k);
    }
  }

  // A x = b in place for one right-hand side each, rows of so many numbers, of which the first n are b; not for those
  // that failed. before(k) and after(k) go before and after the k-th, whether or not it failed.
  template <typename Before, typename After>
  AGF_CORE void solve(std::size_t count, const int* places, const char* failed, double* rows, std::size_t stride,
                      const Before& before, const After& after) {
    double* const factors = factors_.data();
    const std::size_t n = n_;
#if defined(AGF_BLOCK)
    if (cuda::one_a_thread(systems_, n))
      return cuda::share(
          1, cuda::SolveAlone<Before, After>{systems_, n, count, factors, places, failed, rows, stride, before, after});
#endif
    each_task(count, before);
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t place = place_of(k, places);
      if (!failed[place]) backend_.cholesky_solve(n, factors + place * n * n, rows + k * stride, 1);
    }
    each_task(count, after);
  }

 private:
  AGF_CORE static std::size_t place_of(std::size_t k, const int* places) {
    return places ? static_cast<std::size_t>(places[k]) : k;
  }

  Backend& backend_;
  std::size_t systems_ = 0, n_ = 0;
  Array<double> factors_;
};

}  // namespace AGF_SPACE
