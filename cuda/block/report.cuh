// Records on their way between a block and the host.
#pragma once

#include <cstddef>
#include <type_traits>

#include "agf/passage.hpp"
#include "block/crew.cuh"
#include "block/messages.hpp"

namespace AGF_SPACE::cuda {

using agf::shared::Message;

// How many numbers a record is.
class Count {
 public:
  template <typename Number>
  AGF_CORE AGF_APART void operator()(Number&) {
    ++numbers;
  }
  template <typename T>
  AGF_CORE AGF_APART void operator()(Array<T>& values) {
    numbers += 1 + values.size();
  }
  std::size_t numbers = 0;
};

// To the host.
class Out {
 public:
  template <typename Number>
  AGF_CORE AGF_APART void operator()(Number& number) {
    crew().line.put(static_cast<double>(number));
  }
  template <typename T>
  AGF_CORE AGF_APART void operator()(Array<T>& values) {
    Line& line = crew().line;
    line.put(static_cast<double>(values.size()));
    for (std::size_t first = 0; first < values.size();) {
      std::size_t count = values.size() - first;
      double* const to = line.open(count);
      const T* const from = values.data() + first;
      each(count, [=](std::size_t i) { to[i] = static_cast<double>(from[i]); });
      line.close(count);
      first += count;
    }
  }
};

// From numbers that the host has put in the device's memory.
class In {
 public:
  AGF_CORE explicit In(const double* at) : at_(at) {}
  template <typename Number>
  AGF_CORE AGF_APART void operator()(Number& number) {
    number = static_cast<Number>(*at_++);
  }
  template <typename T>
  AGF_CORE AGF_APART void operator()(Array<T>& values) {
    values.resize(static_cast<std::size_t>(*at_++));
    const double* const from = at_;
    T* const to = values.data();
    each(values.size(), [=](std::size_t i) { to[i] = static_cast<T>(from[i]); });
    at_ += values.size();
  }

 private:
  const double* at_;
};

template <typename Record>
AGF_CORE void write(Record& record) {
  Out out;
  pass(out, record);
}

template <typename... Records>
AGF_CORE AGF_APART void send(Message kind, Records&... records) {
  Count count;
  (pass(count, records), ...);
  Line& line = crew().line;
  line.put(static_cast<double>(kind));
  line.put(static_cast<double>(count.numbers));
  (write(records), ...);
  line.publish();
}

}  // namespace AGF_SPACE::cuda

namespace AGF_SPACE {

template <typename Record>
AGF_CORE void report(Record& record) {
  using cuda::Message;
  cuda::send(std::is_same_v<Record, Point>   ? Message::point
             : std::is_same_v<Record, State> ? Message::state
                                             : Message::jump,
             record);
}

AGF_CORE inline bool told_to_stop(Status& reason) {
  const int told = cuda::crew().line.stop();
  if (told == agf::shared::leave_now) cuda::leave(agf::shared::was_told);
  if (told < 0) return false;
  reason = static_cast<Status>(told);
  return true;
}

AGF_CORE inline double seconds_of_block() { return cuda::crew().seconds(); }

AGF_CORE AGF_APART inline bool Observer::operator()(const Jump& jump) const {
  Jump seen = jump;
  cuda::send(cuda::Message::seen_jump, seen);
  return cuda::crew().line.ask();
}

AGF_CORE AGF_APART inline bool Observer::operator()(const Point& point, const State* state) const {
  Point seen = point;
  if (state) {
    State there = *state;
    cuda::send(cuda::Message::seen_state, seen, there);
  } else {
    cuda::send(cuda::Message::seen_point, seen);
  }
  return cuda::crew().line.ask();
}

}  // namespace AGF_SPACE
