// Dormant phase: with the residual frozen every dormant neuron maximises its utility by itself; the first whose
// log-norm rises to the threshold wins, and all others are taken to the same time.
#pragma once

#include "containers.hpp"

#include "backend.hpp"
#include "problem.hpp"
#include "trajectory.hpp"

namespace AGF_SPACE {

struct Dormant {
  Array<double> direction;
  double log_norm = 0;
  double hint = 0;  // step size to begin with; 0: choose
  // A race drew it towards one point by more than a double resolves: what it came with is forgotten.
  bool contracted = false;
};

// Crossing times that agree to this relative distance are one event (exact ties by symmetry).
AGF_TABLE double tie = 1e-12;

struct RaceOptions {
  // Degree in the clock dt = exp((2 - clock) lambda) ds: kappa, or 2 with adaptive rates.
  double clock = 2;
  double threshold = 0;
  double log_limit = infinity;  // ln of the longest time
  double rtol = 1e-9;
  double inert = 0;  // utility below which a neuron at rest counts as inert
};

enum class RaceEnd { crossed, inert, limit, stopped, exhausted };

struct RaceOutcome {
  RaceEnd end = RaceEnd::inert;
  double log_elapsed = -infinity;     // ln of the physical time that passed
  Array<int> winners;                 // places in the list, ascending: those that cross together
  double utility = 0, alignment = 0;  // of the first
  bool unresolved = false;            // a neuron rested on an unstable direction known to rounding only
};

AGF_CORE RaceOutcome race(const Problem& problem, Backend& backend, Control& control, Stats& stats,
                          const Signal& residual, const RaceOptions& options, Array<Dormant>& neurons);

}  // namespace AGF_SPACE
