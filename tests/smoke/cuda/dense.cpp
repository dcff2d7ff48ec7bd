// Dense networks: every sigma, its leading term and its ramp, in both dtypes, beside the CPU.
#include "dense.hpp"

#include <cstdio>
#include <string>
#include <vector>

#include "cpu/blas.hpp"
#include "cpu/dense.hpp"
#include "host.hpp"
#include "leaves.hpp"

namespace {

template <typename T>
int both(agf::Sigma sigma, const char* name, std::size_t n, std::size_t d, std::size_t c, double parameter,
         double tolerance, std::size_t count = 5) {
  const auto draw = [](std::size_t size, unsigned seed) {
    const auto wide = smoke::normal(size, seed);
    return std::vector<T>(wide.begin(), wide.end());
  };
  const auto x = draw(n * d, 1), y = draw(n * c, 2);
  const agf::cpu::DenseCpu<T> host(x.data(), n, d, y.data(), c, sigma, parameter);
  const agf::cuda::DenseCuda<T> device(0, {}, x.data(), n, d, y.data(), c, true, sigma, parameter);
  const std::string label = std::string(name) + (sizeof(T) == 4 ? ", float" : ", double");
  int failures = smoke::compare(label.c_str(), host, device, count, tolerance);
  failures += smoke::compare((label + ", leading").c_str(), host, device, 3, tolerance, {true, nullptr});
  const std::vector<double> ramp{0.3, 0, 1.2, 0.01};
  if (host.kinked())
    failures += smoke::compare((label + ", ramp").c_str(), host, device, 4, tolerance, {false, ramp.data()});
  std::vector<double> basis, expected;
  const auto wide = device.in_double();
  if (wide) failures += smoke::compare((label + ", in double").c_str(), *host.in_double(), *wide, 3, 1e-12);
  if (device.reduced(basis) || host.reduced(expected)) ++failures;
  return failures;
}

// Inputs in a plane: the problem reduces to two inputs and the empty one.
int in_a_plane() {
  const std::size_t n = 40, d = 9, c = 2;
  const auto left = smoke::normal(n * 2, 3), right = smoke::normal(2 * d, 4), y = smoke::normal(n * c, 5);
  std::vector<double> x(n * d, 0.0);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < d; ++j)
      for (std::size_t k = 0; k < 2; ++k) x[i * d + j] += left[i * 2 + k] * right[k * d + j];
  const agf::cpu::DenseCpu<double> host(x.data(), n, d, y.data(), c, agf::Sigma::tanh, 0);
  const agf::cuda::DenseCuda<double> device(0, {}, x.data(), n, d, y.data(), c, true, agf::Sigma::tanh, 0);
  std::vector<double> basis, expected;
  const auto small = device.reduced(basis), small_host = host.reduced(expected);
  if (!small || !small_host || basis != expected) return 1;
  return smoke::compare("in a plane", *small_host, *small, 4, 1e-12);
}

}  // namespace

int dense_failures() {
  agf::cuda::host().row_space = agf::cpu::blas::row_space;
  int failures = 0;
#if defined(AGF_SHIM_THREADS)
  // ThreadSanitizer is slow: one that is kinked and one that is smooth.
  failures += both<double>(agf::Sigma::relu, "relu", 20, 3, 2, 0, 1e-12);
  failures += both<float>(agf::Sigma::tanh, "tanh", 20, 3, 2, 0, 1e-4);
  return failures;
#endif
#define AGF_DENSE(name, leaf, degree, homogeneous, kinked, linear)         \
  failures += both<double>(agf::Sigma::name, #name, 37, 6, 3, 0.3, 1e-12); \
  failures += both<float>(agf::Sigma::name, #name, 37, 6, 3, 0.3, 1e-4);
#include "agf/models.def"
#undef AGF_DENSE
  failures += both<double>(agf::Sigma::relu, "relu", 1500, 1, 1, 0, 1e-12);
  failures += both<double>(agf::Sigma::tanh, "tanh", 70, 90, 2, 0, 1e-12);
  // Tiles of either size, outputs from few to more than a thread holds weights of, inner lengths that are cut in parts.
  for (const std::size_t outputs : {1, 10, 20}) {
    failures += both<double>(agf::Sigma::silu, "many", 150, 30, outputs, 0, 1e-12, 80);
    failures += both<float>(agf::Sigma::silu, "many", 150, 30, outputs, 0, 1e-4, 80);
  }
  failures += both<double>(agf::Sigma::tanh, "long", 100, 600, 2, 0, 1e-12, 70);
  failures += both<float>(agf::Sigma::tanh, "long", 100, 600, 2, 0, 1e-4, 70);
  return failures + in_a_plane();
}
