// A diagonal network between a run and its state: conserved quantities and one variable per neuron.
#pragma once

#include <cstddef>

#include "containers.hpp"
#include "diagonal_neuron.hpp"
#include "trajectory.hpp"

namespace AGF_SPACE {

// What State::extra holds of a diagonal network, because directions in double forget it (rows as those of the state):
//   log_conserved (H, depth)  ln(u_l^2 - v^2), -infinity for v itself and where they are equal
//   log_reference (H,)        ln|v|, -infinity for 0
//   layer_sign (H, depth)     signs of the layers, +1 for 0
//   side (H,)                 +1, -1: beta_i is kept from changing sign; 0: nothing is asked
// A network lies in an array: many threads ask it, and set neurons of their own.
class DiagonalNetwork {
 public:
  AGF_CORE DiagonalNetwork(const State& state, bool adaptive);

  AGF_CORE std::size_t count() const { return which_.size(); }
  AGF_CORE std::size_t depth() const { return depth_; }
  AGF_CORE const DiagonalNeuron& neuron(std::size_t i) const { return neurons_[which_[i]]; }
  AGF_CORE std::size_t kind(std::size_t i) const { return which_[i]; }
  AGF_CORE std::size_t kinds() const { return neurons_.size(); }
  AGF_CORE const DiagonalNeuron& of_kind(std::size_t k) const { return neurons_[k]; }

  // Sign of beta: of v times all the others'. +1 at v = 0.
  AGF_CORE int sign(std::size_t i) const { return sign_[i]; }
  AGF_CORE double log_v(std::size_t i) const { return log_v_[i]; }
  // Two layers or more are zero: no gradient moves it.
  AGF_CORE bool still(std::size_t i) const { return neuron(i).pinned() && !(log_v_[i] > -infinity); }
  AGF_CORE double log_norm(std::size_t i) const { return neuron(i).log_norm(log_v_[i]); }
  AGF_CORE double product(std::size_t i) const;
  AGF_CORE void set(std::size_t i, int sign, double log_v);

  // Direction (depth long) of a neuron at v.
  AGF_CORE void direction(std::size_t i, int sign, double log_v, double* out) const;
  // Writes direction, log_norm and extra.
  AGF_CORE void write(State& state, const Array<signed char>& side) const;

 private:
  std::size_t depth_;
  Array<DiagonalNeuron> neurons_;  // those that differ
  Array<std::size_t> which_;
  Array<double> log_gaps_;  // (count, depth)
  Array<int> reference_;    // the layer v
  Array<signed char> layer_sign_, sign_;
  Array<double> log_v_;
};

}  // namespace AGF_SPACE
