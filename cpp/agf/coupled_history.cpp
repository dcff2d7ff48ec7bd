// The history of the multistep method: how it begins, and how it follows the neurons.
#include "coupled.hpp"

#include <algorithm>

#include "sphere.hpp"

namespace agf {

// From the continuous output of the one step that starts it.
void Coupled::begin_history() {
  constexpr int order = 4;
  std::vector<std::vector<double>> points(order + 1, std::vector<double>(size()));
  for (int j = 0; j <= order; ++j)
    for (std::size_t e = 0; e < size(); ++e)
      points[static_cast<std::size_t>(j)][e] = trial_.at(0, e, size(), y_.data(), 1 - static_cast<double>(j) / order);
  history_.start(order, last_ / order, points);
}

// The history follows the neurons: into the balance of theta_ and into the charts around the new directions.
void Coupled::move_history() {
  const std::size_t n = theta_.size();
  const int points = history_.points();
  if (!balance_.empty())
    for (std::size_t e = 0; e < n; ++e)
      if (trial_.y1[e] != 0)
        for (int j = 0; j < points; ++j) history_.row(j)[e] *= theta_[e] / trial_.y1[e];
  double values[Differences::most + 2];
  std::vector<double> there(static_cast<std::size_t>(points) * m_);
  for (std::size_t k = 0; k < faint_.size(); ++k) {
    const std::size_t at = n + k * (m_ + 1);
    const double *old = before_faint_[k].direction.data(), *now = faint_[k].direction.data();
    for (std::size_t e = 0; e < m_; ++e) {
      for (int j = 0; j < points; ++j) values[j] = history_.row(j)[at + e];
      Differences::involution(points, values);
      for (int j = 0; j < points; ++j) there[static_cast<std::size_t>(j) * m_ + e] = old[e] + values[j];
    }
    for (int j = 0; j < points; ++j) {
      double* u = &there[static_cast<std::size_t>(j) * m_];
      const double along = dot(m_, u, now);
      for (std::size_t e = 0; e < m_; ++e) u[e] = u[e] / along - now[e];
    }
    for (std::size_t e = 0; e < m_; ++e) {
      for (int j = 0; j < points; ++j) values[j] = there[static_cast<std::size_t>(j) * m_ + e];
      Differences::involution(points, values);
      for (int j = 0; j < points; ++j) history_.row(j)[at + e] = values[j];
    }
  }
}

void Coupled::regroup(const std::vector<int>& fading, const std::vector<int>& appearing) {
  const std::size_t n = theta_.size();
  auto member = [](const std::vector<int>& set, std::size_t i) {
    return std::find(set.begin(), set.end(), static_cast<int>(i)) != set.end();
  };
  // Where each neuron comes from: coupled ones by number, faint ones after them.
  std::vector<std::size_t> to_coupled, to_faint;
  for (std::size_t i = 0; i < coupled(); ++i) (member(fading, i) ? to_faint : to_coupled).push_back(i);
  for (std::size_t j = 0; j < faint_.size(); ++j)
    (member(appearing, j) ? to_coupled : to_faint).push_back(coupled() + j);

  std::vector<Dormant> faint;
  for (std::size_t from : to_faint) {
    if (from >= coupled()) {
      faint.push_back(faint_[from - coupled()]);
      continue;
    }
    const double* x = &theta_[from * m_];
    const double length = norm(m_, x);
    Dormant neuron{std::vector<double>(x, x + m_), std::log(length), 0};
    for (double& e : neuron.direction) e /= length;
    faint.push_back(std::move(neuron));
  }

  // The points of the history (or the present one alone), each neuron in its new coordinates.
  const int order = history_.order();
  const double step = history_.step();
  std::vector<std::vector<double>> points(static_cast<std::size_t>(order) + 1);
  double values[Differences::most + 1];
  std::vector<std::vector<double>> old(points.size(), y_);
  if (order > 0)
    for (std::size_t e = 0; e < size(); ++e) {
      for (int j = 0; j <= order; ++j) values[j] = history_.row(j)[e];
      Differences::involution(order + 1, values);
      for (int j = 0; j <= order; ++j) old[static_cast<std::size_t>(j)][e] = values[j];
    }
  for (std::size_t p = 0; p < points.size(); ++p) {
    std::vector<double>& point = points[p];
    for (std::size_t from : to_coupled) {
      if (from < coupled()) {
        point.insert(point.end(), &old[p][from * m_], &old[p][from * m_] + m_);
        continue;
      }
      const double* row = &old[p][n + (from - coupled()) * (m_ + 1)];
      const auto& u = faint_[from - coupled()].direction;
      const double length = std::exp(row[m_]) / std::sqrt(1 + dot(m_, row, row));
      for (std::size_t e = 0; e < m_; ++e) point.push_back(length * (u[e] + row[e]));
    }
    for (std::size_t k = 0; k < to_faint.size(); ++k) {
      const std::size_t from = to_faint[k];
      if (from >= coupled()) {
        const double* row = &old[p][n + (from - coupled()) * (m_ + 1)];
        point.insert(point.end(), row, row + m_ + 1);
        continue;
      }
      const double *x = &old[p][from * m_], *u = faint[k].direction.data();
      const double along = dot(m_, u, x);
      for (std::size_t e = 0; e < m_; ++e) point.push_back(p == 0 ? 0.0 : x[e] / along - u[e]);
      point.push_back(std::log(norm(m_, x)));
    }
  }

  std::vector<double> theta(points[0].begin(), points[0].begin() + static_cast<std::ptrdiff_t>(to_coupled.size() * m_));
  const bool implicit = implicit_;
  const double hint = h_;
  reset(std::move(theta), std::move(faint));
  h_ = hint;
  if (!implicit || order == 0) return;
  if (!implicit_) {
    go_implicit();
    evaluate(true);
  }
  history_.start(order, step, points);
}

}  // namespace agf
