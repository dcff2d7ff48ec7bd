// Dormant phase where the leading sigma is linear: in closed form, however long the plateau.
#pragma once

#include "containers.hpp"

#include "dormant.hpp"

namespace AGF_SPACE {

// Whether with r frozen every dormant neuron obeys one and the same theta' = B theta.
AGF_CORE bool linear_race_applies(const Problem& problem);

// As `race`. `members`: the neurons' numbers, that is their rows of `components`, whose frame becomes that of this
// race: start from an empty one.
AGF_CORE RaceOutcome linear_race(const Problem& problem, Backend& backend, Control& control, Stats& stats,
                                 const Signal& residual, const RaceOptions& options, const Array<int>& members,
                                 Array<Dormant>& neurons, Components& components);

}  // namespace AGF_SPACE
