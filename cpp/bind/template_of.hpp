// The template of modular addition that Python gives, and what its arrays look like.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <string>
#include <vector>

#include "bind/arrays.hpp"
#include "bind/leaves.hpp"

namespace agf::bind {

struct Template {
  std::vector<double> x;
  std::vector<std::size_t> frequencies;
  bool wide;  // float64, not float32
};

// ValueError or TypeError on what is none.
inline Template template_of(const pybind11::object& object, const std::vector<pybind11::ssize_t>& frequencies) {
  const pybind11::array a = as_array(object, "template");
  const bool wide = holds<double>(a);
  if (!wide && !holds<float>(a)) {
    throw pybind11::type_error("template: got dtype " + std::string(pybind11::str(a.dtype())) +
                               ", expected float32 or float64");
  }
  if (a.ndim() != 1 || a.shape(0) < 2) {
    throw pybind11::value_error("template: got shape " + shape_text(a) + ", expected (p,) with p at least 2");
  }
  if (!(a.flags() & pybind11::array::c_style)) {
    throw pybind11::value_error(
        "template: got an array that is not C-contiguous, expected one that is: pass "
        "numpy.ascontiguousarray(template)");
  }
  std::vector<std::size_t> present;
  for (const pybind11::ssize_t k : frequencies) {
    if (k < 1 || 2 * k > a.shape(0)) {
      throw pybind11::value_error("frequencies: got " + std::to_string(k) +
                                  ", expected 1 to p/2 = " + std::to_string(a.shape(0) / 2));
    }
    present.push_back(static_cast<std::size_t>(k));
  }
  const auto read = [&](const auto* data) { return std::vector<double>(data, data + a.size()); };
  return {wide ? read(static_cast<const double*>(a.data())) : read(static_cast<const float*>(a.data())), present, wide};
}

inline Layout modular_layout(std::size_t period) {
  const std::string p = std::to_string(period);
  return {"[u (" + p + ") | v (" + p + ") | w (" + p + ")]", period * period, period,
          "row a p + b for the pair (a, b)"};
}

}  // namespace agf::bind
