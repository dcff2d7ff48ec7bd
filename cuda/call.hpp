// How numbers come to a leaf of a problem, and go back, in either flavour:
//
//   Call<T> call(device_);
//   const T* const at = call.bring(theta, count * m_);
//   T* const out = call.place(gradient, count * m_);
//   slopes(call.stream(), at, count, values(r), out);
//   call.give();
//
// The host's engines hold doubles of the host: `bring` uploads them as T, `place` is room on the device, and `give`
// brings what was placed, or changed, to where it belongs. In a block everything is the run's own memory, and nothing
// moves. Null stays null.
#pragma once

#include <cstddef>
#include <type_traits>
#include <vector>

#include "room.hpp"

namespace AGF_SPACE::cuda {

#if defined(AGF_BLOCK)

// What is brought and what is placed are shared by the threads, and so may not lie on the stack of the one that steers.
template <typename T>
class Call {
 public:
  AGF_CORE explicit Call(int) : room_(Stream{}) {}

  AGF_CORE Stream stream() const { return {}; }
  template <typename U = T>
  AGF_CORE U* take(std::size_t count) {
    return room_.template take<U>(count);
  }
  template <typename U>
  AGF_CORE const U* bring(const U* from, std::size_t) {
    return from;
  }
  AGF_CORE T* place(T* to, std::size_t) { return to; }
  AGF_CORE T* change(T* at, std::size_t) { return at; }
  AGF_CORE void give() {}

 private:
  Room room_;
};

#else

template <typename T>
class Call {
 public:
  explicit Call(int device) : on_(device), room_(Stream{}) {}

  Stream stream() const { return room_.stream(); }
  // Room for the length of the call.
  template <typename U = T>
  U* take(std::size_t count) {
    return room_.template take<U>(count);
  }
  const T* bring(const double* from, std::size_t count) {
    if (!from) return nullptr;
    if constexpr (std::is_same_v<T, double>) {
      return room_.take(from, count);
    } else {
      cast_.assign(from, from + count);
      return room_.take(cast_.data(), count);
    }
  }
  const std::size_t* bring(const std::size_t* from, std::size_t count) { return room_.take(from, count); }
  T* place(double* to, std::size_t count) {
    if (!to) return nullptr;
    placed_.push_back({take(count), count, to});
    return placed_.back().at;
  }
  // What is there already comes along.
  T* change(double* at, std::size_t count)
    requires std::is_same_v<T, double>
  {
    T* const to = place(at, count);
    upload(to, at, count * sizeof(T), stream());
    return to;
  }
  // Waits for all work of the call.
  void give() {
    for (const Placed& out : placed_) {
      if constexpr (std::is_same_v<T, double>) {
        download(out.to, out.at, out.count * sizeof(T), stream());
      } else {
        cast_.resize(out.count);
        download(cast_.data(), out.at, out.count * sizeof(T), stream());
        for (std::size_t i = 0; i < out.count; ++i) out.to[i] = static_cast<double>(cast_[i]);
      }
    }
    if (placed_.empty()) wait(stream());
  }

 private:
  struct Placed {
    T* at;
    std::size_t count;
    double* to;
  };

  OnDevice on_;
  Room room_;
  std::vector<T> cast_;
  std::vector<Placed> placed_;
};

#endif

}  // namespace AGF_SPACE::cuda
