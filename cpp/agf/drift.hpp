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
  explicit Drift(const Problem& problem) : problem_(problem) {
    double unused = 0;
    has_ = problem.conserved(nullptr, 0, &unused);
  }

  bool has() const { return has_; }
  double worst() const { return worst_; }

  void begin(const std::vector<double>& theta) {
    if (!has_) return;
    const std::size_t count = theta.size() / problem_.params();
    start_.resize(count);
    now_.resize(count);
    largest_.assign(count, 0.0);
    problem_.conserved(theta.data(), count, start_.data());
  }

  void look(const std::vector<double>& theta) {
    if (!has_) return;
    const std::size_t m = problem_.params();
    problem_.conserved(theta.data(), start_.size(), now_.data());
    for (std::size_t i = 0; i < start_.size(); ++i) {
      largest_[i] = std::max(largest_[i], dot(m, &theta[i * m], &theta[i * m]));
      worst_ = std::max(worst_, std::abs(now_[i] - start_[i]) / largest_[i]);
    }
  }

 private:
  const Problem& problem_;
  bool has_ = false;
  double worst_ = 0;
  std::vector<double> start_, now_, largest_;
};

}  // namespace agf
