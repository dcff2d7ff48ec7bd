// What a block does: takes up runs, one after the other, and carries each to its end.
#pragma once

#include <cstddef>

#include "agf/alternate.hpp"
#include "agf/diagonal_flow.hpp"
#include "agf/diagonal_path.hpp"
#include "agf/direction_alternate.hpp"
#include "agf/direction_flow.hpp"
#include "agf/flow.hpp"
#include "block/backend.cuh"
#include "block/launch.hpp"
#include "block/leaves.cuh"
#include "block/problems.cuh"
#include "block/report.cuh"
#include "design.hpp"

namespace AGF_SPACE::cuda {

using shared::Launch;
using shared::Verb;

AGF_CORE inline void finish(Trajectory& path) {
  path.points.send();
  path.states.send();
  path.jumps.send();
  send(Message::over, path);
}

// engine(backend, control, start, options)
template <typename Options, typename Engine>
AGF_CORE AGF_APART void carry_with(In& in, const Engine& engine) {
  bool watched = false;
  Options options;
  State start;
  in(watched);
  pass(in, options);
  pass(in, start);
  options.observer.watched = watched;
  BlockBackend backend;
  Control control;
  Trajectory path = engine(backend, control, start, options);
  finish(path);
}

template <typename Options, typename Engine>
AGF_CORE void carry_problem(In& in, const shared::ProblemView& view, const Engine& engine) {
  const Owned<Problem> problem = problem_of(view);
  carry_with<Options>(in, [&](auto&... rest) { return engine(*problem, rest...); });
}

template <typename Options, typename Engine>
AGF_CORE void carry_design(In& in, const shared::DesignView& view, const Engine& engine) {
  const Owned<Design> design = make_owned<DesignCuda<double>>(view);
  carry_with<Options>(in, [&](auto&... rest) { return engine(*design, view.y, rest...); });
}

AGF_CORE inline void carry_run(const Launch& launch, std::size_t run) {
  In in(launch.numbers + launch.offsets[run]);
  const shared::ProblemView& view = launch.problems[launch.problem[run]];
  switch (launch.verb) {
    case Verb::alternate:
      return carry_problem<AlternateOptions>(in, view, alternate);
    case Verb::alternate_directions:
      return carry_problem<AlternateOptions>(in, view, alternate_directions);
    case Verb::flow:
      return carry_problem<FlowOptions>(in, view, gradient_flow);
    case Verb::flow_of_directions:
      return carry_problem<FlowOptions>(in, view, gradient_flow_of_directions);
    case Verb::diagonal_path:
      return carry_design<DiagonalPathOptions>(in, view.design,
                                               [](const Design& design, const double* y, Backend&, Control& control,
                                                  const State& start, const DiagonalPathOptions& options) {
                                                 return diagonal_path(design, y, control,
                                                                      start.count > 0 ? &start : nullptr, options);
                                               });
    case Verb::diagonal_flow:
      return carry_design<FlowOptions>(in, view.design, diagonal_flow);
    case Verb::leaves:
      return show_leaves(in, *problem_of(view));
  }
}

AGF_CORE inline unsigned long long take_up(unsigned long long* taken) {
#if defined(__CUDACC__)
  return atomicAdd(taken, 1ull);
#else
  return __atomic_fetch_add(taken, 1ull, __ATOMIC_RELAXED);
#endif
}

// The first thread of a block.
AGF_CORE inline void steer(const Team& team, unsigned block, const Launch& launch) {
  const auto begin = [&] {
    const Line line(launch.heads + block, launch.rings + block * launch.ring, launch.ring, launch.stop);
    ::new (static_cast<void*>(&crew())) Crew(team, line, Memory(launch.memory + block * launch.bytes, launch.bytes));
  };
  begin();
  for (;;) {
    const unsigned long long place = take_up(launch.taken);
    if (place >= launch.runs || launch.stop->load() != shared::go_on) break;
    const std::size_t run = launch.which[place];
    begin();
    Line& mine = crew().line;
    mine.put(static_cast<double>(Message::begun));
    mine.put(1);
    mine.put(static_cast<double>(run));
    carry_run(launch, run);
  }
  dismiss(shared::done);
}

}  // namespace AGF_SPACE::cuda
