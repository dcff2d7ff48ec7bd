// The gradient flow of a diagonal network, from any initial scale, at any depth.
//
// Every neuron is one variable (diagonal_neuron.hpp), so what the flow conserves is conserved by construction:
// dx_i/dt = g_i rho_i(x_i), g = E[x r], r = y - X beta(x). A neuron too small to be felt in r travels in its mirror
// variable, dT_i/dt = g_i; while everybody felt is at rest, g stands still and all of them travel in closed form, to
// the moment the first of them is felt. The others are integrated implicitly: with W = |grad beta| the Jacobian -rho
// Sigma d(beta)/dx + diag(g rho') is similar to the symmetric -W Sigma W + diag(g rho').
#pragma once

#include "backend.hpp"
#include "design.hpp"
#include "flow.hpp"

namespace AGF_SPACE {

AGF_CORE Trajectory diagonal_flow(const Design& design, const double* y, Backend& backend, Control& control,
                                  const State& start, const FlowOptions& options);

}  // namespace AGF_SPACE
