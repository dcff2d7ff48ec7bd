#include "bind/pointwise.hpp"

#include <pybind11/numpy.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "bind/arrays.hpp"
#include "bind/sigma_of.hpp"
#include "cpu/isa.hpp"

namespace agf::bind {
namespace {

namespace py = pybind11;

const cpu::Isa& set_of(const std::string& name) {
  std::string names;
  for (const cpu::Isa* const* set = cpu::isa_available(); *set; ++set) {
    if (name == (*set)->name) return **set;
    names += std::string(names.empty() ? "" : ", ") + (*set)->name;
  }
  throw py::value_error("isa: got '" + name + "', expected one of " + names);
}

template <typename T>
const cpu::Loops<T>& loops_of(const cpu::Isa& set) {
  if constexpr (std::is_same_v<T, float>) {
    return set.single_;
  } else {
    return set.double_;
  }
}

template <typename T>
py::tuple run(const cpu::Loops<T>& loops, const std::string& loop, const Nonlinearity& f, double ramp,
              const py::array& z) {
  using Array = py::array_t<T, py::array::c_style>;
  const auto n = static_cast<std::size_t>(z.size());
  const T* given = matrix<T>(z, "z", 1, z.shape(1), "(1, n)");
  const T width = static_cast<T>(ramp);
  const T* ramps = ramp > 0 ? &width : nullptr;
  Array value(z.size()), slope(z.size()), bend(z.size());
  T* const v = value.mutable_data();
  T* const s = slope.mutable_data();
  T* const b = bend.mutable_data();
  std::copy_n(given, n, v);
  std::fill_n(s, n, T(1));
  std::fill_n(b, n, T(1));
  if (loop == "value") {
    loops.value(f, ramps, 1, n, v);
    return py::make_tuple(value);
  }
  if (loop == "pair") {
    loops.pair(f, ramps, 1, n, v, s);
    return py::make_tuple(value, slope);
  }
  if (loop == "curve") {
    const std::vector<T> none(n);
    loops.curve(f, ramps, 1, n, v, s, b, none.data());
    return py::make_tuple(value, slope, bend);
  }
  if (loop == "jets") {
    loops.jets(f, ramps, 1, n, v, s, b);
    return py::make_tuple(value, slope, bend);
  }
  throw py::value_error("loop: got '" + loop + "', expected one of value, pair, curve, jets");
}

// sigma(z), sigma'(z), sigma''(z), as far as the loop of that name computes them.
py::tuple pointwise_loop(const std::string& isa, const std::string& loop, const std::string& activation,
                         double parameter, const py::object& z_object, double ramp, bool leading) {
  const cpu::Isa& set = set_of(isa);
  const Nonlinearity f{sigma_of(activation, parameter), parameter, leading};
  const py::array z = as_array(z_object, "z");
  if (z.ndim() != 2) throw py::value_error("z: got shape " + shape_text(z) + ", expected (1, n)");
  if (holds<double>(z)) return run(loops_of<double>(set), loop, f, ramp, z);
  if (holds<float>(z)) return run(loops_of<float>(set), loop, f, ramp, z);
  throw py::type_error("z: got dtype " + std::string(py::str(z.dtype())) + ", expected float32 or float64");
}

}  // namespace

void bind_pointwise(py::module_& m) {
  m.def("pointwise", &pointwise_loop, py::arg("isa"), py::arg("loop"), py::arg("activation"), py::arg("parameter"),
        py::arg("z"), py::arg("ramp") = 0.0, py::arg("leading") = false);
}

}  // namespace agf::bind
