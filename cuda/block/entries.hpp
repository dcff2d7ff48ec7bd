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

template <typename F>
struct Plane {
  F f;
  AGF_DEVICE void operator()(std::size_t, std::size_t i, std::size_t j) const { f(i, j); }
};

}  // namespace AGF_SPACE::cuda
