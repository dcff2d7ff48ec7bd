#include "bind/diagonal.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "agf/carrier.hpp"
#include "agf/diagonal_flow.hpp"
#include "agf/diagonal_path.hpp"
#include "agf/diagonal_state.hpp"
#include "bind/arrays.hpp"
#include "bind/diagonal_kernel.hpp"
#include "bind/leaves.hpp"
#include "bind/session.hpp"
#include "bind/unlocked.hpp"
#include "cpu/backend.hpp"
#include "cpu/diagonal.hpp"
#include "cpu/diagonal_descent.hpp"

namespace agf::bind {
namespace {

namespace py = pybind11;
using cpu::DiagonalCpu;

template <typename T>
class Diagonal final : public DiagonalKernel {
 public:
  using Array = py::array_t<T, py::array::c_style>;

  Diagonal(py::array columns, const T* x, const T* y, std::size_t n, std::size_t d, std::size_t depth)
      : held_(std::move(columns)), leaves_(x, y, n, d, depth) {}

  const Design& design() const override { return leaves_.design(); }
  const std::vector<double>& target() const override { return leaves_.target(); }
  std::size_t depth() const override { return leaves_.depth(); }

  double loss(const py::object& theta) const {
    const Rows at = rows(theta, "theta");
    // Released: a pass over all samples can take long, and only our own memory and held arrays are touched.
    const Unlocked unlocked;
    return leaves_.loss(at.data);
  }

  Array residual(const py::object& theta) const {
    const Rows at = rows(theta, "theta");
    Array r({samples(), py::ssize_t{1}});
    T* to = r.mutable_data();
    // Released: see loss.
    const Unlocked unlocked;
    leaves_.residual(at.data, to);
    return r;
  }

  Array utility(const py::object& theta, const py::object& residual) const {
    const Rows at = rows(theta, "theta");
    const Rows r = residual_of(residual);
    Array value(inputs());
    evaluate(at, r, value.mutable_data(), nullptr);
    return value;
  }

  Array utility_gradient(const py::object& theta, const py::object& residual) const {
    const Rows at = rows(theta, "theta");
    const Rows r = residual_of(residual);
    Array gradient({inputs(), layers()});
    evaluate(at, r, nullptr, gradient.mutable_data());
    return gradient;
  }

  py::tuple utility_and_gradient(const py::object& theta, const py::object& residual) const {
    const Rows at = rows(theta, "theta");
    const Rows r = residual_of(residual);
    Array value(inputs());
    Array gradient({inputs(), layers()});
    evaluate(at, r, value.mutable_data(), gradient.mutable_data());
    return py::make_tuple(std::move(value), std::move(gradient));
  }

  Array hessian_vector(const py::object& theta, const py::object& v) const {
    const Rows at = rows(theta, "theta"), along = rows(v, "v");
    Array out({inputs(), layers()});
    T* to = out.mutable_data();
    // Released: see loss.
    const Unlocked unlocked;
    leaves_.hessian_vector(at.data, along.data, to);
    return out;
  }

  Array predict(const py::object& theta, const py::object& x) const {
    const Rows at = rows(theta, "theta");
    const py::array given = as_array(x, "X_new");
    const T* data =
        matrix<T>(given, "X_new", -1, inputs(), "(k, " + std::to_string(inputs()) + "): one row of inputs per sample");
    Array f({given.shape(0), py::ssize_t{1}});
    T* to = f.mutable_data();
    const auto k = static_cast<std::size_t>(given.shape(0));
    // Released: see loss.
    const Unlocked unlocked;
    leaves_.predict(at.data, data, k, to);
    return f;
  }

  const DiagonalCpu<T>& leaves() const { return leaves_; }
  py::ssize_t samples() const { return static_cast<py::ssize_t>(leaves_.samples()); }
  py::ssize_t inputs() const { return static_cast<py::ssize_t>(leaves_.inputs()); }
  py::ssize_t layers() const { return static_cast<py::ssize_t>(leaves_.depth()); }

 private:
  struct Rows {
    py::object kept;
    const T* data;
  };

  Rows rows(const py::object& object, const char* name) const {
    py::array a = as_array(object, name);
    const T* data = matrix<T>(a, name, inputs(), layers(),
                              expected_text(inputs(), layers(), "one row [u_1 .. u_depth] for each input"));
    return {std::move(a), data};
  }

  // Null: of theta itself.
  Rows residual_of(const py::object& residual) const {
    if (residual.is_none()) return {py::none(), nullptr};
    py::array a = as_array(residual, "residual");
    const T* data = matrix<T>(a, "residual", samples(), 1, expected_text(samples(), 1, "one row per sample"));
    return {std::move(a), data};
  }

  void evaluate(const Rows& at, const Rows& r, T* value, T* gradient) const {
    // Released: see loss.
    const Unlocked unlocked;
    leaves_.utility(at.data, r.data, value, gradient);
  }

  py::array held_;  // the memory of the inputs
  DiagonalCpu<T> leaves_;
};

// `_core.DiagonalDescentF64` and `F32`.
template <typename T>
class Descent {
 public:
  using Array = py::array_t<T, py::array::c_style>;

  explicit Descent(const Diagonal<T>& kernel) : shape_{kernel.inputs(), kernel.layers()}, steps_(kernel.leaves()) {}

  std::size_t advance(const py::object& theta, const py::object& velocity, double lr, double momentum,
                      std::size_t steps) {
    Array at = own(theta, "theta"), speed = own(velocity, "velocity");
    T* to = at.mutable_data();
    T* by = speed.mutable_data();
    // Released: a step of a large network is a pass over its inputs.
    const py::gil_scoped_release unlock;
    return steps_.advance(to, by, lr, momentum, steps);
  }

 private:
  py::ssize_t shape_[2];
  cpu::DiagonalDescent<T> steps_;

  // Written in place.
  Array own(const py::object& object, const char* name) const {
    py::array a = as_array(object, name);
    matrix<T>(a, name, shape_[0], shape_[1], "(d, depth)");
    if (!a.writeable()) throw py::value_error(std::string(name) + ": got a read-only array, expected a writeable one");
    return py::reinterpret_borrow<Array>(a);
  }
};

template <typename T>
void bind_typed(py::module_& m, const char* name, const char* descent) {
  py::class_<Descent<T>>(m, descent)
      .def("advance", &Descent<T>::advance, py::arg("theta"), py::arg("velocity"), py::arg("lr"), py::arg("momentum"),
           py::arg("steps"));
  bind_leaves<Diagonal<T>, DiagonalKernel>(m, name)
      .def("predict", &Diagonal<T>::predict, py::arg("theta"), py::arg("X_new"))
      // It reads the kernel's inputs, which stay as long as it does.
      .def(
          "descent", [](const Diagonal<T>& kernel) { return std::make_unique<Descent<T>>(kernel); },
          py::keep_alive<0, 1>());
}

template <typename T>
py::object make(const py::array& columns, const py::array& y, std::size_t depth) {
  if (columns.ndim() != 2 || columns.shape(0) < 1 || columns.shape(1) < 1) {
    throw py::value_error("columns: got shape " + shape_text(columns) + ", expected (d, n) with both at least 1");
  }
  const T* x = matrix<T>(columns, "columns", -1, columns.shape(1), "(d, n)");
  const T* target =
      matrix<T>(y, "y", columns.shape(1), 1, "(" + std::to_string(columns.shape(1)) + ", 1): one row per sample");
  return py::cast(std::make_unique<Diagonal<T>>(columns, x, target, static_cast<std::size_t>(columns.shape(1)),
                                                static_cast<std::size_t>(columns.shape(0)), depth));
}

py::object diagonal(const py::object& columns_object, const py::object& y_object, std::size_t depth) {
  if (depth < 2) throw py::value_error("depth: got " + std::to_string(depth) + ", expected at least 2");
  const py::array columns = as_array(columns_object, "columns"), y = as_array(y_object, "y");
  if (holds<double>(columns)) return make<double>(columns, y, depth);
  if (holds<float>(columns)) return make<float>(columns, y, depth);
  throw py::type_error("columns: got dtype " + std::string(py::str(columns.dtype())) + ", expected float32 or float64");
}

using Kernels = std::vector<const DiagonalKernel*>;

State start_of(const DiagonalKernel& kernel, const py::dict& start) {
  State state = state_from(start, kernel.depth());
  if (state.count != kernel.design().columns())
    throw py::value_error("start: got " + std::to_string(state.count) + " neurons, expected one for each of the " +
                          std::to_string(kernel.design().columns()) + " inputs");
  return state;
}

std::vector<State> starts_of(const Kernels& kernels, const std::vector<py::dict>& starts) {
  check_length(kernels, "kernels", starts.size());
  std::vector<State> states;
  for (std::size_t i = 0; i < starts.size(); ++i) states.push_back(start_of(*kernels[i], starts[i]));
  return states;
}

// One pass over the inputs.
double pass_flops(const Kernels& kernels) {
  double most = 0;
  for (const DiagonalKernel* kernel : kernels)
    most = std::max(most, 2.0 * static_cast<double>(kernel->design().rows() * kernel->design().columns()));
  return most;
}

// Whether a state is one of a diagonal network; what is wrong with it is told by the run that begins there.
bool holds_network(const State& start, bool adaptive_rate) {
  try {
    DiagonalNetwork(start, adaptive_rate);
    return true;
  } catch (const std::invalid_argument&) {
    return false;
  }
}

// Those that the device of their inputs carries, device by device. No starts: the limit of small scale.
// options(member): what the verb takes.
template <typename Options>
std::vector<Session::Carried> carried(const Kernels& kernels, const std::vector<State>& starts, bool adaptive_rate,
                                      const std::function<Options(std::size_t)>& options) {
  std::map<const Carrier*, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    const Design& design = kernels[i]->design();
    const Carrier* const carrier = design.carrier();
    if (carrier && carrier->carries(design) && (starts.empty() || holds_network(starts[i], adaptive_rate)))
      groups[carrier].push_back(i);
  }
  std::vector<Session::Carried> out;
  for (const auto& [device, members] : groups) {
    const Carrier* const carrier = device;
    out.push_back({members, [&kernels, &starts, options, carrier, members](bool watched, Bystander& bystander) {
                     DiagonalFreight freight{watched, {}, {}, {}};
                     std::vector<Options> own;
                     for (const std::size_t i : members) {
                       freight.designs.push_back(&kernels[i]->design());
                       freight.targets.push_back(kernels[i]->target().data());
                       freight.starts.push_back(starts.empty() ? State{} : starts[i]);
                       own.push_back(options(i));
                     }
                     if constexpr (std::is_same_v<Options, FlowOptions>)
                       return carrier->flow(freight, own, bystander);
                     else
                       return carrier->alternate(freight, own, bystander);
                   }});
  }
  return out;
}

py::list run_path(const Kernels& kernels, const std::optional<std::vector<py::dict>>& starts, int max_jumps,
                  const std::vector<double>& loss_tol, double activation_window, bool adaptive_rate, double max_seconds,
                  const py::object& observer, const py::object& finished) {
  std::vector<State> states;
  if (starts) states = starts_of(kernels, *starts);
  check_length(loss_tol, "loss_tol", kernels.size());
  Session session(max_seconds, observer, finished);
  const std::function<DiagonalPathOptions(std::size_t)> options = [&](std::size_t i) {
    return DiagonalPathOptions{max_jumps,     loss_tol[i],         activation_window,
                               adaptive_rate, kernels[i]->depth(), session.jump_observer(i)};
  };
  return session.run(
      kernels.size(), pass_flops(kernels),
      [&](std::size_t i, Control& control) {
        return diagonal_path(kernels[i]->design(), kernels[i]->target().data(), control, starts ? &states[i] : nullptr,
                             options(i));
      },
      carried(kernels, states, adaptive_rate, options));
}

py::list run_flow(const Kernels& kernels, const std::vector<py::dict>& starts, const std::vector<double>& t_end,
                  const std::string& clock, const py::object& save_at, const std::vector<double>& loss_tol, double rtol,
                  double max_seconds, const py::object& observer, const py::object& finished, bool adaptive_rate) {
  const std::vector<State> states = starts_of(kernels, starts);
  check_length(t_end, "t_end", starts.size());
  check_length(loss_tol, "loss_tol", starts.size());
  Session session(max_seconds, observer, finished);
  const FlowOptions shared = flow_options(clock, save_at, rtol, adaptive_rate);
  const std::function<FlowOptions(std::size_t)> options = [&](std::size_t i) {
    FlowOptions own = shared;
    own.t_end = t_end[i];
    own.loss_tol = loss_tol[i];
    own.observer = session.point_observer(i);
    return own;
  };
  return session.run(
      kernels.size(), pass_flops(kernels),
      [&](std::size_t i, Control& control) {
        return diagonal_flow(kernels[i]->design(), kernels[i]->target().data(), cpu::backend(), control, states[i],
                             options(i));
      },
      carried(kernels, states, adaptive_rate, options));
}

}  // namespace

void bind_diagonal(py::module_& m) {
  py::class_<DiagonalKernel>(m, "DiagonalKernel");
  bind_typed<double>(m, "DiagonalF64", "DiagonalDescentF64");
  bind_typed<float>(m, "DiagonalF32", "DiagonalDescentF32");
  m.def("diagonal", &diagonal, py::arg("columns"), py::arg("y"), py::arg("depth"),
        "Leaves of a diagonal network on inputs by columns (d, n), which are not copied, and targets (n, 1).");
  m.def("diagonal_path", &run_path, py::arg("kernels"), py::arg("starts"), py::kw_only(), py::arg("max_jumps"),
        py::arg("loss_tol"), py::arg("activation_window"), py::arg("adaptive_rate"), py::arg("max_seconds"),
        py::arg("observer"), py::arg("finished"),
        "Alternating gradient flow from each of `starts`; from None, its limit at small scale.");
  m.def("diagonal_flow", &run_flow, py::arg("kernels"), py::arg("starts"), py::kw_only(), py::arg("t_end"),
        py::arg("clock"), py::arg("save_at"), py::arg("loss_tol"), py::arg("rtol"), py::arg("max_seconds"),
        py::arg("observer"), py::arg("finished"), py::arg("adaptive_rate") = false,
        "The full gradient flow from each of `starts`.");
}

}  // namespace agf::bind
