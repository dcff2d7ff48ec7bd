// A run works on the smallest exact form of its problem; this carries states there and back.
#pragma once

#include "containers.hpp"
#include "problem.hpp"
#include "trajectory.hpp"

namespace AGF_SPACE {

#if defined(AGF_BLOCK)

// A block is given that form, and states in it: the host has carried them there.
class Frame {
 public:
  AGF_CORE Frame(const Problem& problem, const State&) : problem_(problem) {}

  AGF_CORE const Problem& problem() const { return problem_; }
  AGF_CORE const State& inward(const State& state) const { return state; }
  AGF_CORE State outward(const State& state) const {
    State out = state;
    if (out.components.empty()) out.components = {};
    return out;
  }
  AGF_CORE Array<double> outward(int, const double* theta) const {
    return Array<double>(theta, theta + problem_.params());
  }

 private:
  const Problem& problem_;
};

#else

// A problem in fewer inputs, where there is one, for all runs of it.
struct Reduction {
  explicit Reduction(const Problem& problem) : full(problem), reduced(problem.reduced(basis)) {}

  const Problem& problem() const { return reduced ? *reduced : full; }

  const Problem& full;
  std::vector<double> basis;  // (d, k); filled while `reduced` is made
  std::unique_ptr<Problem> reduced;
};

// Inputs x enter through w.x only, so the part of w outside the span of the data never meets a gradient: its direction
// stands still and its length is one number.
class Frame {
 public:
  Frame(const Problem& problem, const State& start) : Frame(std::make_shared<const Reduction>(problem), start) {}
  Frame(std::shared_ptr<const Reduction> reduction, const State& start);

  const Problem& problem() const { return reduction_->problem(); }
  State inward(const State& state) const;
  State outward(const State& state) const;
  // Parameters or direction of one neuron, full length.
  std::vector<double> outward(int neuron, const double* theta) const;

 private:
  bool reduced() const { return reduction_->reduced != nullptr; }

  std::shared_ptr<const Reduction> reduction_;
  std::size_t d_ = 0, k_ = 0, c_ = 0;
  std::vector<double> rest_;  // (count, d): unit vectors outside the span
};

#endif

}  // namespace AGF_SPACE
