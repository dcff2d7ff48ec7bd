// Runs handed to a carrier in the form that they work on (frame.hpp), and what comes back in the form of the problem.
#pragma once

#include <cstddef>
#include <vector>

#include "carrier.hpp"

namespace agf {

// As Carrier's, for problems as the caller knows them.
std::vector<std::size_t> carry(const Carrier& carrier, Freight freight, const std::vector<AlternateOptions>& options,
                               Bystander& bystander);
std::vector<std::size_t> carry(const Carrier& carrier, Freight freight, const std::vector<FlowOptions>& options,
                               Bystander& bystander);

}  // namespace agf
