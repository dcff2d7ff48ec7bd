// The full gradient flow of all neurons at once, from any initial scale.
#pragma once

#include <functional>
#include <vector>

#include "backend.hpp"
#include "problem.hpp"
#include "trajectory.hpp"

namespace agf {

struct FlowOptions {
  double t_end = infinity;
  bool scaled_clock = false;  // t_end and save_at are in units of eta
  bool save_all = true;       // record every accepted step; else exactly save_at
  std::vector<double> save_at;
  double loss_tol = -1;  // < 0: run on
  bool adaptive_rate = false;
  double rtol = 1e-9;
  std::function<bool(const Point&, const State*)> observer;  // true stops
};

// ln of the norm below which a neuron's output is out of sight at a residual of this loss.
double faint_log_norm(const Problem& problem, double loss, double rtol);

Trajectory gradient_flow(const Problem& problem, Backend& backend, Control& control, const State& start,
                         const FlowOptions& options);

}  // namespace agf
