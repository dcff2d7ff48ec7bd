// Linear networks and attention, by grids and by lists of pseudo-samples, beside the CPU.
#include "moments.hpp"

#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

#include "cpu/moments.hpp"
#include "leaves.hpp"

namespace {

constexpr double tolerance = 1e-12;

int both(const std::string& name, agf::ProductLayout product, const agf::PseudoSamples& samples, std::size_t count) {
  const auto target = smoke::normal(agf::sizes_of(samples).entries(), 3);
  const agf::cpu::Moments host(product, samples, target, 0.3);
  const agf::cuda::MomentsCuda device(0, product, samples, target, 0.3);
  int failures = smoke::compare(name.c_str(), host, device, count, tolerance);
  std::vector<double> basis;
  if (device.reduced(basis) || device.in_double()) ++failures;
  return failures;
}

// The leaves on arrays beside those of the engines, in both dtypes.
template <typename T>
int arrays(const char* name, double apart) {
  using agf::cuda::Room;
  const std::size_t dimension = 5, count = 7, m = 1 + 2 * dimension, size = count * m;
  const auto product = agf::ProductLayout::trilinear(dimension);
  const auto samples = agf::PseudoSamples::list(dimension, dimension, smoke::normal(40 * dimension * dimension, 4));
  const agf::cuda::MomentsCuda device(0, product, samples, smoke::normal(40, 5), 0.1);
  const auto draw = [](std::size_t entries, unsigned seed) {
    const auto wide = smoke::normal(entries, seed);
    return std::vector<T>(wide.begin(), wide.end());
  };
  const std::vector<T> theta = draw(size, 6), v = draw(size, 7);
  const std::vector<double> at(theta.begin(), theta.end()), along(v.begin(), v.end());
  Room room(agf::cuda::Stream{});
  const auto stream = room.stream();
  const T *on_device = room.take(theta.data(), size), *vector = room.take(v.data(), size);
  const auto home = [&](const T* from, std::size_t entries) {
    std::vector<T> out(entries);
    agf::cuda::download(out.data(), from, entries * sizeof(T), stream);
    return std::vector<double>(out.begin(), out.end());
  };

  const auto r = device.make_signal(), dr = device.make_signal();
  const double loss = device.residual(at.data(), count, *r);
  device.residual_derivative(at.data(), along.data(), count, *dr);
  std::vector<double> value(count), gradient(size), curved(size), whole(size * size);
  device.utility(at.data(), count, *r, value.data(), gradient.data());
  device.curvature_vector(at.data(), along.data(), count, *r, dr.get(), curved.data());
  for (double& entry : curved) entry = -entry;
  device.loss_hessian(at.data(), count, *r, whole.data());

  T *signal = room.take<T>(dimension * dimension), *u = room.take<T>(count), *g = room.take<T>(size);
  T* hessian = room.take<T>(size * size);
  int failures = 0;
  const auto check = [&](const char* leaf, const std::vector<double>& got, const std::vector<double>& expected) {
    if (smoke::distance(got, expected) <= apart) return;
    std::fprintf(stderr, "%s: %s differs by %g\n", name, leaf, smoke::distance(got, expected));
    ++failures;
  };
  check("loss", {device.loss(stream, on_device, count)}, {loss});
  check("loss with M", {device.residual(stream, on_device, count, signal)}, {loss});
  device.utility(stream, on_device, count, static_cast<const T*>(signal), u, g);
  check("utility", home(u, count), value);
  check("gradient", home(g, size), gradient);
  device.utility(stream, on_device, count, static_cast<const T*>(nullptr), u, static_cast<T*>(nullptr));
  check("utility by itself", home(u, count), value);
  device.hessian_vector(stream, on_device, vector, count, g);
  check("Hessian of L times v", home(g, size), curved);
  device.hessian(stream, on_device, count, hessian);
  check("Hessian of L", home(hessian, size * size), whole);
  return failures;
}

}  // namespace

int moments_failures() {
  using agf::PseudoSamples, agf::ProductLayout, smoke::normal;
  int failures = 0;
  for (const std::size_t count : {1, 5, 130}) {
    if (count > 5) {
      // Whole Hessians of so many neurons are for few parameters.
      failures += both("linear", ProductLayout::bilinear(2, 1), PseudoSamples::grid(1, 2, {}, normal(2 * 3, 1)), count);
      continue;
    }
    failures += both("linear", ProductLayout::bilinear(6, 4), PseudoSamples::grid(4, 6, {}, normal(9 * 6, 1)), count);
    failures += both("attention", ProductLayout::trilinear(5),
                     PseudoSamples::grid(5, 5, normal(4 * 5, 1), normal(7 * 5, 2)), count);
    failures +=
        both("attention on samples", ProductLayout::trilinear(3), PseudoSamples::list(3, 3, normal(11 * 9, 1)), count);
  }
  // Rows beyond what one thread sums up, and products cut along their inner index.
  failures += both("attention, wide", ProductLayout::trilinear(140),
                   PseudoSamples::grid(140, 140, normal(600 * 140, 1), normal(520 * 140, 2)), 2);
  failures +=
      both("linear, wide", ProductLayout::bilinear(150, 3), PseudoSamples::grid(3, 150, {}, normal(200 * 150, 1)), 3);
  failures += both("attention on samples, wide", ProductLayout::trilinear(24),
                   PseudoSamples::list(24, 24, normal(700 * 24 * 24, 1)), 3);
  return failures + arrays<float>("arrays of float", 2e-6) + arrays<double>("arrays of double", 0);
}
