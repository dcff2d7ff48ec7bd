// Many small systems of equations in a block, one a thread: see agf/systems.hpp.
#pragma once

#include <cstddef>

#include "algebra/alone.cuh"
#include "block/crew.cuh"

namespace AGF_SPACE::cuda {

// Whether so many systems are a thread's each, or the block's together, one after the other. By counts of operations
// and barriers, a thread by itself takes about (n / 14)^2 times as long for one as all of them do, who first have to be
// told and then wait for one another.
AGF_CORE inline bool one_a_thread(std::size_t systems, std::size_t n) {
  constexpr std::size_t most = 48;  // numbers that each thread has in shared memory
  static_assert(most * crew_width * sizeof(double) <= most_shared);
  return n <= most && n * n <= 200 * systems;
}

// A thread's system among so many, of which it is the one in this place.
AGF_DEVICE algebra::alone::Entries system_at(double* factors, std::size_t systems, std::size_t n, std::size_t place) {
  return {factors + place, static_cast<unsigned>(n), systems};
}

template <typename Matrix>
struct FactorAlone {
  static constexpr bool apart = true;
  std::size_t systems, n, count;
  double* factors;
  const int* places;
  int times;
  Matrix matrix;
  char* failed;

  AGF_DEVICE void operator()(const Team& team) const {
    for (std::size_t k = team.thread(); k < count; k += crew_width) {
      const std::size_t place = places ? static_cast<std::size_t>(places[k]) : k;
      const algebra::alone::Entries own = system_at(factors, systems, n, place);
      bool fine = true;
      for (int time = 0; time < times && fine; ++time) {
        const auto entry = matrix(k, time);
        for (unsigned i = 0; i < own.n; ++i)
          for (unsigned j = 0; j <= i; ++j) own(i, j) = entry(i, j);
        fine = algebra::alone::cholesky(own);
      }
      failed[place] = fine ? 0 : 1;
    }
  }
};

template <typename Before, typename After>
struct SolveAlone {
  static constexpr bool apart = true;
  std::size_t systems, n, count;
  double* factors;
  const int* places;
  const char* failed;
  double* rows;
  std::size_t stride;
  Before before;
  After after;

  AGF_DEVICE void operator()(const Team& team) const {
    double* const x = team.shared<double>() + team.thread();
    for (std::size_t k = team.thread(); k < count; k += crew_width) {
      const std::size_t place = places ? static_cast<std::size_t>(places[k]) : k;
      double* const row = rows + k * stride;
      before(k);
      if (!failed[place]) {
        for (std::size_t i = 0; i < n; ++i) x[i * crew_width] = row[i];
        algebra::alone::cholesky_solve(system_at(factors, systems, n, place), x, crew_width);
        for (std::size_t i = 0; i < n; ++i) row[i] = x[i * crew_width];
      }
      after(k);
    }
  }
};

}  // namespace AGF_SPACE::cuda
