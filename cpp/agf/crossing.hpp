// The last moment at which a convex function of time rises through a level.
#pragma once

#include <algorithm>

#include "trajectory.hpp"

namespace AGF_SPACE {

// at(t, slope) is convex in t >= 0; `high` is a bound from above of where it rises through `level`, up to rounding, or
// infinity if it never does. Returns 0 where it is beyond and rising at once.
template <typename At>
AGF_CORE double rising_crossing(double high, double level, At&& at) {
  if (high == infinity) return infinity;
  double slope = 0, value = at(0, slope);
  if (value >= level && slope > 0) return 0;
  // "Beyond and rising" is false at `low` and true at `high`. Newton's steps from above stay above.
  double low = 0;
  high = std::max(high, 1e-300);
  value = at(high, slope);
  for (int i = 0; i < 200 && !(value >= level && slope > 0); ++i) {
    low = high;
    // Short of the level by rounding only; or beyond and falling.
    high *= value < level ? 1 + 1e-15 : 2;
    value = at(high, slope);
  }
  for (int i = 0; i < 200; ++i) {
    double t = high - (value - level) / slope;
    if (high - t <= 1e-16 * high) break;
    if (!(t > low)) t = 0.5 * (low + high);
    if (t == low || t == high) break;
    double slope_there = 0;
    const double there = at(t, slope_there);
    if (there >= level && slope_there > 0) {
      high = t;
      value = there;
      slope = slope_there;
    } else {
      low = t;
    }
  }
  return high;
}

}  // namespace AGF_SPACE
