// Arrays that start on a cache line: a vector load that straddles two lines costs two.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace agf::cpu {

inline constexpr std::size_t cache_line = 64;

template <typename T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <typename U>
  AlignedAllocator(const AlignedAllocator<U>&) {}
  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(cache_line)));
  }
  void deallocate(T* at, std::size_t) { ::operator delete(at, std::align_val_t(cache_line)); }
  bool operator==(const AlignedAllocator&) const { return true; }
};

template <typename T>
using Aligned = std::vector<T, AlignedAllocator<T>>;

}  // namespace agf::cpu
