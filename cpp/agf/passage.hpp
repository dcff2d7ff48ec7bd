// How records travel between the host and a block of a device: as numbers, in the one order that is written here.
//
// A passage is called with each number and each array of a record; what it does with them (write, read, count) is its
// own.
#pragma once

#include "alternate.hpp"
#include "diagonal_path.hpp"
#include "flow.hpp"
#include "trajectory.hpp"

namespace AGF_SPACE {

template <typename Passage>
AGF_CORE AGF_APART void pass(Passage& p, Point& point) {
  p(point.time);
  p(point.scaled_time);
  p(point.loss);
  p(point.elapsed);
}

template <typename Passage>
AGF_CORE AGF_APART void pass(Passage& p, Extra& extra) {
  for (char& letter : extra.name) p(letter);
  p(extra.values);
  p(extra.shape);
}

template <typename Passage>
AGF_CORE AGF_APART void pass(Passage& p, State& state) {
  p(state.count);
  p(state.params);
  p(state.direction);
  p(state.log_norm);
  p(state.active);
  p(state.time);
  p(state.scaled_time);
  p(state.log_eta);
  p(state.phase_elapsed);
  p(state.components.frame);
  p(state.components.log);
  p(state.components.sign);
  std::size_t extras = state.extra.all().size();
  p(extras);
  for (std::size_t k = 0; k < extras; ++k) {
    if (k < state.extra.all().size()) {
      pass(p, state.extra.at(k));
    } else {
      Extra extra;
      pass(p, extra);
      state.extra.put(extra.name, std::move(extra.values), std::move(extra.shape));
    }
  }
}

template <typename Passage>
AGF_CORE AGF_APART void pass(Passage& p, Jump& jump) {
  p(jump.time);
  p(jump.scaled_time);
  p(jump.neuron);
  p(jump.utility);
  p(jump.direction);
  p(jump.alignment);
  p(jump.loss_before);
  p(jump.loss_after);
  p(jump.activated);
  p(jump.returned);
  p(jump.converged);
  p(jump.gradient_norm);
  p(jump.active_time);
  p(jump.relaxation);
  p(jump.gap);
  pass(p, jump.state);
}

// All but its records.
template <typename Passage>
AGF_CORE AGF_APART void pass(Passage& p, Trajectory& path) {
  pass(p, path.state);
  p(path.status);
  p(path.conserved_drift);
  p(path.notes);
  p(path.stats.evaluations);
  p(path.stats.hessians);
  p(path.stats.steps);
  p(path.stats.rejected);
  p(path.stats.seconds);
  p(path.stats.active_time);
}

// All but who observes.
template <typename Passage>
AGF_CORE AGF_APART void pass(Passage& p, AlternateOptions& options) {
  p(options.max_jumps);
  p(options.loss_tol);
  p(options.activation_window);
  p(options.adaptive_rate);
  p(options.active_time);
  p(options.rtol);
}

template <typename Passage>
AGF_CORE AGF_APART void pass(Passage& p, DiagonalPathOptions& options) {
  p(options.max_jumps);
  p(options.loss_tol);
  p(options.activation_window);
  p(options.adaptive_rate);
  p(options.depth);
}

template <typename Passage>
AGF_CORE AGF_APART void pass(Passage& p, FlowOptions& options) {
  p(options.t_end);
  p(options.scaled_clock);
  p(options.save_all);
  p(options.save_at);
  p(options.loss_tol);
  p(options.adaptive_rate);
  p(options.rtol);
}

}  // namespace AGF_SPACE
