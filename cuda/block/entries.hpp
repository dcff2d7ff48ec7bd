// Entries of matrices, shared by the threads of a block: see agf/entries.hpp.
#pragma once

#include <cstddef>

#include "block/crew.cuh"

namespace AGF_SPACE::cuda {

// One entry (k, i, j) a thread, in their order, without a division for each.
template <typename F>
struct SharedEntries {
  static constexpr bool apart = true;
  unsigned count, rows, columns;
  F f;
  AGF_DEVICE void operator()(const Team& team) const {
    const unsigned down = crew_width / columns, along = crew_width % columns;
    unsigned i = team.thread() / columns, j = team.thread() % columns, k = i / rows;
    i -= k * rows;
    while (k < count) {
      f(k, i, j);
      i += down;
      j += along;
      if (j >= columns) {
        j -= columns;
        ++i;
      }
      if (i >= rows) {
        k += i / rows;
        i %= rows;
      }
    }
  }
};

// Each thread looks through a stretch of its own, twice: for how many there are, and, knowing how many are before its
// own, to write them down.
template <typename F>
struct Where {
  std::size_t n;
  F f;
  std::size_t* found;  // the last one: how many
  AGF_DEVICE void operator()(const Team& team) const {
    unsigned* const many = team.shared<unsigned>();
    const std::size_t stretch = (n + crew_width - 1) / crew_width, first = team.thread() * stretch;
    const std::size_t last = first + stretch < n ? first + stretch : n;
    unsigned mine = 0;
    for (std::size_t i = first; i < last; ++i) mine += f(i) ? 1u : 0u;
    many[team.thread()] = mine;
    team.barrier();
    unsigned at = 0;
    for (unsigned t = 0; t < team.thread(); ++t) at += many[t];
    if (team.thread() + 1 == crew_width) found[n] = at + mine;
    for (std::size_t i = first; i < last; ++i)
      if (f(i)) found[at++] = i;
  }
};

template <typename F>
struct Plane {
  F f;
  AGF_DEVICE void operator()(std::size_t, std::size_t i, std::size_t j) const { f(i, j); }
};

}  // namespace AGF_SPACE::cuda

namespace AGF_SPACE {

template <typename F>
AGF_CORE void each_entry(std::size_t count, std::size_t rows, std::size_t columns, const F& f) {
  if (count * rows * columns >= cuda::worth_sharing) {
    cuda::share(1, cuda::SharedEntries<F>{static_cast<unsigned>(count), static_cast<unsigned>(rows),
                                          static_cast<unsigned>(columns), f});
    return;
  }
  for (std::size_t k = 0; k < count; ++k)
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = 0; j < columns; ++j) f(k, i, j);
}

template <typename F>
AGF_CORE void each_entry(std::size_t rows, std::size_t columns, const F& f) {
  each_entry(1, rows, columns, cuda::Plane<F>{f});
}

}  // namespace AGF_SPACE
