// How well a run keeps what the flow conserves, relative to max_t |theta_i|^2.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "linear.hpp"
#include "problem.hpp"

namespace agf {

class Drift {
 public:
  explicit Drift(const Problem& problem) : problem_(problem), each_(problem.conserved_count()) {
    double unused = 0;
    has_ = problem.conserved(nullptr, 0, &unused);
  }

  bool has() const { return has_; }
  double worst() const { return worst_; }

  void begin(const std::vector<double>& theta) {
    if (!has_) return;
    const std::size_t count = theta.size() / problem_.params();
    start_.resize(count * each_);
    now_.resize(count * each_);
    largest_.assign(count, 0.0);
    problem_.conserved(theta.data(), count, start_.data());
  }

  void look(const std::vector<double>& theta) {
    if (!has_) return;
    const std::size_t m = problem_.params();
    problem_.conserved(theta.data(), largest_.size(), now_.data());
    for (std::size_t i = 0; i < largest_.size(); ++i) {
      largest_[i] = std::max(largest_[i], dot(m, &theta[i * m], &theta[i * m]));
      for (std::size_t j = i * each_; j < (i + 1) * each_; ++j)
        worst_ = std::max(worst_, std::abs(now_[j] - start_[j]) / largest_[i]);
    }
  }

 private:
  const Problem& problem_;
  std::size_t each_;  // quantities of one neuron
  bool has_ = false;
  double worst_ = 0;
  std::vector<double> start_, now_, largest_;
};

}  // namespace agf
