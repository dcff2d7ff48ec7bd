// Modular addition, with all modes and with few, in its own inputs and in compact ones, beside the CPU.
#include "modular.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <numbers>
#include <string>
#include <vector>

#include "cpu/modular.hpp"
#include "leaves.hpp"
#include "room.hpp"

namespace {

std::vector<double> template_of(std::size_t p, const std::vector<std::size_t>& frequencies) {
  std::vector<double> x(p, 0.0);
  for (const std::size_t k : frequencies)
    for (std::size_t j = 0; j < p; ++j)
      x[j] += std::cos(2 * std::numbers::pi * static_cast<double>(k * j) / static_cast<double>(p) + 0.3) /
              static_cast<double>(k);
  return x;
}

// Residuals on the pairs there and back, by both.
int on_pairs(const char* name, const agf::cpu::ModularCpu& host, const agf::cuda::ModularCuda& device) {
  const std::size_t p = host.period(), size = p * p * p, count = 4;
  const auto theta = smoke::normal(count * host.params(), 7), pairs = smoke::normal(size, 8);
  const auto r = host.make_signal();
  std::vector<double> expected(size), got(size), slope(theta.size()), slope_there(theta.size());
  host.residual(theta.data(), count, *r);
  host.spread(*r, expected.data());
  host.gather(pairs.data(), *r);
  host.utility(theta.data(), count, *r, nullptr, slope.data());
  agf::cuda::Room room(agf::cuda::Stream{});
  const double* const at = room.take(theta.data(), theta.size());
  double* const to = room.take<double>(size);
  device.residual(room.stream(), at, count, to);
  agf::cuda::download(got.data(), to, size * sizeof(double), room.stream());
  double* const gradient = room.take<double>(theta.size());
  device.utility<double>(room.stream(), at, count, room.take(pairs.data(), size), nullptr, gradient);
  agf::cuda::download(slope_there.data(), gradient, theta.size() * sizeof(double), room.stream());
  const double apart = std::max(smoke::distance(got, expected), smoke::distance(slope_there, slope));
  if (apart <= 1e-12) return 0;
  std::fprintf(stderr, "%s: residuals on pairs differ by %g\n", name, apart);
  return 1;
}

int both(std::size_t p, const std::vector<std::size_t>& frequencies, std::size_t count) {
  const auto x = template_of(p, frequencies);
  const agf::cpu::ModularCpu host(x.data(), p, frequencies);
  const agf::cuda::ModularCuda device(0, x.data(), p, frequencies);
  const std::string label =
      "modular, p = " + std::to_string(p) + ", " + std::to_string(frequencies.size()) + " frequencies";
  int failures = smoke::compare(label.c_str(), host, device, count, 1e-12);
  failures += on_pairs(label.c_str(), host, device);
  std::vector<double> basis, expected;
  const auto small = device.reduced(basis), small_host = host.reduced(expected);
  if (!small || basis != expected) return failures + 1;
  failures += smoke::compare((label + ", compact").c_str(), *small_host, *small, count, 1e-12);
  if (small->reduced(basis)) ++failures;
  return failures;
}

}  // namespace

int modular_failures() {
#if defined(AGF_SHIM_THREADS)
  return both(5, {1, 2}, 2);  // ThreadSanitizer is slow
#endif
  int failures = both(8, {1, 2, 3, 4}, 5);
  failures += both(7, {2}, 3) + both(2, {1}, 2) + both(5, {}, 2);
  failures += both(23, {1, 4, 6, 7, 9, 11}, 6);
  return failures + both(40, {3, 20}, 4) + both(12, {1, 2, 3, 4, 5, 6}, 70);
}
