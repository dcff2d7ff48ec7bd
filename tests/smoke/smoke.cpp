// The core and its CPU without Python, small enough for the sanitizers: leaves against differences, same bits for any
// number of threads, the multistep formulas, both verbs on a kinked problem, a smooth one and one of moments, one
// problem shared by two threads, and a run that is stopped from outside.
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "agf/alternate.hpp"
#include "agf/backend.hpp"
#include "agf/direction_alternate.hpp"
#include "agf/direction_flow.hpp"
#include "agf/flow.hpp"
#include "agf/multistep.hpp"
#include "agf/problem.hpp"
#include "check.hpp"
#include "cpu/backend.hpp"
#include "cpu/blas.hpp"
#include "cpu/dense.hpp"
#include "cpu/modular.hpp"
#include "cpu/moments.hpp"
#include "cpu/pool.hpp"

int diagonal_failures();
int thread_failures();  // threads.cpp

namespace {

int failures = 0;

std::vector<double> normal(std::size_t size, unsigned seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> draw;
  std::vector<double> out(size);
  for (auto& value : out) value = draw(generator);
  return out;
}

// y is what a network of three neurons of the same kind says on x, so that there is something to learn.
template <typename T>
std::unique_ptr<agf::cpu::DenseCpu<T>> make(agf::Sigma sigma, std::size_t n, std::size_t d, std::size_t c) {
  const auto x = normal(n * d, 1);
  const auto w = normal(3 * d, 2), a = normal(3 * c, 3);
  std::vector<T> inputs(x.begin(), x.end()), targets(n * c);
  for (std::size_t s = 0; s < n; ++s)
    for (std::size_t i = 0; i < 3; ++i) {
      double z = 0;
      for (std::size_t j = 0; j < d; ++j) z += x[s * d + j] * w[i * d + j] / std::sqrt(static_cast<double>(d));
      const double value = sigma == agf::Sigma::power2 ? z * z : sigma == agf::Sigma::identity || z > 0 ? z : 0;
      for (std::size_t k = 0; k < c; ++k) targets[s * c + k] += static_cast<T>(value * a[i * c + k]);
    }
  return std::make_unique<agf::cpu::DenseCpu<T>>(inputs.data(), n, d, targets.data(), c, sigma, 0.0);
}

// Population flow of attention heads on three principal components, in the basis of these.
std::unique_ptr<agf::Problem> attention() {
  const std::size_t dimension = 3;
  const double variance[] = {1, 0.6, 0.3}, context = 5;
  double trace = 0, rest = 0;
  for (const double value : variance) trace += value;
  std::vector<double> queries(dimension * dimension, 0.0), keys = queries, targets = queries;
  for (std::size_t j = 0; j < dimension; ++j) {
    const double seen = context * variance[j] * ((context + 1) * variance[j] + trace);
    queries[j * (dimension + 1)] = std::sqrt(variance[j]);
    keys[j * (dimension + 1)] = std::sqrt(seen);
    targets[j * (dimension + 1)] = context * variance[j] * std::sqrt(variance[j] / seen);
    rest += 0.5 * variance[j] - 0.5 * targets[j * (dimension + 1)] * targets[j * (dimension + 1)];
  }
  return std::make_unique<agf::cpu::Moments>(agf::ProductLayout::trilinear(dimension),
                                             agf::PseudoSamples::grid(dimension, dimension, queries, keys), targets,
                                             rest);
}

// A linear network of 4 inputs and 2 outputs on 3 pseudo-samples, or heads on 5 pseudo-samples of 2 x 2 matrices.
std::unique_ptr<agf::Problem> linear() {
  return std::make_unique<agf::cpu::Moments>(agf::ProductLayout::bilinear(4, 2),
                                             agf::PseudoSamples::grid(2, 4, {}, normal(3 * 4, 61)), normal(2 * 3, 62),
                                             0.1);
}
std::unique_ptr<agf::Problem> prompts() {
  return std::make_unique<agf::cpu::Moments>(agf::ProductLayout::trilinear(2),
                                             agf::PseudoSamples::list(2, 2, normal(5 * 4, 63)), normal(5, 64), 0.1);
}

agf::State start(std::size_t count, std::size_t params, double log_scale, unsigned seed) {
  agf::State state;
  state.count = count;
  state.params = params;
  state.direction = normal(count * params, seed);
  for (std::size_t i = 0; i < count; ++i) {
    double square = 0;
    for (std::size_t j = 0; j < params; ++j) square += std::pow(state.direction[i * params + j], 2);
    for (std::size_t j = 0; j < params; ++j) state.direction[i * params + j] /= std::sqrt(square);
    state.log_norm.push_back(log_scale + 0.5 * std::log(square / static_cast<double>(params)));
    state.active.push_back(state.log_norm.back() >= 0);
  }
  return state;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// L, grad L and (hess L) v.
struct Leaves {
  double loss = 0;
  std::vector<double> gradient, curvature;
};

Leaves leaves(const agf::Problem& problem, const std::vector<double>& theta, const std::vector<double>& v) {
  const std::size_t count = theta.size() / problem.params();
  auto r = problem.make_signal(), dr = problem.make_signal();
  Leaves out;
  out.loss = problem.residual(theta.data(), count, *r);
  std::vector<double> utility(count);
  out.gradient.resize(theta.size());
  out.curvature.resize(theta.size());
  problem.utility(theta.data(), count, *r, utility.data(), out.gradient.data());
  problem.residual_derivative(theta.data(), v.data(), count, *dr);
  problem.curvature_vector(theta.data(), v.data(), count, *r, dr.get(), out.curvature.data());
  for (auto& value : out.gradient) value = -value;
  for (auto& value : out.curvature) value = -value;
  return out;
}

void differences(const agf::Problem& problem, double eps) {
  const std::size_t count = 5, size = count * problem.params();
  const auto theta = normal(size, 11);
  auto v = normal(size, 12);
  const double norm = std::sqrt(dot(v, v));
  for (auto& value : v) value /= norm;
  // Central differences: h^2 of truncation beside eps/h of rounding; the few samples whose kink lies within h of zero
  // add h each.
  const double h = std::cbrt(eps);
  auto forth = theta, back = theta;
  for (std::size_t i = 0; i < size; ++i) {
    forth[i] += h * v[i];
    back[i] -= h * v[i];
  }
  const auto at = leaves(problem, theta, v), up = leaves(problem, forth, v), down = leaves(problem, back, v);
  const double scale = 1 + std::abs(at.loss) + std::sqrt(dot(at.gradient, at.gradient));
  CHECK(std::abs((up.loss - down.loss) / (2 * h) - dot(at.gradient, v)) <= 1e3 * h * h * scale + h * scale / 10);
  double worst = 0;
  for (std::size_t i = 0; i < size; ++i)
    worst = std::max(worst, std::abs((up.gradient[i] - down.gradient[i]) / (2 * h) - at.curvature[i]));
  // A kink crossed within the difference is a step of sigma' on one of n samples.
  const double kink = problem.kinked() ? 10.0 / static_cast<double>(problem.samples()) : 0;
  CHECK(worst <= (1e3 * h * h + kink + h / 10) * scale * 10);
  // Full matrices agree with products.
  std::vector<double> hessian(size * size), product(size, 0.0);
  auto r = problem.make_signal();
  problem.residual(theta.data(), count, *r);
  problem.loss_hessian(theta.data(), count, *r, hessian.data());
  for (std::size_t i = 0; i < size; ++i)
    for (std::size_t j = 0; j < size; ++j) product[i] += hessian[i * size + j] * v[j];
  for (std::size_t i = 0; i < size; ++i) CHECK(std::abs(product[i] - at.curvature[i]) <= 1e4 * eps * scale * scale);
}

void linear_algebra(std::size_t n) {
  auto& backend = agf::cpu::backend();
  const auto b = normal(n * n, 21);
  std::vector<double> a(n * n, 0.0), rhs(n, 1.0);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t k = 0; k < n; ++k) a[i * n + j] += b[i * n + k] * b[j * n + k];
      if (i == j) a[i * n + j] += 1;
    }
  const auto residual = [&](const std::vector<double>& x) {
    double worst = 0;
    for (std::size_t i = 0; i < n; ++i) {
      double sum = -1;
      for (std::size_t j = 0; j < n; ++j) sum += a[i * n + j] * x[j];
      worst = std::max(worst, std::abs(sum));
    }
    return worst;
  };
  auto factor = a, x = rhs;
  CHECK(backend.cholesky(n, factor.data()));
  backend.cholesky_solve(n, factor.data(), x.data(), 1);
  CHECK(residual(x) <= 1e-12);
  factor = a;
  x = rhs;
  std::vector<int> pivots(n);
  CHECK(backend.lu(n, factor.data(), pivots.data()));
  backend.lu_solve(n, factor.data(), pivots.data(), x.data(), 1);
  CHECK(residual(x) <= 1e-12);
  factor = a;
  std::vector<double> values(n);
  backend.eigen(n, factor.data(), values.data());
  for (std::size_t k = 0; k < n; ++k)
    for (std::size_t i = 0; i < n; ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < n; ++j) sum += a[i * n + j] * factor[k * n + j];
      CHECK(std::abs(sum - values[k] * factor[k * n + i]) <= 1e-11 * values[n - 1]);
    }
  factor.assign(n * n, 0.0);
  CHECK(!backend.cholesky(n, factor.data()));
  std::atomic<int> ran{0};
  backend.parallel(100, [&](std::size_t) { ++ran; });
  CHECK(ran == 100);
  bool thrown = false;
  try {
    backend.parallel(8, [&](std::size_t task) {
      if (task == 3) throw 3;
    });
  } catch (int) {
    thrown = true;
  }
  CHECK(thrown);
}

// C = alpha op(A) op(B) + beta C at every size of tails, beside sums by hand; what lies around C stays as it was.
void products() {
  using agf::cpu::blas::Op;
  for (std::size_t n = 1; n <= 19; ++n) {
    const std::size_t m = 20 - n, k = 3 * n - 2, room = n + 3;
    const auto a = normal(m * k, 31), b = normal(k * n, 32), before = normal(m * room, 33);
    for (const Op a_op : {Op::none, Op::transpose})
      for (const Op b_op : {Op::none, Op::transpose})
        for (const double beta : {0.0, -0.5}) {
          auto c = before;
          agf::cpu::blas::gemm<double>(a_op, b_op, m, n, k, 1.5, a.data(), a_op == Op::none ? k : m, b.data(),
                                       b_op == Op::none ? n : k, beta, c.data(), room);
          for (std::size_t i = 0; i < m; ++i)
            for (std::size_t j = 0; j < room; ++j) {
              double sum = j < n ? beta * before[i * room + j] : before[i * room + j];
              for (std::size_t e = 0; j < n && e < k; ++e)
                sum += 1.5 * a[a_op == Op::none ? i * k + e : e * m + i] * b[b_op == Op::none ? e * n + j : j * k + e];
              CHECK(std::abs(c[i * room + j] - sum) <= 1e-13 * static_cast<double>(k));
            }
        }
  }
}

// Large enough that the pool shares the work.
void same_bits() {
  const auto problem = make<float>(agf::Sigma::relu, 3001, 33, 4);
  const std::size_t size = 40 * problem->params();
  const auto theta = normal(size, 31), v = normal(size, 32);
  agf::cpu::pool::set_threads(1);
  const auto one = leaves(*problem, theta, v);
  for (std::size_t threads = 2; threads <= 3; ++threads) {
    agf::cpu::pool::set_threads(threads);
    const auto many = leaves(*problem, theta, v);
    CHECK(many.loss == one.loss && many.gradient == one.gradient && many.curvature == one.curvature);
  }
}

agf::Trajectory alternate(const agf::Problem& problem, double log_scale, unsigned seed) {
  agf::Control control;
  agf::AlternateOptions options;
  options.max_jumps = 2;
  options.active_time = 10;
  options.rtol = 1e-6;
  return agf::alternate(problem, agf::cpu::backend(), control, start(4, problem.params(), log_scale, seed), options);
}

void verbs(const agf::Problem& problem) {
  for (const double log_scale : {std::log(1e-2), -700.0, -23025.85}) {
    const auto path = alternate(problem, log_scale, 41);
    CHECK(path.jumps.size() == 2);
    CHECK(path.points.size() == path.jumps.size() + 1);
    for (const auto& jump : path.jumps) {
      CHECK(std::isfinite(jump.loss_after) && std::isfinite(jump.scaled_time));
      double square = 0;
      for (const double value : jump.direction) square += value * value;
      CHECK(std::abs(square - 1) <= 1e-12);
    }
    CHECK(path.points.back().loss < path.points.front().loss);
  }
  agf::Control control;
  agf::FlowOptions options;
  options.rtol = 1e-6;
  options.t_end = 2;
  const auto flow =
      agf::gradient_flow(problem, agf::cpu::backend(), control, start(4, problem.params(), std::log(0.5), 41), options);
  CHECK(flow.status == agf::Status::t_end || flow.status == agf::Status::loss_tol);
  CHECK(flow.points.size() >= 3);
  for (std::size_t k = 1; k < flow.points.size(); ++k)
    CHECK(flow.points[k].loss <= flow.points[k - 1].loss * (1 + 1e-13) &&
          flow.points[k].time > flow.points[k - 1].time);
}

// y' = -y by the multistep formulas: the error falls with the power of the step that the order promises; a change of
// step carries polynomials of the order without error.
void multistep() {
  for (int order = 1; order <= agf::Differences::most; ++order) {
    double error[2];
    for (int fine = 0; fine < 2; ++fine) {
      const double step = fine == 0 ? 0.04 : 0.02;
      const int steps = fine == 0 ? 20 : 40;
      agf::Differences history, before;
      std::vector<double> points, correction(1), between;
      for (int j = 0; j <= order; ++j) points.push_back(std::exp(j * step));
      history.start(order, step, points);
      for (int i = 0; i < steps; ++i) {
        before = history;
        double predicted = 0, psi = 0;
        before.prediction()(0, predicted, psi);
        // -(p + d) = shift (psi + d)
        correction[0] = -(predicted + before.shift() * psi) / (1 + before.shift());
        history.advance_from(before)(0, correction[0]);
      }
      error[fine] = std::abs(history.row(0)[0] / std::exp(-steps * step) - 1);
      before.between(0.5, correction, between);
      CHECK(std::abs(between[0] / std::exp(-(steps - 0.5) * step) - 1) < 4 * (error[fine] + std::pow(step, order + 1)));
    }
    const double slope = std::log2(error[0] / error[1]);
    CHECK(std::abs(slope - order) < 0.35);

    auto polynomial = [order](double t) { return std::pow(1 + t, order); };
    agf::Differences history;
    std::vector<double> points;
    for (int j = 0; j <= order; ++j) points.push_back(polynomial(-0.1 * j));
    history.start(order, 0.1, points);
    history.change(order, 0.37);
    double values[agf::Differences::most + 2];
    for (int j = 0; j <= order; ++j) values[j] = history.row(j)[0];
    agf::Differences::involution(order + 1, values);
    for (int j = 0; j <= order; ++j) CHECK(std::abs(values[j] - polynomial(-0.037 * j)) < 1e-13);
  }
}

void shared(const agf::Problem& problem) {
  agf::cpu::pool::set_threads(2);
  const auto alone = alternate(problem, -5, 51), other_alone = alternate(problem, -6, 52);
  agf::Trajectory one, two;
  std::thread first([&] { one = alternate(problem, -5, 51); });
  std::thread second([&] { two = alternate(problem, -6, 52); });
  first.join();
  second.join();
  CHECK(one.state.log_norm == alone.state.log_norm && one.state.direction == alone.state.direction);
  CHECK(two.state.log_norm == other_alone.state.log_norm && two.state.direction == other_alone.state.direction);
}

void stopped(const agf::Problem& problem) {
  agf::Control control;
  int asked = 0;
  control.interrupted = [&] { return ++asked > 3; };
  agf::AlternateOptions options;
  const auto path = agf::alternate(problem, agf::cpu::backend(), control, start(4, problem.params(), -5, 41), options);
  CHECK(path.status == agf::Status::interrupted);
  CHECK(path.state.count == 4);
  agf::Control second;
  agf::FlowOptions flow;
  flow.t_end = 1e6;
  int points = 0;
  flow.observer = [&](const agf::Point&, const agf::State*) { return ++points == 5; };
  const auto curve = agf::gradient_flow(problem, agf::cpu::backend(), second, start(4, problem.params(), -5, 41), flow);
  CHECK(curve.status == agf::Status::callback && points == 5);
}

}  // namespace

// Linear networks by directions of the neuron space, from e^-23000.
void directions(const agf::Problem& problem) {
  agf::State from = start(7, problem.params(), -23000, 6);
  agf::Control control, other;
  agf::AlternateOptions options;
  options.loss_tol = 1e-9;
  const agf::Trajectory path = agf::alternate_directions(problem, agf::cpu::backend(), control, from, options);
  CHECK(path.status == agf::Status::loss_tol && path.jumps.size() == 2);
  agf::FlowOptions flow_options;
  flow_options.loss_tol = 1e-9;
  flow_options.t_end = 2 * path.state.time;
  flow_options.save_all = false;
  flow_options.save_at = {0.5 * path.state.time, path.state.time};
  const agf::Trajectory flow =
      agf::gradient_flow_of_directions(problem, agf::cpu::backend(), other, from, flow_options);
  CHECK(flow.status == agf::Status::loss_tol && flow.states.size() == 2);
  agf::Control third;
  const agf::Trajectory rest =
      agf::gradient_flow_of_directions(problem, agf::cpu::backend(), third, path.jumps[0].state, {});
  CHECK(!rest.points.empty());
}

int main() {
  agf::cpu::blas::load();
  const auto relu = make<double>(agf::Sigma::relu, 60, 5, 2);
  const auto square = make<double>(agf::Sigma::power2, 60, 5, 2);
  const auto single = make<float>(agf::Sigma::power2, 60, 5, 2);
  differences(*relu, 2.2e-16);
  differences(*square, 2.2e-16);
  differences(*single, 1.2e-7);
  const auto heads = attention();
  differences(*heads, 2.2e-16);
  differences(*linear(), 2.2e-16);
  differences(*prompts(), 2.2e-16);
  for (const std::size_t n : {1, 7, 8, 16, 29}) linear_algebra(n);
  products();
  same_bits();
  multistep();
  verbs(*relu);
  verbs(*square);
  verbs(*heads);
  shared(*relu);
  shared(*square);
  stopped(*relu);
  const std::vector<double> wave{1.0, 0.6, -0.5, -1.3, -0.6, 0.8};
  const agf::cpu::ModularCpu modular(wave.data(), wave.size(), {1, 2, 3});
  std::vector<double> basis;
  const auto compact = modular.reduced(basis);
  differences(modular, 2.2e-16);
  differences(*compact, 2.2e-16);
  verbs(modular);
  directions(*make<double>(agf::Sigma::identity, 60, 5, 2));
  failures += diagonal_failures();
  failures += thread_failures();
  if (failures == 0) std::puts("smoke: all good");
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
