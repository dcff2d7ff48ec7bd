// Diagonal networks without Python: path and flow of a small problem, and that they agree.
#include <cmath>
#include <cstdio>
#include <vector>

#include "agf/diagonal_flow.hpp"
#include "agf/diagonal_path.hpp"
#include "cpu/backend.hpp"
#include "cpu/diagonal.hpp"
#include "cpu/isa.hpp"

namespace {

// A fixed scatter of numbers in [-1, 1].
std::vector<double> scatter(std::size_t count) {
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = std::sin(1.0 + 7.3 * static_cast<double>(i * i % 101));
  return values;
}

agf::State small_state(std::size_t count, std::size_t depth, double log_scale) {
  agf::State state;
  state.count = count;
  state.params = depth;
  state.direction.assign(count * depth, std::sqrt(1.0 / static_cast<double>(depth - 1)));
  for (std::size_t i = 0; i < count; ++i) state.direction[(i + 1) * depth - 1] = 0;
  state.log_norm.assign(count, log_scale);
  state.active.assign(count, 0);
  return state;
}

// (1 + 2^-30) (1 + 2^-31) - (1 + 2^-30 + 2^-31) = 2^-61, of which sums of doubles keep nothing.
int extended_failures() {
  constexpr std::size_t n = 11;
  const std::vector<double> column(n, 1 + std::ldexp(1, -30)), one(n, 1.0);
  const double* columns[] = {column.data(), one.data()};
  const double factors[] = {1 + std::ldexp(1, -31), -(1 + std::ldexp(1, -30) + std::ldexp(1, -31))};
  int failures = 0;
  for (const agf::cpu::Isa* const* set = agf::cpu::isa_available(); *set; ++set) {
    std::vector<double> high(n, 0.0), low(n, 0.0);
    (*set)->double_columns.extended(n, 2, columns, factors, high.data(), low.data());
    bool good = true;
    for (std::size_t i = 0; i < n; ++i) good = good && high[i] + low[i] == std::ldexp(1, -61);
    if (good) continue;
    ++failures;
    std::printf("smoke: sums in twice the precision wrong with %s\n", (*set)->name);
  }
  return failures;
}

}  // namespace

int diagonal_failures() {
  int failures = extended_failures();
  constexpr std::size_t n = 30;
  for (std::size_t d : {std::size_t{4}, std::size_t{70}})
    for (std::size_t depth : {std::size_t{2}, std::size_t{3}}) {
      const std::vector<double> columns = scatter(n * d);
      std::vector<double> y(n, 0.0);
      for (std::size_t e = 0; e < n; ++e) y[e] = 2 * columns[e] - columns[n + e] + 0.5 * columns[2 * n + e];
      const agf::cpu::DiagonalCpu<double> leaves(columns.data(), y.data(), n, d, depth);
      agf::Control control;
      agf::DiagonalPathOptions options;
      options.depth = depth;
      options.loss_tol = 1e-8;
      const agf::Trajectory limit = agf::diagonal_path(leaves.design(), y.data(), control, nullptr, options);
      const agf::State start = small_state(d, depth, -200);
      const agf::Trajectory path = agf::diagonal_path(leaves.design(), y.data(), control, &start, options);
      bool good = !limit.jumps.empty() && limit.jumps.size() == path.jumps.size();
      for (std::size_t k = 0; good && k < path.jumps.size(); ++k)
        good = path.jumps[k].neuron == limit.jumps[k].neuron &&
               std::abs(path.jumps[k].loss_after - limit.jumps[k].loss_after) <= 1e-12 * limit.points[0].loss;
      agf::FlowOptions flow;
      flow.scaled_clock = true;
      flow.t_end = good ? path.jumps[0].scaled_time * 0.5 : 1;
      flow.rtol = 1e-6;
      flow.save_all = false;
      flow.save_at = {0, flow.t_end};
      for (double log_scale : {-200.0, -3.0}) {
        const agf::State from = small_state(d, depth, log_scale);
        const agf::Trajectory truth =
            agf::diagonal_flow(leaves.design(), y.data(), agf::cpu::backend(), control, from, flow);
        good = good && truth.states.size() == 2 && truth.points.back().loss <= truth.points[0].loss;
      }
      if (good) continue;
      ++failures;
      std::printf("smoke: diagonal path or flow wrong for d = %zu, depth %zu\n", d, depth);
    }
  return failures;
}
