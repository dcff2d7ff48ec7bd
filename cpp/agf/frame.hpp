// A run works on the smallest exact form of its problem; this carries states there and back.
#pragma once

#include <memory>
#include <vector>

#include "problem.hpp"
#include "trajectory.hpp"

namespace agf {

// Inputs x enter through w.x only, so the part of w outside the span of the data never meets a gradient: its direction
// stands still and its length is one number.
class Frame {
 public:
  Frame(const Problem& problem, const State& start);

  const Problem& problem() const { return reduced_ ? *reduced_ : full_; }
  State inward(const State& state) const;
  State outward(const State& state) const;
  // Parameters or direction of one neuron, full length.
  std::vector<double> outward(int neuron, const double* theta) const;

 private:
  const Problem& full_;
  std::vector<double> basis_;  // (d, k); filled while reduced_ is made
  std::unique_ptr<Problem> reduced_;
  std::size_t d_ = 0, k_ = 0, c_ = 0;
  std::vector<double> rest_;  // (count, d): unit vectors outside the span
};

}  // namespace agf
