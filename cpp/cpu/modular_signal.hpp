// How a residual of the modular problem is stored.
#pragma once

#include <cstddef>
#include <vector>

#include "agf/problem.hpp"

namespace agf::cpu {

struct ModularSignal final : Signal {
  explicit ModularSignal(std::size_t size) : values(size) {}
  // In ModularModel's rows of p outputs.
  std::vector<double> values;
};

inline const double* values(const Signal& signal) { return static_cast<const ModularSignal&>(signal).values.data(); }
inline double* values(Signal& signal) { return static_cast<ModularSignal&>(signal).values.data(); }

}  // namespace agf::cpu
