// Arrays of a caller in the double that models compute in.
#pragma once

#include <cstddef>
#include <type_traits>

#include "each.cuh"
#include "room.hpp"

namespace AGF_SPACE::cuda {

template <typename From, typename To>
void convert(Stream stream, const From* from, std::size_t count, To* to) {
  each(stream, count, AGF_LAMBDA(std::size_t e) { to[e] = static_cast<To>(from[e]); });
}

// An array of T in double; itself where it is of doubles.
template <typename T>
const double* widened(Room& room, const T* from, std::size_t count) {
  if constexpr (std::is_same_v<T, double>) {
    return from;
  } else {
    double* const to = room.take<double>(count);
    convert(room.stream(), from, count, to);
    return to;
  }
}

// Doubles that become an array of T by `narrow`; the array itself where it is of doubles. Null stays null.
template <typename T>
double* wide_room(Room& room, T* to, std::size_t count) {
  if constexpr (std::is_same_v<T, double>) {
    return to;
  } else {
    return to ? room.take<double>(count) : nullptr;
  }
}
template <typename T>
void narrow(Stream stream, const double* from, std::size_t count, T* to) {
  if constexpr (!std::is_same_v<T, double>) {
    if (to) convert(stream, from, count, to);
  }
}

}  // namespace AGF_SPACE::cuda
