// A pipe of numbers from a block to the host, in memory of the host that a device sees.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agf/config.hpp"

#if defined(AGF_BLOCK) && !defined(__CUDACC__)
#include <chrono>
#include <thread>
#endif

namespace agf::shared {

// A word that one side writes and the other reads: what was written before it is there when it is.
template <typename T>
class Word {
 public:
#if defined(__CUDA_ARCH__)
  __device__ T load() const {
    const T value = *const_cast<const volatile T*>(&value_);
    __threadfence_system();
    return value;
  }
  __device__ void store(T value) {
    __threadfence_system();
    *const_cast<volatile T*>(&value_) = value;
  }
#else
  T load() const { return __atomic_load_n(&value_, __ATOMIC_ACQUIRE); }
  void store(T value) { __atomic_store_n(&value_, value, __ATOMIC_RELEASE); }
#endif

 private:
  T value_;
};

// One for each block; all words begin at 0.
struct LineHead {
  Word<std::uint64_t> written, read;  // numbers, since the beginning
  Word<std::uint64_t> answered;       // questions; the block waits for each
  Word<std::int32_t> answer;          // to the last one
  Word<std::int32_t> ended;           // the block is done, or has left: one of those below
};
inline constexpr std::int32_t done = 1, lacked_memory = 2, lacked_patience = 3, was_told = 4;

// What the word that stops all runs says: nothing; to go on no further than to the next look, for the reason (a
// Status) that it gives where it is not negative; or, once the host listens no more, to leave at once.
inline constexpr std::int32_t go_on = -1, leave_now = -2;

}  // namespace agf::shared

#if defined(AGF_BLOCK)

namespace AGF_SPACE::cuda {

// Ends the block's work in the middle of a run: see crew.cuh.
AGF_CORE void leave(std::int32_t why);

class Line {
 public:
  // `capacity` numbers at `ring`.
  AGF_CORE Line(shared::LineHead* head, double* ring, std::size_t capacity, const shared::Word<std::int32_t>* stop)
      : head_(head),
        ring_(ring),
        capacity_(capacity),
        written_(head->written.load()),
        read_(head->read.load()),
        asked_(head->answered.load()),
        stop_(stop) {}

  AGF_CORE std::int32_t stop() const { return stop_->load(); }
  AGF_CORE void end(std::int32_t why) { head_->ended.store(why); }

  AGF_CORE AGF_APART void put(double number) {
    while (room() == 0) pause();
    ring_[written_ % capacity_] = number;
    ++written_;
  }
  // As many of `count` as fit before the end of the ring, at least one, to be written by the caller.
  AGF_CORE AGF_APART double* open(std::size_t& count) {
    while (room() == 0) pause();
    const std::size_t at = static_cast<std::size_t>(written_ % capacity_), left = capacity_ - at, free = room();
    count = count < left ? count : left;
    count = count < free ? count : free;
    return ring_ + at;
  }
  AGF_CORE void close(std::size_t count) { written_ += count; }

  // What has been put may be read from now on.
  AGF_CORE AGF_APART void publish() { head_->written.store(written_); }

  // Waits for the host's answer to what was put last. Each side counts by itself: the host may answer before this asks.
  // Whoever is asked may use the device by himself, and what he does there may wait for all that runs on it, as this
  // waits for him: so after some time the block leaves. The run begins again, and goes through what was answered.
  AGF_CORE AGF_APART bool ask() {
    publish();
    ++asked_;
    for (long waits = 0; head_->answered.load() != asked_; ++waits) {
      if (waits > most_waits) leave(shared::lacked_patience);
      pause();
    }
    return head_->answer.load() != 0;
  }

 private:
  // About two seconds of the pauses below, each a little longer than it says.
#if defined(__CUDACC__)
  static constexpr long most_waits = 500'000;
#else
  static constexpr long most_waits = 25'000;
#endif

  AGF_CORE std::size_t room() {
    if (capacity_ == static_cast<std::size_t>(written_ - read_)) read_ = head_->read.load();
    return capacity_ - static_cast<std::size_t>(written_ - read_);
  }
  AGF_CORE AGF_APART void pause() {
    publish();
    if (stop() == shared::leave_now) leave(shared::was_told);
#if defined(__CUDACC__)
    __nanosleep(2000);
#else
    std::this_thread::sleep_for(std::chrono::microseconds(20));
#endif
  }

  shared::LineHead* head_;
  double* ring_;
  std::size_t capacity_;
  std::uint64_t written_, read_, asked_;
  const shared::Word<std::int32_t>* stop_;
};

}  // namespace AGF_SPACE::cuda

#endif
