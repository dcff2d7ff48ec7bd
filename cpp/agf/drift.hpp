// How well a run keeps what the flow conserves, relative to max_t |theta_i|^2.
#pragma once

#include <algorithm>
#include <cmath>
#include "containers.hpp"

#include "linear.hpp"
#include "problem.hpp"

namespace AGF_SPACE {

class Drift {
 public:
  AGF_CORE explicit Drift(const Problem& problem) : problem_(problem), each_(problem.conserved_count()) {
    double unused = 0;
    has_ = problem.conserved(nullptr, 0, &unused);
  }

  AGF_CORE bool has() const { return has_; }
  AGF_CORE double worst() const { return worst_; }

  AGF_CORE void begin(const Array<double>& theta) {
    if (!has_) return;
    const std::size_t count = theta.size() / problem_.params();
    start_.resize(count * each_);
    now_.resize(count * each_);
    largest_.assign(count, 0.0);
    problem_.conserved(theta.data(), count, start_.data());
  }

  AGF_CORE void look(const Array<double>& theta) {
    if (!has_) return;
    const std::size_t m = problem_.params();
    problem_.conserved(theta.data(), largest_.size(), now_.data());
    const std::size_t kinds = each_;
    const double *x = theta.data(), *start = start_.data(), *now = now_.data();
    double* const size = largest_.data();
    const double part = largest(largest_.size(), m, [=](std::size_t i) {
      size[i] = std::max(size[i], dot(m, &x[i * m], &x[i * m]));
      double worst = 0;
      for (std::size_t j = i * kinds; j < (i + 1) * kinds; ++j)
        worst = std::max(worst, std::abs(now[j] - start[j]) / size[i]);
      return worst;
    });
    worst_ = std::max(worst_, part);
  }

 private:
  const Problem& problem_;
  std::size_t each_;  // quantities of one neuron
  bool has_ = false;
  double worst_ = 0;
  Array<double> start_, now_, largest_;
};

}  // namespace AGF_SPACE
