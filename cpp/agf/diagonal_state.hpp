// A diagonal network between a run and its state: conserved quantities and one variable per neuron.
#pragma once

#include <cstddef>
#include <vector>

#include "diagonal_neuron.hpp"
#include "trajectory.hpp"

namespace agf {

// What State::extra holds of a diagonal network, because directions in double forget it (rows as those of the state):
//   log_conserved (H, depth)  ln(u_l^2 - v^2), -infinity for v itself and where they are equal
//   log_reference (H,)        ln|v|, -infinity for 0
//   layer_sign (H, depth)     signs of the layers, +1 for 0
//   side (H,)                 +1, -1: beta_i is kept from changing sign; 0: nothing is asked
class DiagonalNetwork {
 public:
  DiagonalNetwork(const State& state, bool adaptive);

  std::size_t count() const { return which_.size(); }
  std::size_t depth() const { return depth_; }
  const DiagonalNeuron& neuron(std::size_t i) const { return neurons_[which_[i]]; }
  std::size_t kind(std::size_t i) const { return which_[i]; }
  std::size_t kinds() const { return neurons_.size(); }
  const DiagonalNeuron& of_kind(std::size_t k) const { return neurons_[k]; }

  // Sign of beta: of v times all the others'. +1 at v = 0.
  int sign(std::size_t i) const { return sign_[i]; }
  double log_v(std::size_t i) const { return log_v_[i]; }
  // Two layers or more are zero: no gradient moves it.
  bool still(std::size_t i) const { return neuron(i).pinned() && !(log_v_[i] > -infinity); }
  double log_norm(std::size_t i) const { return neuron(i).log_norm(log_v_[i]); }
  double product(std::size_t i) const;
  void set(std::size_t i, int sign, double log_v);

  // Direction (depth long) of a neuron at v.
  void direction(std::size_t i, int sign, double log_v, double* out) const;
  // Writes direction, log_norm and extra.
  void write(State& state, const std::vector<signed char>& side) const;

 private:
  std::size_t depth_;
  std::vector<DiagonalNeuron> neurons_;  // those that differ
  std::vector<std::size_t> which_;
  std::vector<double> log_gaps_;  // (count, depth)
  std::vector<int> reference_;    // the layer v
  std::vector<signed char> layer_sign_, sign_;
  std::vector<double> log_v_;
};

}  // namespace agf
