// Alternating Gradient Flows (arXiv 2506.06489, Algorithm 1) where neurons activate as directions of the neuron space:
// f = A W x, whose hidden space can be rotated freely.
#pragma once

#include "alternate.hpp"

namespace AGF_SPACE {

// Jump::neuron and Jump::activated are order indices of the directions, Jump::direction the (w, a) singular pair.
// Options as for `alternate`; adaptive rates change nothing at kappa = 2.
AGF_CORE Trajectory alternate_directions(const Problem& problem, Backend& backend, Control& control, const State& start,
                                         const AlternateOptions& options);

}  // namespace AGF_SPACE
