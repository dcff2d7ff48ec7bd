// Whole runs carried by blocks, beside the engines of the host on the CPU's problems.
#include "block/carrier.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <numbers>
#include <type_traits>
#include <utility>
#include <vector>

#include "../check.hpp"
#include "agf/alternate.hpp"
#include "agf/carried.hpp"
#include "agf/diagonal_flow.hpp"
#include "agf/diagonal_path.hpp"
#include "agf/direction_alternate.hpp"
#include "agf/direction_flow.hpp"
#include "agf/flow.hpp"
#include "cpu/backend.hpp"
#include "cpu/dense.hpp"
#include "cpu/diagonal.hpp"
#include "cpu/isa.hpp"
#include "cpu/modular.hpp"
#include "dense.hpp"
#include "diagonal.hpp"
#include "host.hpp"
#include "leaves.hpp"
#include "modular.hpp"

namespace {

int failures = 0;

struct Heard final : agf::Bystander {
  explicit Heard(std::size_t runs) : paths(runs), ends(runs, 0) {}
  bool seen(std::size_t, const agf::Jump&) override { return ++records >= stop_at; }
  bool seen(std::size_t, const agf::Point&, const agf::State*) override { return ++records >= stop_at; }
  void over(std::size_t run, agf::Trajectory path) override {
    paths[run] = std::move(path);
    ++ends[run];
  }
  bool stops(agf::Status& reason) override {
    reason = agf::Status::interrupted;
    return ++asked > patience;
  }
  std::vector<agf::Trajectory> paths;
  std::vector<int> ends;
  long records = 0, stop_at = 1L << 40, asked = 0, patience = 1L << 40;
};

agf::State start_of(const agf::Problem& problem, std::size_t count, unsigned seed) {
  agf::State state;
  state.count = count;
  state.params = problem.params();
  state.direction = smoke::normal(count * state.params, seed);
  for (std::size_t i = 0; i < count; ++i) {
    double* const row = &state.direction[i * state.params];
    double square = 0;
    for (std::size_t e = 0; e < state.params; ++e) square += row[e] * row[e];
    for (std::size_t e = 0; e < state.params; ++e) row[e] /= std::sqrt(square);
  }
  state.log_norm.assign(count, std::log(1e-4));
  state.active.assign(count, 0);
  return state;
}

bool same_bits(const agf::Trajectory& a, const agf::Trajectory& b) {
  return a.status == b.status && a.state.direction == b.state.direction && a.state.log_norm == b.state.log_norm &&
         a.stats.steps == b.stats.steps && a.points.size() == b.points.size();
}

// How far a carried run is from the host's: jump times and the last loss, relative; and in what they must agree.
double apart(const agf::Trajectory& got, const agf::Trajectory& expected) {
  CHECK(got.status == expected.status && got.jumps.size() == expected.jumps.size());
  double apart = 0;
  for (std::size_t k = 0; k < std::min(got.jumps.size(), expected.jumps.size()); ++k) {
    CHECK(got.jumps[k].neuron == expected.jumps[k].neuron);
    apart = std::max(apart, std::abs(got.jumps[k].time / expected.jumps[k].time - 1));
  }
  const double loss = expected.points.back().loss, scale = expected.points.front().loss;
  return std::max(apart, std::abs(got.points.back().loss - loss) / scale);
}

// Carried runs of `device` with ample memory, with too little at first, and alone; and the host's run on `host`.
template <typename Options, typename Engine>
void runs(const char* name, const agf::Problem& host, const agf::Problem& device, std::size_t count, bool directions,
          const Options& options, const Engine& engine, double tolerance) {
  constexpr std::size_t members = 3;
  agf::Freight freight{directions, false, {}, {}};
  for (unsigned seed = 0; seed < members; ++seed) {
    freight.problems.push_back(&device);
    freight.starts.push_back(start_of(device, count, seed + 1));
  }
  const std::vector<Options> own(members, options);
  Heard ample(members), scarce(members), alone(1);
  CHECK(agf::carry(agf::cuda::BlockCarrier(0), freight, own, ample).empty());
  CHECK(agf::carry(agf::cuda::BlockCarrier(0, std::size_t{1} << 14), freight, own, scarce).empty());
  const agf::Freight last{directions, false, {&device}, {freight.starts.back()}};
  CHECK(agf::carry(agf::cuda::BlockCarrier(0), last, std::vector<Options>(1, options), alone).empty());
  CHECK(same_bits(alone.paths[0], ample.paths[members - 1]));
  for (std::size_t run = 0; run < members; ++run) {
    CHECK(ample.ends[run] == 1 && scarce.ends[run] == 1);
    CHECK(same_bits(ample.paths[run], scarce.paths[run]));
    agf::Control control;
    const agf::Trajectory expected = engine(host, agf::cpu::backend(), control, freight.starts[run], options);
    const double off = apart(ample.paths[run], expected);
    if (!(off <= tolerance)) std::fprintf(stderr, "carrier, %s: run %zu differs by %g\n", name, run, off);
    CHECK(off <= tolerance);
  }
}

std::vector<double> parameters(const agf::State& state) {
  std::vector<double> theta(state.direction);
  for (std::size_t e = 0; e < theta.size(); ++e) theta[e] *= std::exp(state.log_norm[e / state.params]);
  return theta;
}

// Columns in general position; some equal, opposite, and sums of others; or two that differ by little, for which a path
// needs columns made orthonormal.
enum class Columns { general, dependent, near };

// A member of calls on diagonal networks: data, beside the same on the CPU, and where it begins.
template <typename T>
struct Diagonal {
  Diagonal(std::size_t n, std::size_t d, std::size_t depth, double log_scale, Columns kind, unsigned seed)
      : columns(inputs(n, d, kind, seed)),
        y(numbers(n, seed + 100)),
        host(columns.data(), y.data(), n, d, depth),
        device(0, {}, columns.data(), room.take(y.data(), n), n, d, depth, true) {
    start.count = d;
    start.params = depth;
    start.direction = smoke::normal(d * depth, seed + 200);
    for (std::size_t i = 0; i < d; ++i) {
      double* const u = &start.direction[i * depth];
      double square = 0;
      for (std::size_t l = 0; l < depth; ++l) square += u[l] * u[l];
      for (std::size_t l = 0; l < depth; ++l) u[l] /= std::sqrt(square);
    }
    start.log_norm.assign(d, log_scale);
    start.active.assign(d, 0);
  }
  static std::vector<T> numbers(std::size_t size, unsigned seed) {
    const auto wide = smoke::normal(size, seed);
    return std::vector<T>(wide.begin(), wide.end());
  }
  static std::vector<T> inputs(std::size_t n, std::size_t d, Columns kind, unsigned seed) {
    std::vector<T> x = numbers(n * d, seed);
    for (std::size_t e = 0; kind == Columns::near && e < n; ++e) x[n + e] = x[e] + T(1e-7) * x[n + e];
    for (std::size_t e = 0; kind == Columns::dependent && e < n; ++e) {
      x[n + e] = x[e];
      x[2 * n + e] = -x[e];
      x[3 * n + e] = x[4 * n + e] + x[5 * n + e];
    }
    return x;
  }

  std::vector<T> columns, y;
  agf::cuda::Room room{agf::cuda::Stream{}};
  agf::cpu::DiagonalCpu<T> host;
  agf::cuda::DiagonalCuda<T> device;
  agf::State start;
};

// As `runs`: `starts` false leaves starts out.
template <typename T, typename Options, typename Engine>
void diagonal_runs(const char* name, const std::vector<const Diagonal<T>*>& networks, bool starts,
                   const Options& options, const Engine& engine, double tolerance) {
  const std::size_t members = networks.size();
  const auto carry = [&](const agf::cuda::BlockCarrier& carrier, const agf::DiagonalFreight& freight, Heard& heard) {
    const std::vector<Options> own(freight.starts.size(), options);
    if constexpr (std::is_same_v<Options, agf::FlowOptions>)
      CHECK(carrier.flow(freight, own, heard).empty());
    else
      CHECK(carrier.alternate(freight, own, heard).empty());
  };
  agf::DiagonalFreight freight{false, {}, {}, {}};
  for (const Diagonal<T>* const network : networks) {
    freight.designs.push_back(&network->device.design());
    freight.targets.push_back(network->device.target().data());
    freight.starts.push_back(starts ? network->start : agf::State{});
  }
  Heard ample(members), scarce(members), alone(1);
  carry(agf::cuda::BlockCarrier(0), freight, ample);
  carry(agf::cuda::BlockCarrier(0, std::size_t{1} << 14), freight, scarce);
  carry(agf::cuda::BlockCarrier(0),
        {false, {freight.designs.back()}, {freight.targets.back()}, {freight.starts.back()}}, alone);
  CHECK(same_bits(alone.paths[0], ample.paths[members - 1]));
  for (std::size_t run = 0; run < members; ++run) {
    CHECK(ample.ends[run] == 1 && scarce.ends[run] == 1);
    CHECK(same_bits(ample.paths[run], scarce.paths[run]));
    agf::Control control;
    const auto& host = networks[run]->host;
    const agf::Trajectory expected =
        engine(host.design(), host.target().data(), control, starts ? &networks[run]->start : nullptr, options);
    const double off = apart(ample.paths[run], expected);
    if (!(off <= tolerance)) std::fprintf(stderr, "carrier, %s: run %zu differs by %g\n", name, run, off);
    CHECK(off <= tolerance);
    const agf::State &got = ample.paths[run].state, &wanted = expected.state;
    CHECK(got.active == wanted.active && got.extra.all().size() == wanted.extra.all().size());
    const double moved = smoke::distance(parameters(got), parameters(wanted));
    if (!(moved <= tolerance)) std::fprintf(stderr, "carrier, %s: state of run %zu differs by %g\n", name, run, moved);
    CHECK(moved <= tolerance);
  }
}

template <typename T>
void diagonal(std::size_t n, std::size_t d, std::size_t depth, Columns kind, bool adaptive) {
  const Diagonal<T> small(n, d, depth, depth == 2 ? -20 : -3, kind, 1);
  const Diagonal<T> other(n, d, depth, depth == 2 ? -2 : -1, kind, 2);
  const std::vector<const Diagonal<T>*> networks{&small, &other, &small};
  agf::DiagonalPathOptions following;
  following.depth = depth;
  following.adaptive_rate = adaptive;
  following.loss_tol = 1e-10;
  following.max_jumps = 25;
  // Rates of a path are right to 1e-11 of what is left of the residual, whose square falls to 1e-10 of itself; times
  // add them up.
  constexpr double exact = 1e-6;
  diagonal_runs("diagonal path", networks, true, following, agf::diagonal_path, exact);
  diagonal_runs("diagonal limit", networks, false, following, agf::diagonal_path, exact);
  following.activation_window = 0.5;
  diagonal_runs("diagonal path with a window", networks, true, following, agf::diagonal_path, exact);
  agf::FlowOptions flowing;
  flowing.t_end = 30;
  flowing.rtol = 1e-6;
  flowing.adaptive_rate = adaptive;
  const auto flow = [](const agf::Design& design, const double* y, agf::Control& control, const agf::State* start,
                       const agf::FlowOptions& options) {
    return agf::diagonal_flow(design, y, agf::cpu::backend(), control, *start, options);
  };
  // The local tolerance is a tenth of rtol, and both runs differ from the flow by some of these.
  diagonal_runs("diagonal flow", networks, true, flowing, flow, 2e-5);
  flowing.save_all = false;
  flowing.save_at = {0, 1, 10, 30};
  diagonal_runs("diagonal flow with times", networks, true, flowing, flow, 2e-5);
}

// Whoever watches stops a run at a record, and sees each once, however often the run begins again; whoever waits stops
// them all.
void stops(const agf::Problem& device, std::size_t count) {
  agf::FlowOptions options;
  options.t_end = 1e4;
  options.rtol = 1e-6;
  const agf::Freight freight{false, true, {&device}, {start_of(device, count, 1)}};
  Heard watching(1), watching_again(1), waiting(1);
  watching.stop_at = 5;
  CHECK(agf::carry(agf::cuda::BlockCarrier(0), freight, std::vector{options}, watching).empty());
  CHECK(watching.paths[0].status == agf::Status::callback && watching.paths[0].points.size() == 5);
  watching.stop_at = watching_again.stop_at = 1000;
  watching.records = 0;
  CHECK(agf::carry(agf::cuda::BlockCarrier(0), freight, std::vector{options}, watching).empty());
  CHECK(agf::carry(agf::cuda::BlockCarrier(0, std::size_t{1} << 12), freight, std::vector{options}, watching_again)
            .empty());
  CHECK(watching.records == watching_again.records);
  CHECK(same_bits(watching.paths[0], watching_again.paths[0]));
  waiting.patience = 0;
  CHECK(agf::carry(agf::cuda::BlockCarrier(0), freight, std::vector{options}, waiting).empty());
  CHECK(waiting.ends[0] == 0 || waiting.paths[0].status == agf::Status::interrupted);
}

}  // namespace

int carrier_failures() {
  const std::size_t n = 9, d = 3, c = 2;
  const auto x = smoke::normal(n * d, 1), y = smoke::normal(n * c, 2);
  agf::AlternateOptions alternating;
  alternating.max_jumps = 2;
  alternating.active_time = 10;
  alternating.rtol = 1e-6;
  agf::FlowOptions flowing;
  flowing.t_end = 20;
  flowing.rtol = 1e-6;
  flowing.save_all = false;
  flowing.save_at = {5, 20};
  // A run's times are right to some ten times its rtol, and so are the other's; where sigma is kinked each of many
  // kinks adds an error of its own.
  constexpr double smooth = 2e-5, kinked = 5e-4;
  for (const agf::Sigma sigma : {agf::Sigma::tanh, agf::Sigma::relu, agf::Sigma::identity}) {
    const double tolerance = sigma == agf::Sigma::relu ? kinked : smooth;
    const agf::cpu::DenseCpu<double> host(x.data(), n, d, y.data(), c, sigma, 0);
    const agf::cuda::DenseCuda<double> device(0, {}, x.data(), n, d, y.data(), c, true, sigma, 0);
    runs("dense alternating", host, device, 3, false, alternating, agf::alternate, tolerance);
    runs("dense flow", host, device, 3, false, flowing, agf::gradient_flow, tolerance);
    if (sigma != agf::Sigma::identity) continue;
    runs("directions alternating", host, device, 3, true, alternating, agf::alternate_directions, tolerance);
    runs("directions flow", host, device, 3, true, flowing, agf::gradient_flow_of_directions, tolerance);
    stops(device, 3);
  }
  std::vector<double> wave(5);
  for (std::size_t j = 0; j < wave.size(); ++j)
    wave[j] = 2 * std::cos(2 * std::numbers::pi * static_cast<double>(j) / 5) +
              std::cos(4 * std::numbers::pi * static_cast<double>(j) / 5 + 0.3);
  const std::vector<std::size_t> frequencies{1, 2};
  const agf::cpu::ModularCpu host(wave.data(), wave.size(), frequencies);
  const agf::cuda::ModularCuda device(0, wave.data(), wave.size(), frequencies);
  runs("modular alternating", host, device, 3, false, alternating, agf::alternate, smooth);

  agf::cuda::host().columns = &agf::cpu::isa().columns;
  for (const std::size_t depth : {std::size_t{2}, std::size_t{3}}) {
    for (const bool adaptive : {false, true}) {
      if (depth == 2 && adaptive) continue;
      diagonal<double>(20, 7, depth, Columns::general, adaptive);
      // More columns than samples: all of these may be felt at a time.
      diagonal<double>(6, 20, depth, Columns::general, adaptive);
      diagonal<double>(30, 9, depth, Columns::dependent, adaptive);
    }
    diagonal<float>(15, 12, depth, Columns::general, false);
  }
  // Long enough for the Gram matrix of all columns, and for threads to share each loop.
  diagonal<double>(60, 80, 2, Columns::general, false);
  diagonal<double>(40, 24, 2, Columns::near, false);
  return failures;
}
