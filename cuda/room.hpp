// Device memory with an owner.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "device.hpp"

namespace agf::cuda {

// Memory for the length of a scope, given back in the order of the stream: the next call may have it before this one's
// work is done, and takes its turn after it.
class Room {
 public:
  explicit Room(Stream stream) : stream_(stream) {}
  ~Room() {
    for (void* at : taken_) release(at, stream_);
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  template <typename T>
  T* take(std::size_t count) {
    taken_.reserve(taken_.size() + 1);
    taken_.push_back(allocate(count * sizeof(T), stream_));
    return static_cast<T*>(taken_.back());
  }
  // What the host has.
  template <typename T>
  T* take(const T* from, std::size_t count) {
    T* at = take<T>(count);
    upload(at, from, count * sizeof(T), stream_);
    return at;
  }

  Stream stream() const { return stream_; }

 private:
  Stream stream_;
  std::vector<void*> taken_;
};

// Memory that lasts: data of a problem, residuals.
template <typename T>
class Held {
 public:
  Held() = default;
  Held(std::size_t count, Stream stream)
      : at_(static_cast<T*>(allocate(count * sizeof(T), stream))), count_(count), stream_(stream) {}
  Held(const T* from, std::size_t count, Stream stream) : Held(count, stream) {
    upload(at_, from, count * sizeof(T), stream);
    wait(stream);  // `from` may be gone afterwards
  }
  ~Held() { release(at_, stream_); }
  Held(Held&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), count_(std::exchange(other.count_, 0)), stream_(other.stream_) {}
  Held& operator=(Held&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(count_, other.count_);
    std::swap(stream_, other.stream_);
    return *this;
  }

  T* data() { return at_; }
  const T* data() const { return at_; }
  std::size_t size() const { return count_; }

 private:
  T* at_ = nullptr;
  std::size_t count_ = 0;
  Stream stream_;
};

}  // namespace agf::cuda
