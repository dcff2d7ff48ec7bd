// The full gradient flow of all neurons at once, from any initial scale.
#pragma once

#include "containers.hpp"

#include "backend.hpp"
#include "problem.hpp"
#include "trajectory.hpp"

namespace AGF_SPACE {

AGF_TABLE long most_flow_steps = 5'000'000;
// What rests may have an unstable direction this slow, relative to the largest curvature.
AGF_TABLE double slowest_growth = 1e-9;

struct FlowOptions {
  double t_end = infinity;
  bool scaled_clock = false;  // t_end and save_at are in units of eta
  bool save_all = true;       // record every accepted step; else exactly save_at
  Array<double> save_at;
  double loss_tol = -1;  // < 0: run on
  bool adaptive_rate = false;
  double rtol = 1e-9;
  PointObserver observer;  // true stops
};

// ln of the norm below which a neuron's output is out of sight at a residual of this loss.
AGF_CORE double faint_log_norm(const Problem& problem, double loss, double rtol);

AGF_CORE Trajectory gradient_flow(const Problem& problem, Backend& backend, Control& control, const State& start,
                                  const FlowOptions& options);

}  // namespace AGF_SPACE
