// What Python gives of linear networks and attention: pseudo-samples with the moments of their data.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <utility>
#include <vector>

#include "agf/moments_model.hpp"
#include "bind/arrays.hpp"

namespace agf::bind {

struct MomentData {
  ProductLayout product;
  PseudoSamples samples;
  std::vector<double> target;
  double least;
  std::string blocks;  // of a row of parameters, for messages
};

namespace moments {

struct Table {
  std::vector<double> values;
  std::size_t rows, columns;
};

inline Table read(const pybind11::object& object, const char* name, pybind11::ssize_t rows, pybind11::ssize_t columns) {
  const pybind11::array a = as_array(object, name);
  if (a.ndim() != 2 || a.shape(1) < 1) {
    throw pybind11::value_error(std::string(name) + ": got shape " + shape_text(a) + ", expected two axes, none empty");
  }
  const std::string height = rows < 0 ? "k" : std::to_string(rows);
  const std::string width = columns < 0 ? "any" : std::to_string(columns);
  const double* data =
      matrix<double>(a, name, rows, columns < 0 ? a.shape(1) : columns, "(" + height + ", " + width + ")");
  return {std::vector<double>(data, data + a.size()), static_cast<std::size_t>(a.shape(0)),
          static_cast<std::size_t>(a.shape(1))};
}

inline std::string head(std::size_t dimension) {
  const std::string size = std::to_string(dimension);
  return "[v | q (" + size + ") | k (" + size + ")]";
}

}  // namespace moments

// L = least + 1/2 |targets - inputs P^T|^2, P = sum_i a_i w_i^T; inputs (k, d), targets (k, c).
inline MomentData linear_data(const pybind11::object& inputs, const pybind11::object& targets, double least) {
  moments::Table x = moments::read(inputs, "inputs", -1, -1);
  const moments::Table y = moments::read(targets, "targets", static_cast<pybind11::ssize_t>(x.rows), -1);
  // One row of residuals per output: the grid of outputs and inputs.
  std::vector<double> target(y.values.size());
  for (std::size_t i = 0; i < y.rows; ++i)
    for (std::size_t j = 0; j < y.columns; ++j) target[j * y.rows + i] = y.values[i * y.columns + j];
  return {ProductLayout::bilinear(x.columns, y.columns),
          PseudoSamples::grid(y.columns, x.columns, {}, std::move(x.values)), std::move(target), least,
          "[w (" + std::to_string(x.columns) + ") | a (" + std::to_string(y.columns) + ")]"};
}

// L = least + 1/2 |targets - queries P keys^T|^2, P = sum_i v_i q_i k_i^T; queries (a, D), keys (b, D), targets (a, b).
inline MomentData attention_data(const pybind11::object& queries, const pybind11::object& keys,
                                 const pybind11::object& targets, double least) {
  moments::Table q = moments::read(queries, "queries", -1, -1);
  moments::Table k = moments::read(keys, "keys", -1, static_cast<pybind11::ssize_t>(q.columns));
  moments::Table y =
      moments::read(targets, "targets", static_cast<pybind11::ssize_t>(q.rows), static_cast<pybind11::ssize_t>(k.rows));
  return {ProductLayout::trilinear(q.columns),
          PseudoSamples::grid(q.columns, q.columns, std::move(q.values), std::move(k.values)), std::move(y.values),
          least, moments::head(q.columns)};
}

// L = least + 1/2 |targets - features vec(P)|^2; features (k, D^2), targets (k, 1).
inline MomentData attention_samples_data(const pybind11::object& features, const pybind11::object& targets,
                                         double least) {
  moments::Table x = moments::read(features, "features", -1, -1);
  moments::Table y = moments::read(targets, "targets", static_cast<pybind11::ssize_t>(x.rows), 1);
  std::size_t dimension = 1;
  while (dimension * dimension < x.columns) ++dimension;
  if (dimension * dimension != x.columns) {
    throw pybind11::value_error("features: got " + std::to_string(x.columns) + " columns, expected a square, D * D");
  }
  return {ProductLayout::trilinear(dimension), PseudoSamples::list(dimension, dimension, std::move(x.values)),
          std::move(y.values), least, moments::head(dimension)};
}

}  // namespace agf::bind
