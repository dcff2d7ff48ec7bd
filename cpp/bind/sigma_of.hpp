// The nonlinearity that Python names.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "agf/sigma.hpp"

namespace agf::bind {

// The sigma of a name and its parameter (ValueError for others).
inline Sigma sigma_of(const std::string& activation, double parameter) {
  std::string wanted = activation;
  if (activation == "square") wanted = "power2";
  if (activation == "power") {
    if (!(parameter == 2 || parameter == 3 || parameter == 4 || parameter == 5)) {
      throw pybind11::value_error("parameter: got " + std::string(pybind11::str(pybind11::float_(parameter))) +
                                  ", expected the exponent 2, 3, 4 or 5");
    }
    wanted += std::to_string(static_cast<int>(parameter));
  }
  static constexpr struct {
    Sigma sigma;
    const char* name;
  } known[] = {
#define AGF_DENSE(name, leaf, degree, homogeneous, kinked, linear) {Sigma::name, #name},
#include "agf/models.def"
#undef AGF_DENSE
  };
  for (const auto& k : known) {
    if (wanted == k.name) return k.sigma;
  }
  throw pybind11::value_error(
      "activation: got '" + activation +
      "', expected one of identity, relu, leaky_relu, square, power, tanh, gelu, elu, silu, erf");
}

}  // namespace agf::bind
