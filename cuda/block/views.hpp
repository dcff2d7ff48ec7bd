// A problem as a block finds it: its data in the device's memory, owned by the problem of the host.
#pragma once

#include <cstddef>

#include "agf/product_layout.hpp"
#include "agf/sigma.hpp"

namespace agf::shared {

// See DenseModel.
struct DenseView {
  std::size_t n, d, c;
  Sigma sigma;
  double parameter, input_scale;
  const double *x, *y;
};

// See ModularModel. In compact inputs `map` is not looked at.
struct ModularView {
  std::size_t period, modes;
  bool compact;
  double input_scale;
  const double *gain, *waves, *target;
  const double* map;  // g_s q_s in columns, (p, K)
};

// See MomentsModel and PseudoSamples; `least`: L_*.
struct MomentsView {
  ProductLayout product;
  DesignSizes sizes;
  double least;
  const double *left, *right, *target;
};

// Columns of inputs, one after the other, and the targets.
struct DesignView {
  std::size_t n, d;
  const double *x, *y;
};

enum class Model { dense, modular, moments, design };

// The one that `model` names.
struct ProblemView {
  Model model;
  DenseView dense;
  ModularView modular;
  MomentsView moments;
  DesignView design;
};

}  // namespace agf::shared
