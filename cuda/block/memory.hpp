// The memory of a run that a block carries: one piece, divided by the thread that steers.
#pragma once

#include <cstddef>

#include "agf/config.hpp"

namespace AGF_SPACE::cuda {

// What is given back serves requests of its size again: a run asks for the same sizes over and over. Sizes are rounded
// up to powers of two and to one and a half times those, so that growing arrays share classes.
class Memory {
 public:
  AGF_CORE Memory(unsigned char* at, std::size_t bytes) : next_(at), end_(at + bytes) {
    for (auto& first : free_) first = nullptr;
  }

  // Null where there is no room left. Aligned for everything.
  AGF_CORE AGF_APART void* take(std::size_t bytes) {
    const Class of = class_of(bytes);
    Link*& first = free_[of.index];
    if (first) {
      Link* const at = first;
      first = at->next;
      return at;
    }
    if (static_cast<std::size_t>(end_ - next_) < of.bytes) return nullptr;
    unsigned char* const at = next_;
    next_ += of.bytes;
    return at;
  }
  AGF_CORE AGF_APART void give(void* at, std::size_t bytes) {
    Link*& first = free_[class_of(bytes).index];
    auto* const link = static_cast<Link*>(at);
    link->next = first;
    first = link;
  }

 private:
  struct Link {
    Link* next;
  };
  struct Class {
    unsigned index;
    std::size_t bytes;
  };

  static constexpr std::size_t least = 64;
  static constexpr unsigned classes = 2 * 40;

  AGF_CORE static Class class_of(std::size_t bytes) {
    unsigned index = 0;
    std::size_t size = least;
    for (; size < bytes; size *= 2) {
      if (size + size / 2 >= bytes) return {index + 1, size + size / 2};
      index += 2;
    }
    return {index, size};
  }

  unsigned char *next_, *end_;
  Link* free_[classes];
};

}  // namespace AGF_SPACE::cuda
