// Neurons whose dynamics are linear while the residual stands still, theta_i' = B theta_i with one B for all, as
// directions of the neuron space.
//
// Theta (params, neurons) has one column per neuron. Theta -> Theta Q, Q orthogonal, leaves outputs and flow alone, and
// the flow multiplies from the left only; so Theta = sum_j c_j v_j^T with an orthonormal frame {v_j} of the neuron
// space that stands still, and each column c_j moves like a neuron by itself. A frame of singular vectors keeps every
// scale apart: no component is forgotten beside one that is e^{1000} times larger.
//
// Every column is held by its components in an orthonormal frame of the parameters, each with an exponent of its own.
// In the frame of B's eigenvectors they are multiplied by e^{beta t}: exact for any t.
#pragma once

#include "containers.hpp"

#include "backend.hpp"
#include "trajectory.hpp"
#include "wide.hpp"

namespace AGF_SPACE {

struct Directions {
  std::size_t params = 0, neurons = 0;
  // Columns that shape the residual, in the parameters themselves: (k, params), with their neuron-space vectors.
  Array<double> visible;
  Array<Wide> visible_neuron;  // (k, neurons)
  // The others, by components in the rows of `frame`.
  Array<double> frame;  // (params, params)
  Array<Wide> faint;    // (count, params)
  Array<Wide> neuron;   // (count, neurons); empty: each neuron is its own
  int learned = 0;      // directions that have activated so far; -1: visible columns need not be active

  AGF_CORE std::size_t visible_count() const { return params ? visible.size() / params : 0; }
  AGF_CORE std::size_t count() const { return params ? faint.size() / params : 0; }

  // From the exact variables of an earlier run where `state` has them, from its rows otherwise. `known`: it had them.
  AGF_CORE static Directions of(const State& state, bool& known);
  // Writes rows, log-norms and the exact variables.
  AGF_CORE void write(State& state) const;

  // Turns the faint columns into sigma_j u_j, u_j orthonormal, in descending order, each to high relative accuracy;
  // columns that depend on others are dropped.
  AGF_CORE void orthogonalize();
  AGF_CORE double log_norm(std::size_t j) const;
  // The direction of faint column j in the parameters.
  AGF_CORE Array<double> direction(std::size_t j) const;
  // Moves faint column j, orthogonal to the others, to the visible ones, at e^log_norm.
  AGF_CORE void show(std::size_t j, double log_norm);
  // Moves every visible column to the faint ones, which are not orthogonal then.
  AGF_CORE void hide();

  // Writes the faint columns in the new frame (rows): columns <- turn * columns, turn (params, params).
  AGF_CORE void turn(const Array<double>& turn, Array<double> new_frame);
  // Components of the frame's row l times e^{rate_l t}.
  AGF_CORE void grow(const Array<double>& rate, double t);
};

// Singular values of e^{beta t} Z, Z the faint columns, for any t: no vector is needed, so doubles do.
class Growth {
 public:
  AGF_CORE Growth(const Directions& directions, const Array<double>& rate, Backend& backend);
  // ln of the largest at t, its slope, and (where asked for) ln of all of them, descending, as far as doubles reach.
  AGF_CORE double at(double t, double& slope, Array<double>* all = nullptr) const;
  // When the largest, whose logarithm is convex in t, rises through e^level; at once where it is beyond and rising.
  // Infinite without a component that grows faster than `least`.
  AGF_CORE double crossing(double level, double least) const;

 private:
  const Directions& directions_;
  const Array<double>& rate_;
  Backend& backend_;
  // Of `at`: columns at its time, as doubles of one scale, and what becomes of them.
  mutable Array<Wide> grown_;
  mutable Array<std::int64_t> top_;
  mutable Array<double> x_, gram_, values_, part_;
};

}  // namespace AGF_SPACE
