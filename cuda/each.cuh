// One thread an element, and sums whose order depends on lengths alone: equal inputs give equal bits.
#pragma once

#include <stddef.h>

#include <algorithm>

#include "room.hpp"
#include "team.cuh"

// A function of indices on the device: captures pointers and numbers by value.
#if defined(__CUDACC__) && !defined(AGF_BLOCK)
#define AGF_LAMBDA [=] __device__
#else
#define AGF_LAMBDA [=]
#endif

namespace AGF_SPACE::cuda {

#if defined(AGF_BLOCK)
inline constexpr unsigned each_width = crew_width;
#elif defined(AGF_NARROW)
inline constexpr unsigned each_width = 8;
#else
inline constexpr unsigned each_width = 256;
#endif

#if defined(AGF_BLOCK)

template <typename F>
AGF_CORE void each(Stream, size_t n, const F& f) {
  agf::each(n, f);
}

#else

template <typename F>
struct Each {
  static constexpr bool apart = true;
  static constexpr int width = each_width;
  size_t n;
  F f;
  AGF_DEVICE void operator()(const Team& team) const {
    const size_t step = static_cast<size_t>(team.blocks()) * team.threads();
    for (size_t i = static_cast<size_t>(team.block()) * team.threads() + team.thread(); i < n; i += step) f(i);
  }
};

// f(0), ..., f(n - 1), each by itself.
template <typename F>
void each(Stream stream, size_t n, const F& f) {
#if defined(__CUDACC__)
  constexpr size_t most_blocks = 1 << 12;
#else
  constexpr size_t most_blocks = 2;  // so that strides are seen
#endif
  const size_t blocks = std::min(most_blocks, (n + each_width - 1) / each_width);
  launch(stream, blocks, each_width, 0, Each<F>{n, f});
}

#endif

template <typename F>
struct Sums {
  static constexpr int width = each_width;
  size_t n;
  F f;
  double* out;
  AGF_DEVICE void operator()(const Team& team) const {
    double* sum = team.shared<double>();
    double mine = 0;
    for (size_t j = team.thread(); j < n; j += each_width) mine += f(static_cast<size_t>(team.block()), j);
    sum[team.thread()] = mine;
    team.barrier();
    for (unsigned half = each_width / 2; half > 0; half /= 2) {
      if (team.thread() < half) sum[team.thread()] += sum[team.thread() + half];
      team.barrier();
    }
    if (team.thread() == 0) out[team.block()] = sum[0];
  }
};

// out_i = sum_j f(i, j) over j < n, in double.
template <typename F>
AGF_CORE void sums(Stream stream, size_t rows, size_t n, const F& f, double* out) {
#if defined(AGF_BLOCK)
  // Short sums are a thread's work each.
  if (n > each_width || rows < each_width) return share(rows, Sums<F>{n, f, out});
  each(
      stream, rows, AGF_LAMBDA(size_t i) {
        double sum = 0;
        for (size_t j = 0; j < n; ++j) sum += f(i, j);
        out[i] = sum;
      });
#else
  launch(stream, rows, each_width, each_width * sizeof(double), Sums<F>{n, f, out});
#endif
}

// sum_j f(j), brought to the host.
#if defined(AGF_BLOCK)

template <typename F>
AGF_CORE double total(Stream, size_t n, const F& f) {
  return agf::total(n, f);
}

#else

template <typename F>
double total(Stream stream, size_t n, const F& f) {
  constexpr size_t most = 1 << 14;
  const size_t part = std::min(most, n), parts = std::max<size_t>(1, (n + most - 1) / most);
  Room room(stream);
  double* const each_part = room.take<double>(parts + 1);
  sums(
      stream, parts, part,
      AGF_LAMBDA(size_t i, size_t j)->double {
        const size_t at = i * part + j;
        return at < n ? f(at) : 0.0;
      },
      each_part);
  if (parts > 1)
    sums(stream, 1, parts, AGF_LAMBDA(size_t, size_t j)->double { return each_part[j]; }, each_part + parts);
  double out = 0;
  download(&out, each_part + (parts > 1 ? parts : 0), sizeof(out), stream);
  return out;
}

#endif

}  // namespace AGF_SPACE::cuda
