// The frozen residual's quadratic form, U(theta; r) = 1/2 theta^T B theta, and its eigenvectors.
#pragma once

#include <vector>

#include "backend.hpp"
#include "directions.hpp"
#include "problem.hpp"
#include "trajectory.hpp"

namespace agf {

// B (params, params) of problems whose utility is a quadratic form.
void quadratic_form(const Problem& problem, Stats& stats, const Signal& residual, std::vector<double>& form);

struct Modes {
  std::vector<double> rate;   // ascending eigenvalues of B
  std::vector<double> frame;  // eigenvectors, one per row
};

Modes modes(const Problem& problem, Backend& backend, Stats& stats, const Signal& residual);
Modes modes(std::vector<double> form, Backend& backend, Stats& stats);

// Writes the faint columns by their components along the eigenvectors of B, after `motion` (params, params; null: none)
// has moved them. `structured`: the present frame is that of an earlier B, so that zeros of the change of frame mean
// something (data whose singular vectors stay put).
void adopt(Directions& directions, const Modes& modes, const std::vector<double>* motion, bool structured);

// A run that was interrupted before it had directions: its start, with the loss there.
Trajectory& unbegun(const Problem& problem, const State& state, Trajectory& path);

}  // namespace agf
