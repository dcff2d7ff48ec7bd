// The loops of an active-set path, shared by the threads of a block: see agf/column_loops.hpp.
#pragma once

#include <stddef.h>

#include <cmath>
#include <limits>

#include "agf/column_loops.hpp"
#include "agf/entries.hpp"
#include "block/containers.hpp"

namespace AGF_SPACE::cuda {

// x <- R^-T x. All read a number of x when its turn comes, so it stays undivided until the end.
struct Forward {
  size_t k, ld;
  const double *r, *inverse;
  double* x;
  AGF_DEVICE void operator()(const Team& team) const {
    for (size_t s = 0; s < k; ++s) {
      const double known = x[s] * inverse[s];
      for (size_t t = s + 1 + team.thread(); t < k; t += crew_width) x[t] -= r[s * ld + t] * known;
      team.barrier();
    }
    for (size_t s = team.thread(); s < k; s += crew_width) x[s] *= inverse[s];
  }
};

// x <- R^-1 x
struct Backward {
  size_t k, ld;
  const double *r, *inverse;
  double* x;
  AGF_DEVICE void operator()(const Team& team) const {
    for (size_t s = k; s-- > 0;) {
      const double known = x[s] * inverse[s];
      for (size_t t = team.thread(); t < s; t += crew_width) x[t] -= r[t * ld + s] * known;
      team.barrier();
    }
    for (size_t s = team.thread(); s < k; s += crew_width) x[s] *= inverse[s];
  }
};

}  // namespace AGF_SPACE::cuda

namespace AGF_SPACE {

AGF_CORE inline void ColumnLoops::forward(size_t k, size_t ld, const double* r, const double* inverse,
                                          double* x) const {
  if (k > 0) cuda::share(1, cuda::Forward{k, ld, r, inverse, x});
}

AGF_CORE inline void ColumnLoops::backward(size_t k, size_t ld, const double* r, const double* inverse,
                                           double* x) const {
  if (k > 0) cuda::share(1, cuda::Backward{k, ld, r, inverse, x});
}

AGF_CORE AGF_APART inline void ColumnLoops::rotate(size_t n, double c, double s, double* a, double* b) const {
  each(n, [=](size_t i) {
    const double upper = a[i], lower = b[i];
    a[i] = upper * c + lower * s;
    b[i] = lower * c - upper * s;
  });
}

AGF_CORE AGF_APART inline double ColumnLoops::dot(size_t n, const double* a, const double* b) const {
  return total(n, [=](size_t i) { return a[i] * b[i]; });
}

AGF_CORE AGF_APART inline void ColumnLoops::add(size_t n, double factor, const double* x, double* y) const {
  each(n, [=](size_t i) { y[i] += factor * x[i]; });
}

AGF_CORE inline double ColumnLoops::waits(size_t d, const double* g, const double* at, const double* low,
                                          const double* high, const unsigned char* closed, double least,
                                          double* wait) const {
  constexpr double never = std::numeric_limits<double>::infinity();
  return agf::least(d, [=](size_t i) {
    const double time = ((g[i] > 0 ? high[i] : low[i]) - at[i]) / g[i];
    wait[i] = !closed[i] && std::abs(g[i]) > least ? (time > 0 ? time : 0) : never;
    return wait[i];
  });
}

AGF_CORE inline size_t ColumnLoops::arrivals(size_t d, const double* wait, const double* g, const double* low,
                                             const double* high, double soonest, double tie, size_t* who,
                                             double* second) const {
  constexpr double never = std::numeric_limits<double>::infinity();
  const auto here = [=](size_t i) {
    const double speed = std::abs(g[i]), way = speed * soonest, span = high[i] - low[i];
    const double longer = span > way && span < never ? span : way;
    return wait[i] < never && (wait[i] - soonest) * speed <= longer * tie;
  };
  const Array<size_t> found = where(d, here);
  for (size_t k = 0; k < found.size(); ++k) who[k] = found[k];
  *second = agf::least(d, [=](size_t i) { return here(i) ? never : wait[i]; });
  return found.size();
}

AGF_CORE inline void ColumnLoops::travel(size_t d, double time, const double* g, const unsigned char* closed,
                                         double* at) const {
  each(d, [=](size_t i) { at[i] += closed[i] ? 0 : g[i] * time; });
}

}  // namespace AGF_SPACE
