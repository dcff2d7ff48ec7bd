// agf::Backend on the CPU.
#pragma once

#include "agf/backend.hpp"

namespace agf::cpu {

agf::Backend& backend();

}  // namespace agf::cpu
