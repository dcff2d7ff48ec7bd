// The full gradient flow where neurons are directions of the neuron space (directions.hpp), from any initial scale.
#pragma once

#include "flow.hpp"

namespace AGF_SPACE {

// Options as for `gradient_flow`; adaptive rates change nothing at kappa = 2.
AGF_CORE Trajectory gradient_flow_of_directions(const Problem& problem, Backend& backend, Control& control,
                                                const State& start, const FlowOptions& options);

}  // namespace AGF_SPACE
