// Products too small for tiles, in a block: made entry by entry, several of them in one pass with what uses them, where
// to hand each of them over takes longer than the work itself.
#pragma once

#include <cstddef>

#include "block/containers.hpp"

namespace AGF_SPACE::cuda {

// Whether a product (m, n) of inner length k is better made so. Tiles are made whole, whatever is in them; entries by
// themselves read two numbers for each multiplication, which is about five times slower.
AGF_CORE inline bool few(std::size_t m, std::size_t n, std::size_t k) {
  constexpr std::size_t wide = 32, deep = 16, slower = 5;
  const std::size_t tiles = ((m + wide - 1) / wide) * ((n + wide - 1) / wide) * ((k + deep - 1) / deep);
  return slower * m * n * k <= tiles * wide * wide * deep;
}

// Sums that are fewer than the threads: each is cut in pieces, a thread each.
template <typename F, typename Store>
struct LongSums {
  std::size_t count, n, pieces;
  F f;
  Store store;

  AGF_DEVICE double piece(std::size_t i, std::size_t first, std::size_t last) const {
    double sum = 0;
    for (std::size_t k = first; k < last; ++k) sum += f(i, k);
    return sum;
  }
  AGF_DEVICE void operator()(const Team& team) const {
    const std::size_t thread = team.thread();
    if (pieces == 1) {
      for (std::size_t i = thread; i < count; i += crew_width) store(i, piece(i, 0, n));
      return;
    }
    double* const part = team.shared<double>();
    const std::size_t i = thread % count, at = thread / count, length = (n + pieces - 1) / pieces;
    if (at < pieces) {
      const std::size_t first = at * length, last = first + length < n ? first + length : n;
      part[thread] = piece(i, first, last);
    }
    team.barrier();
    if (thread >= count) return;
    double sum = 0;
    for (std::size_t k = 0; k < pieces; ++k) sum += part[k * count + thread];
    store(thread, sum);
  }
};

// store(i, sum_k f(i, k)) for i < count, k < n; the order of sums depends on count and n alone.
template <typename F, typename Store>
AGF_CORE void long_sums(std::size_t count, std::size_t n, const F& f, const Store& store) {
  if (count == 0) return;
  // Pieces of a few numbers are not worth their barrier.
  constexpr std::size_t least = 8;
  const std::size_t fit = crew_width / count, worth = n / least;
  const std::size_t pieces = fit < worth ? fit : worth;
  share(1, LongSums<F, Store>{count, n, pieces < 1 ? 1 : pieces, f, store});
}

}  // namespace AGF_SPACE::cuda
