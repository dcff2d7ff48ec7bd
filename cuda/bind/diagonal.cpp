#include "diagonal.hpp"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bind/diagonal_kernel.hpp"
#include "bind/leaves.hpp"
#include "call.hpp"
#include "kernels.hpp"

namespace agf::cuda::bind {

namespace py = pybind11;

namespace {

template <typename T>
class Diagonal final : public agf::bind::DiagonalKernel {
 public:
  Diagonal(py::object columns, std::unique_ptr<const DiagonalCuda<T>> leaves)
      : held_(std::move(columns)), leaves_(std::move(leaves)), at_rest_(*leaves_) {}

  const Design& design() const override { return leaves_->design(); }
  const std::vector<double>& target() const override { return leaves_->target(); }
  std::size_t depth() const override { return leaves_->depth(); }

  double loss(const py::object& theta) const {
    Call<T> call(leaves_->device(), theta);
    const T* at = rows(call, theta, "theta");
    double value = 0;
    call.run([&] { value = leaves_->loss(call.stream(), at); });
    return value;
  }

  py::object residual(const py::object& theta) const {
    Call<T> call(leaves_->device(), theta);
    const T* at = rows(call, theta, "theta");
    T* r = call.result({samples(), 1});
    call.run([&] { leaves_->residual(call.stream(), at, r); });
    return call.take();
  }

  py::object utility(const py::object& theta, const py::object& residual) const {
    return evaluate(theta, residual, true, false);
  }
  py::object utility_gradient(const py::object& theta, const py::object& residual) const {
    return evaluate(theta, residual, false, true);
  }
  py::object utility_and_gradient(const py::object& theta, const py::object& residual) const {
    return evaluate(theta, residual, true, true);
  }

  py::object hessian_vector(const py::object& theta, const py::object& v) const {
    Call<T> call(leaves_->device(), theta);
    const T* at = rows(call, theta, "theta");
    const T* along = rows(call, v, "v");
    T* out = call.result({inputs(), layers()});
    call.run([&] { leaves_->hessian_vector(call.stream(), at, along, out); });
    return call.take();
  }

  py::object predict(const py::object& theta, const py::object& x) const {
    Call<T> call(leaves_->device(), theta);
    const T* at = rows(call, theta, "theta");
    const T* data =
        call.matrix(x, "X_new", -1, inputs(), "(k, " + std::to_string(inputs()) + "): one row of inputs per sample");
    const std::size_t k = call.count();
    T* f = call.result({static_cast<py::ssize_t>(k), 1});
    call.run([&] { leaves_->predict(call.stream(), at, data, k, f); });
    return call.take();
  }

 private:
  py::ssize_t samples() const { return static_cast<py::ssize_t>(leaves_->samples()); }
  py::ssize_t inputs() const { return static_cast<py::ssize_t>(leaves_->inputs()); }
  py::ssize_t layers() const { return static_cast<py::ssize_t>(leaves_->depth()); }

  const T* rows(Call<T>& call, const py::object& object, const char* name) const {
    return call.matrix(object, name, inputs(), layers(),
                       agf::bind::expected_text(inputs(), layers(), "one row [u_1 .. u_depth] for each input"));
  }

  py::object evaluate(const py::object& theta, const py::object& residual, bool with_value, bool with_gradient) const {
    Call<T> call(leaves_->device(), theta);
    const T* at = rows(call, theta, "theta");
    const T* r = residual.is_none() ? nullptr
                                    : call.matrix(residual, "residual", samples(), 1,
                                                  agf::bind::expected_text(samples(), 1, "one row per sample"));
    T* value = with_value ? call.result({inputs()}) : nullptr;
    T* gradient = with_gradient ? call.result({inputs(), layers()}) : nullptr;
    call.run([&] { leaves_->utility(call.stream(), at, r, value, gradient); });
    py::object first = call.take();
    if (!(with_value && with_gradient)) return first;
    return py::make_tuple(std::move(first), call.take());
  }

  py::object held_;  // the memory of the inputs where it is the caller's
  std::unique_ptr<const DiagonalCuda<T>> leaves_;
  AtRest at_rest_;
};

template <typename T>
void bind_typed(py::module_& m, const char* name) {
  agf::bind::bind_leaves<Diagonal<T>, agf::bind::DiagonalKernel>(m, name).def("predict", &Diagonal<T>::predict,
                                                                              py::arg("theta"), py::arg("X_new"));
}

template <typename T>
py::object make(const py::object& columns, const py::object& y, std::size_t depth, int device) {
  Call<T> call(device, columns);
  const auto shape = py::tuple(columns.attr("shape"));
  if (shape.size() != 2 || shape[0].cast<py::ssize_t>() < 1 || shape[1].cast<py::ssize_t>() < 1) {
    throw py::value_error("columns: got shape " + std::string(py::str(shape)) +
                          ", expected (d, n) with both at least 1");
  }
  const auto d = shape[0].cast<py::ssize_t>(), n = shape[1].cast<py::ssize_t>();
  // The host's go up once, into memory that stays; the device's stay where they are.
  const T* x = call.on_device()
                   ? call.matrix(columns, "columns", d, n, "(d, n)")
                   : agf::bind::matrix<T>(agf::bind::as_array(columns, "columns"), "columns", d, n, "(d, n)");
  const T* target = call.matrix(y, "y", n, 1, "(" + std::to_string(n) + ", 1): one row per sample");
  std::unique_ptr<const DiagonalCuda<T>> leaves;
  call.run([&] {
    leaves = std::make_unique<const DiagonalCuda<T>>(device, call.stream(), x, target, static_cast<std::size_t>(n),
                                                     static_cast<std::size_t>(d), depth, !call.on_device());
  });
  return py::cast(
      std::make_unique<Diagonal<T>>(call.on_device() ? columns : py::object(py::none()), std::move(leaves)));
}

py::object diagonal(const py::object& columns, const py::object& y, std::size_t depth, int device) {
  if (depth < 2) throw py::value_error("depth: got " + std::to_string(depth) + ", expected at least 2");
  const auto dtype = py::str(columns.attr("dtype")).cast<std::string>();
  if (dtype == "float64") return make<double>(columns, y, depth, device);
  if (dtype == "float32") return make<float>(columns, y, depth, device);
  throw py::type_error("columns: got dtype " + dtype + ", expected float32 or float64");
}

}  // namespace

void bind_diagonal(py::module_& m) {
  bind_typed<double>(m, "DiagonalF64");
  bind_typed<float>(m, "DiagonalF32");
  m.def("diagonal", &diagonal, py::arg("columns"), py::arg("y"), py::arg("depth"), py::arg("device") = 0,
        "Leaves of a diagonal network on inputs by columns (d, n) and targets (n, 1). Columns of the host are copied, "
        "those of a device are not.");
}

}  // namespace agf::cuda::bind
