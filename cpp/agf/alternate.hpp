// Alternating Gradient Flows (arXiv 2506.06489, Algorithm 1).
#pragma once

#include "backend.hpp"
#include "problem.hpp"
#include "trajectory.hpp"

namespace AGF_SPACE {

// Utility, relative to the largest at the start, below which nothing can be learned; and the least of all, so that it
// is not zero where nothing can be learned at all.
AGF_TABLE double inert_part = 1e-10, least_utility = 1e-300;

struct AlternateOptions {
  int max_jumps = -1;  // < 0: no limit
  double loss_tol = 0;
  double activation_window = 0;
  bool adaptive_rate = false;
  double active_time = infinity;
  double rtol = 1e-9;
  JumpObserver observer;  // true stops
};

AGF_CORE Trajectory alternate(const Problem& problem, Backend& backend, Control& control, const State& start,
                              const AlternateOptions& options);

}  // namespace AGF_SPACE
