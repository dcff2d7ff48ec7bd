// Alternating gradient flow of a diagonal network: exact, without integration.
//
// The mirror variable T_i of a neuron (diagonal_neuron.hpp) obeys dT_i/dt = g_i = E[x_i r], which stands still between
// jumps, and a dormant neuron has norm 1 at two values of it, one for each sign of beta_i. So the next jump is at
// min_i (end_i - T_i) / g_i over the dormant, and since an active neuron's flow ends where g_i = 0 without crossing
// beta_i = 0, the phase that follows ends at beta = argmin L, beta_i >= 0 at the upper end, <= 0 at the lower, 0
// between: Pesme and Flammarion's path, Theorem 3.1 of arXiv 2506.06489, at any initial scale and depth. A neuron whose
// constraint binds returns to dormancy at its end, and has to travel to the other.
#pragma once

#include "design.hpp"
#include "trajectory.hpp"

namespace AGF_SPACE {

struct DiagonalPathOptions {
  int max_jumps = -1;
  double loss_tol = 0;
  double activation_window = 0;
  bool adaptive_rate = false;
  std::size_t depth = 2;
  JumpObserver observer;
};

// Jumps of large networks carry no state (count 0), unless they are observed. The target lies in an array.
// From `start`; null: the limit of small initial scale, with times in units of the time at which a neuron of utility
// growth 1 activates, ln(1/scale) at depth 2.
AGF_CORE Trajectory diagonal_path(const Design& design, const double* y, Control& control, const State* start,
                                  const DiagonalPathOptions& options);

// Limit of eta's unit: the time, in units of eta, that a neuron initialised with one layer at 0 and the others equal
// takes to norm 1 at g = 1.
AGF_CORE double diagonal_limit_time(std::size_t depth, bool adaptive);

}  // namespace AGF_SPACE
