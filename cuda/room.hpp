// Device memory with an owner.
#pragma once

#include <cstddef>
#include <utility>

#include "agf/containers.hpp"
#include "device.hpp"

namespace AGF_SPACE::cuda {

// Memory for the length of a scope, given back in the order of the stream: the next call may have it before this one's
// work is done, and takes its turn after it.
class Room {
 public:
  AGF_CORE explicit Room(Stream stream) : stream_(stream) {}
  AGF_CORE ~Room() {
    for (const Piece& piece : taken_) release(piece.at, piece.bytes, stream_);
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  template <typename T>
  AGF_CORE T* take(std::size_t count) {
    taken_.push_back({nullptr, count * sizeof(T)});
    taken_.back().at = allocate(taken_.back().bytes, stream_);
    return static_cast<T*>(taken_.back().at);
  }
#if !defined(AGF_BLOCK)
  // What the host has.
  template <typename T>
  T* take(const T* from, std::size_t count) {
    T* at = take<T>(count);
    upload(at, from, count * sizeof(T), stream_);
    return at;
  }
#endif

  AGF_CORE Stream stream() const { return stream_; }

 private:
  struct Piece {
    void* at;
    std::size_t bytes;
  };

  Stream stream_;
  Array<Piece> taken_;
};

// Memory that lasts: data of a problem, residuals.
template <typename T>
class Held {
 public:
  AGF_CORE Held() {}
  AGF_CORE Held(std::size_t count, Stream stream)
      : at_(static_cast<T*>(allocate(count * sizeof(T), stream))), count_(count), stream_(stream) {}
#if !defined(AGF_BLOCK)
  Held(const T* from, std::size_t count, Stream stream) : Held(count, stream) {
    upload(at_, from, count * sizeof(T), stream);
    wait(stream);  // `from` may be gone afterwards
  }
#endif
  AGF_CORE ~Held() { release(at_, count_ * sizeof(T), stream_); }
  AGF_CORE Held(Held&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), count_(std::exchange(other.count_, 0)), stream_(other.stream_) {}
  AGF_CORE Held& operator=(Held&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(count_, other.count_);
    std::swap(stream_, other.stream_);
    return *this;
  }

  AGF_CORE T* data() { return at_; }
  AGF_CORE const T* data() const { return at_; }
  AGF_CORE std::size_t size() const { return count_; }

 private:
  T* at_ = nullptr;
  std::size_t count_ = 0;
  Stream stream_{};
};

}  // namespace AGF_SPACE::cuda
