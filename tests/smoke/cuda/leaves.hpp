// Every leaf of a problem on a device beside the same problem on the CPU.
#pragma once

#include <cstddef>
#include <random>
#include <vector>

#include "agf/problem.hpp"

namespace smoke {

inline std::vector<double> normal(std::size_t size, unsigned seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> draw;
  std::vector<double> out(size);
  for (auto& value : out) value = draw(generator);
  return out;
}

// Largest distance, relative to the largest entry.
double distance(const std::vector<double>& a, const std::vector<double>& b);

// Returns how many leaves differ by more than `tolerance`, and names them.
int compare(const char* name, const agf::Problem& host, const agf::Problem& device, std::size_t count, double tolerance,
            agf::Shape shape = {});

}  // namespace smoke
