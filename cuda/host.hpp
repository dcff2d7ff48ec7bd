// The host that this code was loaded by.
#pragma once

#include "agf/host.hpp"

namespace agf::cuda {

inline Host& host() {
  static Host known{};
  return known;
}

}  // namespace agf::cuda
