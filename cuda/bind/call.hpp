// The arrays of one call from Python: NumPy's, which travel to the device and back, or the device's own, in place.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "bind/arrays.hpp"
#include "room.hpp"

namespace agf::cuda::bind {

// Arrays of a device come as views (agf_fast._device.View in Python): pointer, shape, dtype, device and stream, and
// empty(shape), which makes another of the caller's kind. All arguments of a call are of one kind.
template <typename T>
class Call {
 public:
  // `first` decides where the call's arrays are.
  Call(int device, const pybind11::object& first)
      : on_(device), device_(device), like_(is_view(first) ? first : pybind11::none()), room_(stream_of(first)) {}

  Stream stream() const { return room_.stream(); }
  // Whether the arrays are the device's own.
  bool on_device() const { return !like_.is_none(); }

  // The numbers of an array with these lengths (-1: any), on the device.
  const T* matrix(const pybind11::object& object, const char* name, pybind11::ssize_t rows, pybind11::ssize_t columns,
                  const std::string& expected) {
    if (is_view(object) != !like_.is_none()) {
      throw pybind11::type_error(std::string(name) + ": got an array in other memory than the first argument's, " +
                                 "expected all on one device; nothing is moved silently: move one of them");
    }
    if (!is_view(object)) {
      const pybind11::array given = agf::bind::as_array(object, name);
      const T* from = agf::bind::matrix<T>(given, name, rows, columns, expected);
      count_ = static_cast<std::size_t>(given.shape(0));
      return room_.take(from, count_ * static_cast<std::size_t>(given.shape(1)));
    }
    const auto shape = object.attr("shape").cast<std::vector<pybind11::ssize_t>>();
    if (shape.size() != 2 || shape[1] != columns || (rows >= 0 && shape[0] != rows)) {
      throw pybind11::value_error(std::string(name) + ": got shape " +
                                  std::string(pybind11::str(pybind11::tuple(object.attr("shape")))) + ", expected " +
                                  expected);
    }
    const auto dtype = object.attr("dtype").cast<std::string>();
    if (dtype != agf::bind::dtype_name<T>) {
      throw pybind11::type_error(std::string(name) + ": got dtype " + dtype + ", expected " + agf::bind::dtype_name<T> +
                                 ", the dtype of the data");
    }
    if (object.attr("device").cast<int>() != device_) {
      throw pybind11::type_error(std::string(name) + ": got an array on device " +
                                 std::string(pybind11::str(object.attr("device"))) + ", expected device " +
                                 std::to_string(device_) + " as the problem's data; nothing is moved silently");
    }
    count_ = static_cast<std::size_t>(shape[0]);
    return reinterpret_cast<const T*>(object.attr("pointer").cast<std::uintptr_t>());
  }
  // Rows of what `matrix` read last.
  std::size_t count() const { return count_; }

  // The stream for what may outlive the caller's, once all that is queued there is done.
  Stream lasting() const {
    wait(stream());
    return {};
  }

  // A new array for results.
  T* result(const std::vector<pybind11::ssize_t>& shape) {
    std::size_t size = 1;
    for (const pybind11::ssize_t length : shape) size *= static_cast<std::size_t>(length);
    if (like_.is_none()) {
      pybind11::array_t<T, pybind11::array::c_style> array(shape);
      T* const on_host = array.mutable_data();
      results_.push_back({std::move(array), room_.template take<T>(size), on_host, size});
    } else {
      pybind11::object view = like_.attr("empty")(pybind11::tuple(pybind11::cast(shape)));
      T* const at = reinterpret_cast<T*>(view.attr("pointer").template cast<std::uintptr_t>());
      results_.push_back({std::move(view), at, nullptr, size});
    }
    return results_.back().at;
  }

  // Runs the work without the interpreter's lock (it can take seconds, and touches memory that is held here) and
  // brings results home.
  template <typename Work>
  void run(const Work& work) {
    const pybind11::gil_scoped_release release;
    work();
    for (const Result& result : results_)
      if (result.on_host) download(result.on_host, result.at, result.size * sizeof(T), stream());
  }

  // The same for a leaf, which takes the stream first.
  template <typename Leaf>
  void leaf(const Leaf& leaf) {
    run([&] { leaf(stream()); });
  }

  // The results in the order they were asked for.
  pybind11::object take() {
    pybind11::object array = std::move(results_.front().array);
    results_.pop_front();
    return array;
  }

 private:
  struct Result {
    pybind11::object array;
    T* at;
    T* on_host;
    std::size_t size;
  };

  static bool is_view(const pybind11::object& object) { return pybind11::hasattr(object, "pointer"); }
  static Stream stream_of(const pybind11::object& object) {
    if (!is_view(object)) return {};
    return {reinterpret_cast<void*>(object.attr("stream").cast<std::uintptr_t>())};
  }

  OnDevice on_;
  int device_;
  pybind11::object like_;
  Room room_;
  std::size_t count_ = 0;
  std::deque<Result> results_;
};

// Where a problem is. A member of each kernel class, and destroyed before the problem is: leaves on arrays of a device
// return before their work on the caller's stream is done, and it reads the problem's data.
class AtRest {
 public:
  template <typename On>
  explicit AtRest(const On& problem) : device_(problem.device()) {}
  ~AtRest() { rest(device_); }
  AtRest(const AtRest&) = delete;
  AtRest& operator=(const AtRest&) = delete;

  template <typename T>
  Call<T> call(const pybind11::object& first) const {
    return {device_, first};
  }

 private:
  int device_;
};

}  // namespace agf::cuda::bind
