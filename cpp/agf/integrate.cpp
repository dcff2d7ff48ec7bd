#include "integrate.hpp"

#include <algorithm>
#include <cmath>

#include "tableau.hpp"

namespace AGF_SPACE {

namespace {

AGF_CORE void resize(Trial& trial, std::size_t total, int stages) {
  trial.y1.resize(total);
  trial.error.resize(total);
  trial.f1.resize(total);
  trial.work.resize(total);
  for (auto& d : trial.dense) d.resize(total);
  for (int i = 0; i < stages; ++i) trial.stage[i].resize(total);
}

// What the threads of a block are handed.
struct Stages {
  const double* at[8] = {};
};
template <int n>
struct Weights {
  double of[n] = {};
};

AGF_CORE Stages stages(const Trial& trial, const double* first) {
  Stages all{};
  for (int i = 0; i < 8; ++i) all.at[i] = i == 0 ? first : trial.stage[i].data();
  return all;
}

}  // namespace

AGF_CORE Accuracy accuracy(double rtol, const Problem& problem, bool implicit) {
  constexpr double smooth = 0.1, width = 0.02, resolution = 0.005;
  if (!problem.kinked() || !implicit) return {smooth * rtol, 0};
  if (rtol * static_cast<double>(problem.samples()) >= 1) return {smooth * rtol, rtol};
  const double ramp = std::max(width * rtol, 1e5 * problem.epsilon());
  return {resolution * ramp, ramp};
}

AGF_CORE double step_reach(double error, int order) {
  return 0.9 * std::pow(std::max(error, 1e-10), -1.0 / (order + 1));
}

AGF_CORE double step_factor(double error, bool after_rejection, double most) {
  if (!std::isfinite(error)) return 0.2;
  const double factor = step_reach(error, 4);
  return std::clamp(factor, 0.2, after_rejection ? 1.0 : most);
}

AGF_CORE AGF_APART void explicit_step(Field& field, const Array<int>& which, const double* h, const double* y0,
                                      const double* f0, Trial& trial) {
  using M = DormandPrince;
  const std::size_t size = field.size(), count = which.size();
  resize(trial, count * size, M::stages);
  trial.solved = true;
  trial.has_f1 = true;
  const Stages stage = stages(trial, f0);
  double *const y1 = trial.y1.data(), *const f1 = trial.f1.data();
  for (int i = 1; i < M::stages; ++i) {
    double* const point = i + 1 == M::stages ? y1 : trial.work.data();
    Weights<M::stages> a;
    for (int j = 0; j < i; ++j) a.of[j] = M::a(i, j);
    entries(count, size, [=](std::size_t k, std::size_t e) {
      double sum = 0;
      for (int j = 0; j < i; ++j) sum += a.of[j] * stage.at[j][e];
      point[e] = y0[e] + h[k] * sum;
    });
    field.rhs(which, point, trial.stage[i].data());
  }
  Weights<M::stages> wrong, bent;
  for (int j = 0; j < M::stages; ++j) {
    wrong.of[j] = M::error(j);
    bent.of[j] = M::dense(j);
  }
  double *const out = trial.error.data(), *const d0 = trial.dense[0].data(), *const d1 = trial.dense[1].data(),
                *const d2 = trial.dense[2].data();
  entries(count, size, [=](std::size_t k, std::size_t e) {
    double error = 0, dense = 0;
    for (int j = 0; j < M::stages; ++j) {
      error += wrong.of[j] * stage.at[j][e];
      dense += bent.of[j] * stage.at[j][e];
    }
    const double slope = stage.at[M::stages - 1][e];
    const double difference = y1[e] - y0[e];
    const double spline = h[k] * f0[e] - difference;
    f1[e] = slope;
    out[e] = h[k] * error;
    d0[e] = spline;
    d1[e] = difference - h[k] * slope - spline + h[k] * dense;
    d2[e] = -h[k] * dense;
  });
}

AGF_CORE AGF_APART void implicit_step(StiffField& field, const Array<int>& which, const double* h, const double* y0,
                                      const double* f0, Trial& trial) {
  using M = Rodas5P;
  const std::size_t size = field.size(), count = which.size();
  resize(trial, count * size, M::stages);
  trial.has_f1 = false;
  trial.solved = true;
  const Stages stage = stages(trial, trial.stage[0].data());
  trial.add.resize(count * size);
  trial.scale.resize(count);
  double *const point = trial.work.data(), *const add = trial.add.data();
  double* const scale = trial.scale.data();
  each(count, [=](std::size_t k) { scale[k] = 1.0 / h[k]; });
  for (int i = 0; i < M::stages; ++i) {
    if (i > 0) {
      Weights<M::stages> a, c;
      for (int j = 0; j < i; ++j) {
        a.of[j] = M::a(i, j);
        c.of[j] = M::c(i, j);
      }
      entries(count, size, [=](std::size_t k, std::size_t e) {
        double there = y0[e], sum = 0;
        for (int j = 0; j < i; ++j) {
          there += a.of[j] * stage.at[j][e];
          sum += c.of[j] * stage.at[j][e];
        }
        point[e] = there;
        add[e] = scale[k] * sum;
      });
    }
    if (!field.stage(which, i > 0 ? point : nullptr, i > 0 ? add : f0, trial.stage[i].data())) {
      trial.solved = false;
      return;
    }
  }
  Weights<M::stages> dense[3];
  for (int q = 0; q < 3; ++q)
    for (int j = 0; j < M::stages; ++j) dense[q].of[j] = M::dense(q, j);
  double *const y1 = trial.y1.data(), *const error = trial.error.data();
  double *const d0 = trial.dense[0].data(), *const d1 = trial.dense[1].data(), *const d2 = trial.dense[2].data();
  each(count * size, [=](std::size_t e) {
    const double last = stage.at[M::stages - 1][e];
    y1[e] = point[e] + last;
    error[e] = last;
    double sum[3] = {};
    for (int j = 0; j < M::stages; ++j)
      for (int q = 0; q < 3; ++q) sum[q] += dense[q].of[j] * stage.at[j][e];
    d0[e] = sum[0];
    d1[e] = sum[1];
    d2[e] = sum[2];
  });
}

}  // namespace AGF_SPACE
