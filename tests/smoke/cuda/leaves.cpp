#include "leaves.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

namespace smoke {
namespace {

using Found = std::vector<std::pair<std::string, std::vector<double>>>;

Found leaves(const agf::Problem& problem, std::size_t count, agf::Shape shape) {
  const std::size_t m = problem.params(), size = count * m;
  const auto theta = normal(size, 11), v = normal(size, 12);
  const auto r = problem.make_signal(), dr = problem.make_signal();
  Found found;
  const auto room = [&](const char* name, std::size_t entries) {
    found.emplace_back(name, std::vector<double>(entries, std::nan("")));
    return found.back().second.data();
  };
  room("loss of no neurons", 1)[0] = problem.residual(nullptr, 0, *r, shape);
  room("loss", 1)[0] = problem.residual(theta.data(), count, *r, shape);
  double* value = room("utility", count);
  double* gradient = room("gradient", size);
  problem.utility(theta.data(), count, *r, value, gradient, shape);
  problem.utility(theta.data(), count, *r, room("utility alone", count), nullptr, shape);
  problem.utility(theta.data(), count, *r, nullptr, room("gradient alone", size), shape);
  problem.residual_derivative(theta.data(), v.data(), count, *dr, shape);
  problem.utility(theta.data(), count, *dr, nullptr, room("derivative, by its gradient", size), shape);
  problem.curvature_vector(theta.data(), v.data(), count, *r, nullptr, room("curvature", size), shape);
  problem.curvature_vector(theta.data(), v.data(), count, *r, dr.get(), room("curvature of L", size), shape);
  constexpr std::size_t largest = 2000;  // of a side of Hessians
  if (size <= largest) {
    problem.utility_hessian(theta.data(), count, *r, room("Hessians of U", count * m * m), shape);
    problem.loss_hessian(theta.data(), count, *r, room("Hessian of L", size * size), shape);
  }
  problem.contribution(theta.data(), count, room("contribution", count));
  std::vector<double> balance(count * problem.conserved_count());
  if (problem.conserved(theta.data(), count, balance.data())) {
    std::copy(balance.begin(), balance.end(), room("conserved", balance.size()));
    double* moved = room("rebalanced", size);
    std::copy(theta.begin(), theta.end(), moved);
    for (double& entry : balance) entry *= 1.5;
    problem.rebalance(moved, count, balance.data(), room("scales", count));
  }
  double* facts = room("facts", 9);
  facts[0] = static_cast<double>(problem.params());
  facts[1] = static_cast<double>(problem.outputs());
  facts[2] = static_cast<double>(problem.samples());
  facts[3] = problem.kappa();
  facts[4] = problem.homogeneous();
  facts[5] = problem.kinked();
  facts[6] = problem.input_scale();
  facts[7] = problem.epsilon();
  facts[8] = static_cast<double>(problem.conserved_count());
  return found;
}

}  // namespace

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(b[i]));
    const double apart = std::abs(a[i] - b[i]);
    worst = apart <= worst ? worst : apart;  // NaN stays
  }
  return largest > 0 ? worst / largest : worst;
}

int compare(const char* name, const agf::Problem& host, const agf::Problem& device, std::size_t count, double tolerance,
            agf::Shape shape) {
  const Found expected = leaves(host, count, shape), got = leaves(device, count, shape);
  int failures = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double apart = distance(got[i].second, expected[i].second);
    if (apart <= tolerance) continue;
    std::fprintf(stderr, "%s: %s differs by %g\n", name, expected[i].first.c_str(), apart);
    ++failures;
  }
  return failures;
}

}  // namespace smoke
