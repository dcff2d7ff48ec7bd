// The two verbs for Python: general networks, and those whose neurons activate as directions of the neuron space.
#include "bind/engine.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agf/alternate.hpp"
#include "agf/carried.hpp"
#include "agf/direction_alternate.hpp"
#include "agf/direction_flow.hpp"
#include "agf/flow.hpp"
#include "bind/kernel.hpp"
#include "bind/session.hpp"
#include "cpu/backend.hpp"

namespace py = pybind11;

namespace agf::bind {

namespace {

using Alternate = Trajectory (*)(const Problem&, Backend&, Control&, const State&, const AlternateOptions&);
using Flow = Trajectory (*)(const Problem&, Backend&, Control&, const State&, const FlowOptions&);
using Kernels = std::vector<const Kernel*>;
using Starts = std::vector<py::dict>;

// The problem a run of so many neurons works on. Rounding to float stops a stiff integrator in its valleys, and where
// one evaluation takes about a millisecond or less there is little that float could save: such runs are in double
// inside, whatever the scalar type of the data.
std::shared_ptr<const Problem> working_problem(const Kernel& kernel, std::size_t count) {
  constexpr double small = 1e8;
  if (kernel.problem->evaluation_flops(count) > small) return kernel.problem;
  std::shared_ptr<const Problem> twin = kernel.problem->in_double();
  return twin ? twin : kernel.problem;
}

// Problems and starts, member by member; members with one kernel and width share what is made of it.
struct Members {
  Members(const Kernels& kernels, const Starts& starts) {
    check_length(kernels, "kernels", starts.size());
    std::map<std::pair<const Kernel*, std::size_t>, std::shared_ptr<const Problem>> known;
    for (std::size_t i = 0; i < starts.size(); ++i) {
      states.push_back(state_from(starts[i], kernels[i]->problem->params()));
      std::shared_ptr<const Problem>& problem = known[{kernels[i], states[i].count}];
      if (!problem) problem = working_problem(*kernels[i], states[i].count);
      problems.push_back(problem);
      flops = std::max(flops, problem->evaluation_flops(states[i].count));
    }
  }

  // Those that the device of their problem carries, device by device. options(member): what the verb takes.
  template <typename Options>
  std::vector<Session::Carried> carried(bool directions, const std::function<Options(std::size_t)>& options) const {
    std::map<const Carrier*, std::vector<std::size_t>> groups;
    for (std::size_t i = 0; i < states.size(); ++i) {
      const Carrier* carrier = problems[i]->carrier();
      if (carrier && carrier->carries(*problems[i], states[i].count)) groups[carrier].push_back(i);
    }
    std::vector<Session::Carried> out;
    for (const auto& [device, members] : groups) {
      const Carrier* const carrier = device;
      out.push_back({members, [this, directions, options, carrier, members](bool watched, Bystander& bystander) {
                       Freight freight{directions, watched, {}, {}};
                       std::vector<Options> own;
                       for (const std::size_t i : members) {
                         freight.problems.push_back(problems[i].get());
                         freight.starts.push_back(states[i]);
                         own.push_back(options(i));
                       }
                       return carry(*carrier, std::move(freight), own, bystander);
                     }});
    }
    return out;
  }

  std::vector<State> states;
  std::vector<std::shared_ptr<const Problem>> problems;
  double flops = 0;
};

template <Alternate engine>
py::list run_alternating(const Kernels& kernels, const Starts& starts, int max_jumps,
                         const std::vector<double>& loss_tol, double activation_window, bool adaptive_rate,
                         double active_time, double rtol, double max_seconds, const py::object& observer,
                         const py::object& finished) {
  const Members members(kernels, starts);
  check_length(loss_tol, "loss_tol", starts.size());
  Session session(max_seconds, observer, finished);
  const std::function<AlternateOptions(std::size_t)> options = [&](std::size_t i) {
    return AlternateOptions{max_jumps,   loss_tol[i], activation_window,       adaptive_rate,
                            active_time, rtol,        session.jump_observer(i)};
  };
  return session.run(
      starts.size(), members.flops,
      [&](std::size_t i, Control& control) {
        return engine(*members.problems[i], cpu::backend(), control, members.states[i], options(i));
      },
      members.carried(engine == &alternate_directions, options));
}

template <Flow engine>
py::list run_flow(const Kernels& kernels, const Starts& starts, const std::vector<double>& t_end,
                  const std::string& clock, const py::object& save_at, const std::vector<double>& loss_tol, double rtol,
                  double max_seconds, const py::object& observer, const py::object& finished, bool adaptive_rate) {
  const Members members(kernels, starts);
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
      starts.size(), members.flops,
      [&](std::size_t i, Control& control) {
        return engine(*members.problems[i], cpu::backend(), control, members.states[i], options(i));
      },
      members.carried(engine == &gradient_flow_of_directions, options));
}

template <Alternate engine>
void bind_alternating(py::module_& module, const char* name, const char* text) {
  module.def(name, &run_alternating<engine>, py::arg("kernels"), py::arg("starts"), py::kw_only(), py::arg("max_jumps"),
             py::arg("loss_tol"), py::arg("activation_window"), py::arg("adaptive_rate"), py::arg("active_time"),
             py::arg("rtol"), py::arg("max_seconds"), py::arg("observer"), py::arg("finished"), text);
}

template <Flow engine>
void bind_flow(py::module_& module, const char* name, const char* text) {
  module.def(name, &run_flow<engine>, py::arg("kernels"), py::arg("starts"), py::kw_only(), py::arg("t_end"),
             py::arg("clock"), py::arg("save_at"), py::arg("loss_tol"), py::arg("rtol"), py::arg("max_seconds"),
             py::arg("observer"), py::arg("finished"), py::arg("adaptive_rate") = false, text);
}

}  // namespace

void bind_engine(py::module_& module) {
  bind_alternating<alternate>(module, "alternating_gradient_flow",
                              "Algorithm 1 from each of `starts`; see agf_fast.alternating_gradient_flow.");
  bind_flow<gradient_flow>(module, "gradient_flow",
                           "The full gradient flow from each of `starts`; see agf_fast.gradient_flow.");
  bind_alternating<alternate_directions>(module, "directions_alternating_gradient_flow",
                                         "Algorithm 1 by directions of the neuron space; see agf_fast.Linear.");
  bind_flow<gradient_flow_of_directions>(module, "directions_gradient_flow",
                                         "The full gradient flow by directions of the neuron space; see "
                                         "agf_fast.Linear.");
}

}  // namespace agf::bind
