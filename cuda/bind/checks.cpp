#include "checks.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels.hpp"
#include "room.hpp"

namespace agf::cuda::bind {

namespace py = pybind11;

namespace {

// What a view (agf_fast._device.View in Python) says, which holds the memory while it is used.
struct Given {
  explicit Given(const py::object& view)
      : at(reinterpret_cast<void*>(view.attr("pointer").cast<std::uintptr_t>())),
        dtype(view.attr("dtype").cast<std::string>()),
        on(view.attr("device").cast<int>()),
        stream{reinterpret_cast<void*>(view.attr("stream").cast<std::uintptr_t>())} {
    for (const py::handle length : py::tuple(view.attr("shape"))) {
      shape.push_back(length.cast<std::size_t>());
      size *= shape.back();
    }
  }

  void* at;
  std::string dtype;
  OnDevice on;
  Stream stream;
  std::vector<std::size_t> shape;
  std::size_t size = 1;
};

// f(a null pointer of the view's type), which says the type.
template <typename F>
auto typed(const Given& given, const F& f) {
  if (given.dtype == "float32") return f(static_cast<float*>(nullptr));
  if (given.dtype == "float64") return f(static_cast<double*>(nullptr));
  throw py::type_error("got dtype " + given.dtype + ", expected float32 or float64");
}

std::size_t not_finite(const py::object& view) {
  const Given given(view);
  const py::gil_scoped_release release;
  return typed(given, [&]<typename T>(T*) {
    return count_not_finite(given.stream, static_cast<const T*>(given.at), given.size);
  });
}

double squares(const py::object& view) {
  const Given given(view);
  const py::gil_scoped_release release;
  return typed(
      given, [&]<typename T>(T*) { return sum_of_squares(given.stream, static_cast<const T*>(given.at), given.size); });
}

void pick(const py::object& view, const py::array_t<std::int64_t, py::array::c_style>& rows, const py::object& out) {
  const Given from(view), to(out);
  const std::size_t count = static_cast<std::size_t>(rows.size()), width = from.size / from.shape.at(0);
  for (std::size_t k = 0; k < count; ++k) {
    if (rows.data()[k] < 0 || static_cast<std::size_t>(rows.data()[k]) >= from.shape[0])
      throw py::index_error("a row that the array does not have");
  }
  if (to.size != count * width || to.dtype != from.dtype) throw py::value_error("out: expected the picked rows' shape");
  Room room(from.stream);
  const std::int64_t* const which = room.take(rows.data(), count);
  typed(from, [&]<typename T>(T*) {
    gather(from.stream, static_cast<const T*>(from.at), which, count, width, static_cast<T*>(to.at));
  });
  wait(from.stream);  // the rows may be gone afterwards
}

void fill(const py::object& view, const py::array& values) {
  const Given to(view);
  if (!(values.flags() & py::array::c_style)) throw py::value_error("values: expected an array in C order");
  const py::gil_scoped_release release;
  upload(to.at, values.data(), static_cast<std::size_t>(values.nbytes()), to.stream);
  wait(to.stream);
}

void fetch(const py::object& view, py::array values) {
  const Given from(view);
  if (!(values.flags() & py::array::c_style)) throw py::value_error("values: expected an array in C order");
  void* const to = values.mutable_data();
  const auto bytes = static_cast<std::size_t>(values.nbytes());
  const py::gil_scoped_release release;
  download(to, from.at, bytes, from.stream);
}

void duplicate(const py::object& view, const py::object& out) {
  const Given from(view), to(out);
  if (to.size != from.size || to.dtype != from.dtype) throw py::value_error("out: expected the array's own shape");
  const std::size_t bytes = from.size * typed(from, []<typename T>(T*) { return sizeof(T); });
  const py::gil_scoped_release release;
  copy(to.at, from.at, bytes, from.stream);
  wait(from.stream);
}

}  // namespace

void bind_checks(py::module_& m) {
  m.def("not_finite", &not_finite, py::arg("view"));
  m.def("sum_of_squares", &squares, py::arg("view"));
  m.def("gather", &pick, py::arg("view"), py::arg("rows"), py::arg("out"));
  m.def("upload", &fill, py::arg("view"), py::arg("values"));
  m.def("download", &fetch, py::arg("view"), py::arg("values"));
  m.def("copy", &duplicate, py::arg("view"), py::arg("out"));
  m.def(
      "wait",
      [](int device, std::uintptr_t stream) {
        const OnDevice on(device);
        const py::gil_scoped_release release;
        wait({reinterpret_cast<void*>(stream)});
      },
      py::arg("device"), py::arg("stream"));
  m.def(
      "rest",
      [](int device) {
        const py::gil_scoped_release release;
        rest(device);
      },
      py::arg("device"));
  m.def(
      "device_of", [](std::uintptr_t pointer) { return device_of(reinterpret_cast<const void*>(pointer)); },
      py::arg("pointer"));
}

}  // namespace agf::cuda::bind
