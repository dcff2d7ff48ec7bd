// Alternating Gradient Flows (arXiv 2506.06489, Algorithm 1).
#pragma once

#include <functional>

#include "backend.hpp"
#include "problem.hpp"
#include "trajectory.hpp"

namespace agf {

struct AlternateOptions {
  int max_jumps = -1;  // < 0: no limit
  double loss_tol = 0;
  double activation_window = 0;
  bool adaptive_rate = false;
  double active_time = infinity;
  double rtol = 1e-9;
  std::function<bool(const Jump&)> observer;  // true stops
};

Trajectory alternate(const Problem& problem, Backend& backend, Control& control, const State& start,
                     const AlternateOptions& options);

}  // namespace agf
