// The arrays of one call from Python where problems compute on the CPU: NumPy's, in place.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "bind/arrays.hpp"
#include "bind/unlocked.hpp"

namespace agf::bind {

template <typename T>
class HostCall {
 public:
  // The numbers of an array with these lengths (-1: any).
  const T* matrix(const pybind11::object& object, const char* name, pybind11::ssize_t rows, pybind11::ssize_t columns,
                  const std::string& expected) {
    const pybind11::array given = as_array(object, name);
    const T* data = agf::bind::matrix<T>(given, name, rows, columns, expected);
    count_ = static_cast<std::size_t>(given.shape(0));
    return data;
  }
  // Rows of what `matrix` read last.
  std::size_t count() const { return count_; }

  // A new array for results, two at most.
  T* result(std::vector<pybind11::ssize_t> shape) {
    pybind11::array_t<T, pybind11::array::c_style> array(std::move(shape));
    T* const at = array.mutable_data();
    results_.at(made_++) = std::move(array);
    return at;
  }

  // Runs a leaf without the interpreter's lock: it can take seconds, and touches only our own memory and held arrays.
  template <typename Leaf>
  void leaf(const Leaf& leaf) {
    const Unlocked unlocked;
    leaf();
  }

  // The results in the order they were asked for.
  pybind11::object take() { return std::move(results_.at(taken_++)); }

 private:
  std::size_t count_ = 0, made_ = 0, taken_ = 0;
  std::array<pybind11::object, 2> results_;
};

struct OnHost {
  template <typename On>
  explicit OnHost(const On&) {}
  template <typename T>
  HostCall<T> call(const pybind11::object&) const {
    return {};
  }
};

}  // namespace agf::bind
