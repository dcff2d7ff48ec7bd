// The frozen residual's quadratic form, U(theta; r) = 1/2 theta^T B theta, and its eigenvectors.
#pragma once

#include "containers.hpp"

#include "backend.hpp"
#include "directions.hpp"
#include "problem.hpp"
#include "trajectory.hpp"

namespace AGF_SPACE {

// B (params, params) of problems whose utility is a quadratic form.
AGF_CORE void quadratic_form(const Problem& problem, Stats& stats, const Signal& residual, Array<double>& form);

struct Modes {
  Array<double> rate;   // ascending eigenvalues of B
  Array<double> frame;  // eigenvectors, one per row
};

AGF_CORE Modes modes(const Problem& problem, Backend& backend, Stats& stats, const Signal& residual);
AGF_CORE Modes modes(Array<double> form, Backend& backend, Stats& stats);

// Writes the faint columns by their components along the eigenvectors of B, after `motion` (params, params; null: none)
// has moved them. `structured`: the present frame is that of an earlier B, so that zeros of the change of frame mean
// something (data whose singular vectors stay put).
AGF_CORE void adopt(Directions& directions, const Modes& modes, const Array<double>* motion, bool structured);

// A run that was interrupted before it had directions: its start, with the loss there.
AGF_CORE Trajectory& unbegun(const Problem& problem, const State& state, Trajectory& path);

}  // namespace AGF_SPACE
