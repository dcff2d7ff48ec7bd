// How many processors this process may keep busy.
#pragma once

#include <cstddef>
#include <string>

namespace agf::cpu {

// Those of the affinity mask, or fewer where a control group (a container's, a batch system's) grants less time than
// they have, rounded up; at least 1. `root` is where /proc and /sys are found.
std::size_t processors(const std::string& root = "");

}  // namespace agf::cpu
