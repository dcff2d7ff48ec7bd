// Array arguments from Python, refused by name where they are not what a kernel reads.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <type_traits>

namespace agf::bind {

template <typename T>
constexpr const char* dtype_name = std::is_same_v<T, float> ? "float32" : "float64";

inline std::string shape_text(const pybind11::array& a) {
  std::string text = "(";
  for (pybind11::ssize_t k = 0; k < a.ndim(); ++k) text += (k ? ", " : "") + std::to_string(a.shape(k));
  return text + (a.ndim() == 1 ? ",)" : ")");
}

// What a matrix is expected to be; rows negative: any number of neurons.
inline std::string expected_text(pybind11::ssize_t rows, pybind11::ssize_t columns, const std::string& words) {
  return "(" + (rows < 0 ? "H" : std::to_string(rows)) + ", " + std::to_string(columns) + "): " + words;
}

inline pybind11::array as_array(const pybind11::object& object, const char* name) {
  if (!pybind11::isinstance<pybind11::array>(object)) {
    throw pybind11::type_error(std::string(name) + ": got " + std::string(pybind11::str(pybind11::type::of(object))) +
                               ", expected a NumPy array");
  }
  return pybind11::reinterpret_borrow<pybind11::array>(object);
}

template <typename T>
bool holds(const pybind11::array& a) {
  return pybind11::isinstance<pybind11::array_t<T>>(a);
}

// The data of an array of T with two axes, of `rows` (any number when negative) and `columns`, in C order.
template <typename T>
const T* matrix(const pybind11::array& a, const char* name, pybind11::ssize_t rows, pybind11::ssize_t columns,
                const std::string& expected) {
  if (!holds<T>(a)) {
    throw pybind11::type_error(std::string(name) + ": got dtype " + std::string(pybind11::str(a.dtype())) +
                               ", expected " + dtype_name<T> + ", the dtype of the data: convert it with " + name +
                               ".astype(\"" + dtype_name<T> + "\")");
  }
  if (a.ndim() != 2 || a.shape(1) != columns || (rows >= 0 && a.shape(0) != rows)) {
    throw pybind11::value_error(std::string(name) + ": got shape " + shape_text(a) + ", expected " + expected);
  }
  if (!(a.flags() & pybind11::array::c_style)) {
    throw pybind11::value_error(std::string(name) +
                                ": got an array that is not C-contiguous, expected one that is: pass " +
                                "numpy.ascontiguousarray(" + name + ")");
  }
  return static_cast<const T*>(a.data());
}

}  // namespace agf::bind
