// How a residual of the modular problem is stored.
#pragma once

#include <cstddef>
#include <vector>

#include "agf/problem.hpp"

namespace agf::cpu {

struct ModularSignal final : Signal {
  explicit ModularSignal(std::size_t size) : values(size) {}
  // In rows of p outputs: for each a the mean over b, over sqrt p; for each b the mean over a, likewise; the components
  // on e_s(a) e_t(b).
  std::vector<double> values;
};

inline const double* values(const Signal& signal) { return static_cast<const ModularSignal&>(signal).values.data(); }
inline double* values(Signal& signal) { return static_cast<ModularSignal&>(signal).values.data(); }

}  // namespace agf::cpu
