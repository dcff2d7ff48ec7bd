#include "frame.hpp"

#include <cmath>
#include <utility>

#include "linear.hpp"

namespace agf {

Frame::Frame(std::shared_ptr<const Reduction> reduction, const State& start) : reduction_(std::move(reduction)) {
  if (!reduced()) return;
  const Problem& full = reduction_->full;
  const std::vector<double>& basis = reduction_->basis;
  c_ = full.outputs();
  d_ = full.params() - c_;
  k_ = basis.size() / d_;
  rest_.assign(start.count * d_, 0.0);
  std::vector<double> inside(k_);
  for (std::size_t i = 0; i < start.count; ++i) {
    double* rest = &rest_[i * d_];
    std::copy_n(&start.direction[i * full.params()], d_, rest);
    // Twice, for orthogonality to the last bit.
    for (int pass = 0; pass < 2; ++pass) {
      for (std::size_t b = 0; b < k_; ++b) {
        inside[b] = 0;
        for (std::size_t a = 0; a < d_; ++a) inside[b] += basis[a * k_ + b] * rest[a];
      }
      for (std::size_t a = 0; a < d_; ++a) rest[a] -= dot(k_, &basis[a * k_], inside.data());
    }
    const double length = norm(d_, rest);
    for (std::size_t a = 0; a < d_; ++a) rest[a] = length > 1e-14 ? rest[a] / length : 0.0;
  }
}

State Frame::inward(const State& state) const {
  if (!reduced()) return state;
  State out = state;
  const std::size_t m = reduction_->full.params();
  out.params = reduction_->reduced->params();
  out.direction.assign(state.count * out.params, 0.0);
  for (std::size_t i = 0; i < state.count; ++i) {
    const double* from = &state.direction[i * m];
    double* to = &out.direction[i * out.params];
    for (std::size_t b = 0; b < k_; ++b)
      for (std::size_t a = 0; a < d_; ++a) to[b] += reduction_->basis[a * k_ + b] * from[a];
    to[k_] = dot(d_, &rest_[i * d_], from);
    std::copy_n(from + d_, c_, to + k_ + 1);
    const double scale = 1 / norm(out.params, to);
    for (std::size_t e = 0; e < out.params; ++e) to[e] *= scale;
  }
  return out;
}

std::vector<double> Frame::outward(int neuron, const double* theta) const {
  if (!reduced()) return std::vector<double>(theta, theta + reduction_->full.params());
  std::vector<double> out(reduction_->full.params());
  const double* rest = &rest_[static_cast<std::size_t>(neuron) * d_];
  for (std::size_t a = 0; a < d_; ++a) out[a] = dot(k_, &reduction_->basis[a * k_], theta) + theta[k_] * rest[a];
  std::copy_n(theta + k_ + 1, c_, &out[d_]);
  return out;
}

State Frame::outward(const State& state) const {
  State out = state;
  // States are kept by the thousand: rows without a frame, in which nothing can be said, are not.
  if (out.components.empty()) out.components = {};
  if (!reduced()) return out;
  out.params = reduction_->full.params();
  out.direction.clear();
  out.direction.reserve(out.count * out.params);
  for (std::size_t i = 0; i < state.count; ++i) {
    auto row = outward(static_cast<int>(i), &state.direction[i * state.params]);
    const double scale = 1 / norm(row.size(), row.data());
    for (double e : row) out.direction.push_back(e * scale);
  }
  return out;
}

}  // namespace agf
