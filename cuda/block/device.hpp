// device.hpp for a run that a block carries: its memory is the device's, and one thing follows another.
#pragma once

#include <cstddef>

#include "agf/containers.hpp"
#include "block/crew.cuh"

namespace AGF_SPACE::cuda {

struct Stream {};

class OnDevice {
 public:
  AGF_CORE explicit OnDevice(int) {}
};

AGF_CORE inline void* allocate(std::size_t bytes, Stream) { return take_memory(bytes); }
AGF_CORE inline void release(void* at, std::size_t bytes, Stream) {
  if (at) give_memory(at, bytes);
}
AGF_CORE inline void wait(Stream) {}

template <typename T>
AGF_CORE void copy(T* to, const T* from, std::size_t bytes, Stream) {
  each(bytes / sizeof(T), [=](std::size_t i) { to[i] = from[i]; });
}
template <typename T>
AGF_CORE void clear(T* to, std::size_t bytes, Stream) {
  each(bytes / sizeof(T), [=](std::size_t i) { to[i] = T(0); });
}

}  // namespace AGF_SPACE::cuda
