// A host's problem as blocks find it.
#pragma once

#include "agf/design.hpp"
#include "agf/problem.hpp"
#include "block/views.hpp"
#include "room.hpp"

namespace agf::cuda {

// Fills in the model and its view; false for a problem that blocks do not know.
bool view_of(const Problem& problem, shared::ProblemView& view);
// What is not on the device in double is taken there, into the room.
bool view_of(const Design& design, const double* target, Room& room, shared::ProblemView& view);

}  // namespace agf::cuda
