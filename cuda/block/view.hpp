// A host's problem as blocks find it.
#pragma once

#include "agf/problem.hpp"
#include "block/views.hpp"

namespace agf::cuda {

// Fills in the model and its view; false for a problem that blocks do not know.
bool view_of(const Problem& problem, shared::ProblemView& view);

}  // namespace agf::cuda
