// Active phase: the active neurons minimise the loss together, along the flow, to equilibrium.
#pragma once

#include "containers.hpp"

#include "coupled.hpp"
#include "drift.hpp"

namespace AGF_SPACE {

struct ActiveOptions {
  double rtol = 1e-9;
  bool adaptive_rate = false;
  double time = infinity;  // longest flow time
  double loss_tol = 0;
  // 1 / (fastest relative growth that has yet to be seen): a phase that has only begun has moved little for that reason
  // alone.
  double onset = 0;
};

struct ActiveOutcome {
  double elapsed = 0;
  double relaxation = 0;  // until a tenth of the drop was left
  double gradient_norm = 0;
  bool converged = false;
  bool exhausted = false, failed = false;  // work limit reached; no acceptable step
  Array<int> returned;                     // neurons that fell dormant, in order
};

// What a converged phase leaves of the residual's error, relative to the residual.
AGF_CORE double residual_error(const Problem& problem);

// Moves the active neurons of `state` and takes those that fall dormant out of the active set.
AGF_CORE ActiveOutcome minimize(const Problem& problem, Backend& backend, Control& control, Stats& stats, Drift& drift,
                                const ActiveOptions& options, State& state);

}  // namespace AGF_SPACE
