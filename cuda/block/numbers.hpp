// Records as numbers, on the host's side: see agf/passage.hpp.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <vector>

#include "agf/passage.hpp"

namespace agf::cuda {

class ToNumbers {
 public:
  explicit ToNumbers(std::vector<double>& to) : to_(to) {}
  template <typename Number>
  void operator()(Number& number) {
    to_.push_back(static_cast<double>(number));
  }
  template <typename T>
  void operator()(std::vector<T>& values) {
    to_.push_back(static_cast<double>(values.size()));
    to_.insert(to_.end(), values.begin(), values.end());
  }

 private:
  std::vector<double>& to_;
};

class FromNumbers {
 public:
  FromNumbers(const double* at, const double* end) : at_(at), end_(end) {}
  template <typename Number>
  void operator()(Number& number) {
    number = static_cast<Number>(*take(1));
  }
  template <typename T>
  void operator()(std::vector<T>& values) {
    const auto size = static_cast<std::size_t>(*take(1));
    const double* const from = take(size);
    values.resize(size);
    for (std::size_t i = 0; i < size; ++i) values[i] = static_cast<T>(from[i]);
  }

 private:
  const double* take(std::size_t count) {
    const double* const from = at_;
    if (static_cast<std::size_t>(end_ - at_) < count) throw std::runtime_error("a record of a block is cut short");
    at_ += count;
    return from;
  }

  const double *at_, *end_;
};

}  // namespace agf::cuda
