// Loops that follow one another, each on what those before it wrote: a launch each, or, in a block, one hand-over.
//
// A plan has `steps` of them, plan.length(Step<s>{}) elements each, where plan(Step<s>{}, e) makes one. For what is
// small: elements are counted in 32 bits, whose divisions are fast on a device.
#pragma once

#include <stddef.h>

#include <type_traits>

#include "each.cuh"

namespace AGF_SPACE::cuda {

// Counts what is as large as a matrix of all parameters; a block's memory is small.
#if defined(AGF_BLOCK)
using Index = unsigned;
#else
using Index = size_t;
#endif

template <int step>
using Step = std::integral_constant<int, step>;

#if defined(AGF_BLOCK)

template <typename Plan, int step>
AGF_DEVICE void take_turns(const Team& team, const Plan& plan) {
  const unsigned n = plan.length(Step<step>{});
  for (unsigned e = team.thread(); e < n; e += crew_width) plan(Step<step>{}, e);
  if constexpr (step + 1 < Plan::steps) {
    team.barrier();
    take_turns<Plan, step + 1>(team, plan);
  }
}

template <typename Plan>
struct InTurn {
  Plan plan;
  AGF_DEVICE void operator()(const Team& team) const { take_turns<Plan, 0>(team, plan); }
};

template <typename Plan>
struct InTurnAndTotal {
  Plan plan;
  AGF_DEVICE void operator()(const Team& team) const {
    take_turns<Plan, 0>(team, plan);
    team.barrier();
    const auto term = [this](size_t e) { return plan.term(static_cast<unsigned>(e)); };
    const auto add = [](double a, double b) { return a + b; };
    Reduced<decltype(term), decltype(add)>{plan.terms(), term, add}(team);
  }
};

template <typename Plan>
AGF_CORE void in_turn(Stream, const Plan& plan) {
  share(1, InTurn<Plan>{plan});
}

template <typename Plan>
AGF_CORE double total_in_turn(Stream, const Plan& plan) {
  share(1, InTurnAndTotal<Plan>{plan});
  return joined([](double a, double b) { return a + b; });
}

#else

template <typename Plan, int step = 0>
void in_turn(Stream stream, const Plan& plan) {
  each(stream, plan.length(Step<step>{}), AGF_LAMBDA(size_t e) { plan(Step<step>{}, static_cast<unsigned>(e)); });
  if constexpr (step + 1 < Plan::steps) in_turn<Plan, step + 1>(stream, plan);
}

// And then the sum of plan.term(e) over e < plan.terms().
template <typename Plan>
double total_in_turn(Stream stream, const Plan& plan) {
  in_turn(stream, plan);
  return total(stream, plan.terms(), AGF_LAMBDA(size_t e) { return plan.term(static_cast<unsigned>(e)); });
}

#endif

}  // namespace AGF_SPACE::cuda
