#include "diagonal_state.hpp"

#include <algorithm>
#include <cmath>

#if !defined(AGF_BLOCK)
#include <stdexcept>
#include <string>
#endif

namespace AGF_SPACE {

namespace {

// Log-norms and directions by the two ways of holding a neuron may differ by this: rounding of a logarithm of any size,
// and of directions in float32.
AGF_TABLE double agreement = 1e-6;

// What is wrong with a state is told on the host, before a block has it.
AGF_CORE const Extra* extra_of(const State& state, const char* name, [[maybe_unused]] Array<std::size_t> shape) {
  const Extra* found = state.extra.find(name);
  if (!found) return nullptr;
#if !defined(AGF_BLOCK)
  if (found->shape != shape)
    throw std::invalid_argument(std::string("state.extra['") + name +
                                "']: got an array of another shape than the state's, expected one entry per neuron" +
                                (shape.size() == 2 ? " and layer" : "") + "; keep what one run gave together");
#endif
  return found;
}

AGF_CORE Array<double> numbers(const Array<signed char>& of) {
  Array<double> out(of.size());
  const signed char* const from = of.data();
  double* const to = out.data();
  each(of.size(), [=](std::size_t i) { to[i] = from[i]; });
  return out;
}

}  // namespace

AGF_CORE AGF_APART DiagonalNetwork::DiagonalNetwork(const State& state, bool adaptive)
    : depth_(state.params),
      which_(state.count),
      log_gaps_(state.count * depth_, -infinity),
      reference_(state.count, 0),
      layer_sign_(state.count * depth_, 1),
      sign_(state.count, 1),
      log_v_(state.count) {
  const Extra* gaps = extra_of(state, "log_conserved", {state.count, depth_});
  const Extra* reference = extra_of(state, "log_reference", {state.count});
  const Extra* signs = extra_of(state, "layer_sign", {state.count, depth_});
  extra_of(state, "side", {state.count});
  const bool exact = gaps && reference && signs;
#if !defined(AGF_BLOCK)
  if (!exact && (gaps || reference || signs))
    throw std::invalid_argument(
        "state.extra: got some of log_conserved, log_reference and layer_sign, expected all of them or none; drop "
        "extra");
#endif
  for (std::size_t i = 0; i < state.count; ++i) {
    const double* u = &state.direction[i * depth_];
    double* gap = &log_gaps_[i * depth_];
    int least = 0;
    if (exact) {
      std::copy_n(&gaps->values[i * depth_], depth_, gap);
      least = static_cast<int>(std::min_element(gap, gap + depth_) - gap);
      log_v_[i] = reference->values[i];
      for (std::size_t l = 0; l < depth_; ++l) layer_sign_[i * depth_ + l] = signs->values[i * depth_ + l] < 0 ? -1 : 1;
    } else {
      for (std::size_t l = 1; l < depth_; ++l)
        if (std::abs(u[l]) < std::abs(u[least])) least = static_cast<int>(l);
      const double v = std::abs(u[least]);
      log_v_[i] = v > 0 ? std::log(v) + state.log_norm[i] : -infinity;
      for (std::size_t l = 0; l < depth_; ++l) {
        layer_sign_[i * depth_ + l] = u[l] < 0 ? -1 : 1;
        const double excess = (std::abs(u[l]) - v) * (std::abs(u[l]) + v);
        if (excess > 0) gap[l] = std::log(excess) + 2 * state.log_norm[i];
      }
    }
    reference_[i] = least;
    for (std::size_t l = 0; l < depth_; ++l)
      sign_[i] = static_cast<signed char>(sign_[i] * layer_sign_[i * depth_ + l]);
    Array<double> others;
    for (std::size_t l = 0; l < depth_; ++l)
      if (static_cast<int>(l) != least) others.push_back(gap[l]);
    std::sort(others.begin(), others.end());
    if (neurons_.empty() || !neurons_.back().same(others)) neurons_.push_back(DiagonalNeuron(others, adaptive));
    which_[i] = neurons_.size() - 1;
#if !defined(AGF_BLOCK)
    if (!exact) continue;
    if (!(std::abs(log_norm(i) - state.log_norm[i]) <= agreement * (1 + std::abs(state.log_norm[i]))))
      throw std::invalid_argument("state.extra['log_reference']: got a layer that does not fit log_norm of neuron " +
                                  std::to_string(i) + ", expected the two of one run; drop extra");
    Array<double> own(depth_);
    direction(i, sign_[i], log_v_[i], own.data());
    for (std::size_t l = 0; l < depth_; ++l)
      if (!(std::abs(own[l] - u[l]) <= agreement))
        throw std::invalid_argument("state.extra['log_conserved']: got layers that do not fit direction of neuron " +
                                    std::to_string(i) + ", expected the two of one run; drop extra");
#endif
  }
}

AGF_CORE double DiagonalNetwork::product(std::size_t i) const {
  return sign_[i] * std::exp(neuron(i).log_product(log_v_[i]));
}

AGF_CORE void DiagonalNetwork::set(std::size_t i, int sign, double log_v) {
  if (sign != sign_[i]) {
    signed char& s = layer_sign_[i * depth_ + static_cast<std::size_t>(reference_[i])];
    s = static_cast<signed char>(-s);
    sign_[i] = static_cast<signed char>(sign);
  }
  log_v_[i] = log_v;
}

AGF_CORE void DiagonalNetwork::direction(std::size_t i, int sign, double log_v, double* out) const {
  const double log_norm = neuron(i).log_norm(log_v);
  for (std::size_t l = 0; l < depth_; ++l) {
    const bool reference = static_cast<int>(l) == reference_[i];
    const double size = std::exp(0.5 * log_add(log_gaps_[i * depth_ + l], 2 * log_v) - log_norm);
    out[l] = size * layer_sign_[i * depth_ + l] * (reference && sign != sign_[i] ? -1 : 1);
  }
}

AGF_CORE void DiagonalNetwork::write(State& state, const Array<signed char>& side) const {
  const std::size_t h = count();
  double *const directions = state.direction.data(), *const log_norms = state.log_norm.data();
  each_task(h, [=, this](std::size_t i) {
    direction(i, sign_[i], log_v_[i], directions + i * depth_);
    log_norms[i] = log_norm(i);
  });
  state.extra.put("log_conserved", log_gaps_, {h, depth_});
  state.extra.put("log_reference", log_v_, {h});
  state.extra.put("layer_sign", numbers(layer_sign_), {h, depth_});
  state.extra.put("side", numbers(side), {h});
}

}  // namespace AGF_SPACE
