#include "integrate.hpp"

#include <algorithm>
#include <cmath>

#include "tableau.hpp"

namespace agf {

namespace {

void resize(Trial& trial, std::size_t total, int stages) {
  trial.y1.resize(total);
  trial.error.resize(total);
  trial.f1.resize(total);
  trial.work.resize(total);
  for (auto& d : trial.dense) d.resize(total);
  for (int i = 0; i < stages; ++i) trial.stage[i].resize(total);
}

}  // namespace

Accuracy accuracy(double rtol, const Problem& problem, bool implicit) {
  constexpr double smooth = 0.1, width = 0.02, resolution = 0.005;
  if (!problem.kinked() || !implicit) return {smooth * rtol, 0};
  if (rtol * static_cast<double>(problem.samples()) >= 1) return {smooth * rtol, rtol};
  const double ramp = std::max(width * rtol, 1e5 * problem.epsilon());
  return {resolution * ramp, ramp};
}

double step_reach(double error, int order) { return 0.9 * std::pow(std::max(error, 1e-10), -1.0 / (order + 1)); }

double step_factor(double error, bool after_rejection, double most) {
  if (!std::isfinite(error)) return 0.2;
  const double factor = step_reach(error, 4);
  return std::clamp(factor, 0.2, after_rejection ? 1.0 : most);
}

void explicit_step(Field& field, const std::vector<int>& which, const double* h, const double* y0, const double* f0,
                   Trial& trial) {
  using M = DormandPrince;
  const std::size_t size = field.size(), count = which.size();
  resize(trial, count * size, M::stages);
  trial.solved = true;
  trial.has_f1 = true;
  std::copy(f0, f0 + count * size, trial.stage[0].begin());
  for (int i = 1; i < M::stages; ++i) {
    double* point = i + 1 == M::stages ? trial.y1.data() : trial.work.data();
    for (std::size_t k = 0; k < count; ++k)
      for (std::size_t e = k * size; e < (k + 1) * size; ++e) {
        double sum = 0;
        for (int j = 0; j < i; ++j) sum += M::a[i][j] * trial.stage[j][e];
        point[e] = y0[e] + h[k] * sum;
      }
    field.rhs(which, point, trial.stage[i].data());
  }
  trial.f1 = trial.stage[M::stages - 1];
  for (std::size_t k = 0; k < count; ++k)
    for (std::size_t e = k * size; e < (k + 1) * size; ++e) {
      double error = 0, dense = 0;
      for (int j = 0; j < M::stages; ++j) {
        error += M::error[j] * trial.stage[j][e];
        dense += M::dense[j] * trial.stage[j][e];
      }
      const double difference = trial.y1[e] - y0[e];
      const double spline = h[k] * f0[e] - difference;
      trial.error[e] = h[k] * error;
      trial.dense[0][e] = spline;
      trial.dense[1][e] = difference - h[k] * trial.f1[e] - spline + h[k] * dense;
      trial.dense[2][e] = -h[k] * dense;
    }
}

void implicit_step(Field& field, const std::vector<int>& which, const double* h, const double* y0, const double* f0,
                   Trial& trial) {
  using M = Rodas5P;
  const std::size_t size = field.size(), count = which.size();
  resize(trial, count * size, M::stages);
  trial.has_f1 = false;
  trial.solved = true;
  for (int i = 0; i < M::stages; ++i) {
    double* k_i = trial.stage[i].data();
    if (i == 0) {
      std::copy(f0, f0 + count * size, k_i);
    } else {
      for (std::size_t e = 0; e < count * size; ++e) {
        double sum = y0[e];
        for (int j = 0; j < i; ++j) sum += M::a[i][j] * trial.stage[j][e];
        trial.work[e] = sum;
      }
      field.rhs(which, trial.work.data(), k_i);
      for (std::size_t k = 0; k < count; ++k) {
        const double scale = 1.0 / h[k];
        for (std::size_t e = k * size; e < (k + 1) * size; ++e) {
          double sum = 0;
          for (int j = 0; j < i; ++j) sum += M::c[i][j] * trial.stage[j][e];
          k_i[e] += scale * sum;
        }
      }
    }
    if (!field.solve(which, k_i)) {
      trial.solved = false;
      return;
    }
  }
  for (std::size_t e = 0; e < count * size; ++e) {
    const double last = trial.stage[M::stages - 1][e];
    trial.y1[e] = trial.work[e] + last;
    trial.error[e] = last;
    for (int q = 0; q < 3; ++q) {
      double sum = 0;
      for (int j = 0; j < M::stages; ++j) sum += M::dense[q][j] * trial.stage[j][e];
      trial.dense[q][e] = sum;
    }
  }
}

}  // namespace agf
