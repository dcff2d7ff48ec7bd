// What a block does: takes up runs, one after the other, and carries each to its end.
#pragma once

#include <cstddef>

#include "agf/alternate.hpp"
#include "agf/direction_alternate.hpp"
#include "agf/direction_flow.hpp"
#include "agf/flow.hpp"
#include "block/backend.cuh"
#include "block/launch.hpp"
#include "block/leaves.cuh"
#include "block/problems.cuh"
#include "block/report.cuh"

namespace AGF_SPACE::cuda {

using shared::Launch;
using shared::Verb;

AGF_CORE inline void finish(Trajectory& path) {
  path.points.send();
  path.states.send();
  path.jumps.send();
  send(Message::over, path);
}

template <typename Options, typename Engine>
AGF_CORE AGF_APART void carry_with(In& in, const Problem& problem, const Engine& engine) {
  bool watched = false;
  Options options;
  State start;
  in(watched);
  pass(in, options);
  pass(in, start);
  options.observer.watched = watched;
  BlockBackend backend;
  Control control;
  Trajectory path = engine(problem, backend, control, start, options);
  finish(path);
}

AGF_CORE inline void carry_run(const Launch& launch, std::size_t run) {
  In in(launch.numbers + launch.offsets[run]);
  const Owned<Problem> problem = problem_of(launch.problems[launch.problem[run]]);
  switch (launch.verb) {
    case Verb::alternate:
      return carry_with<AlternateOptions>(in, *problem, alternate);
    case Verb::alternate_directions:
      return carry_with<AlternateOptions>(in, *problem, alternate_directions);
    case Verb::flow:
      return carry_with<FlowOptions>(in, *problem, gradient_flow);
    case Verb::flow_of_directions:
      return carry_with<FlowOptions>(in, *problem, gradient_flow_of_directions);
    case Verb::leaves:
      return show_leaves(in, *problem);
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
