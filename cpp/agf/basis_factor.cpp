#include "basis_factor.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace agf {

namespace {

// A column that keeps this part of its length is orthogonal enough after one pass.
constexpr double enough = 0.7;
// Holes per live slot up to which they cost less than moving the triangle.
constexpr double most_holes = 0.1;
constexpr std::size_t few_holes = 16;

}  // namespace

void BasisFactor::reserve(std::size_t slots) {
  if (slots <= ld_) return;
  const std::size_t ld = (std::max<std::size_t>(slots + slots / 2, 32) + 7) / 8 * 8;
  std::vector<double> r(ld * ld, 0.0);
  for (std::size_t s = 0; s < live_.size(); ++s) std::copy_n(&r_[s * ld_], ld_, &r[s * ld]);
  r_ = std::move(r);
  ld_ = ld;
  lane_.resize(ld);
}

std::vector<std::size_t> BasisFactor::compact() {
  const std::size_t before = live_.size(), count = before - holes_;
  if (static_cast<double>(holes_) <= most_holes * static_cast<double>(count) + few_holes) return {};
  std::vector<std::size_t> old;
  for (std::size_t s = 0; s < before; ++s)
    if (live_[s]) old.push_back(s);
  // Every entry moves up or to the left, so whatever is written was read before.
  for (std::size_t s = 0; s < count; ++s) {
    double* to = &r_[s * ld_];
    const double* from = &r_[old[s] * ld_];
    for (std::size_t t = 0; t < count; ++t) to[t] = t < s ? 0 : from[old[t]];
    std::fill(to + count, to + ld_, 0.0);
    inverse_[s] = inverse_[old[s]];
    if (orthonormal()) std::copy_n(q(old[s]), rows_, &q_[s * rows_]);
  }
  for (std::size_t s = count; s < before; ++s) std::fill_n(&r_[s * ld_], ld_, 0.0);
  inverse_.resize(count);
  live_.assign(count, 1);
  holes_ = 0;
  return old;
}

void BasisFactor::forward(double* x) const { loops_.forward(slots(), ld_, r_.data(), inverse_.data(), x); }

void BasisFactor::backward(double* x) const { loops_.backward(slots(), ld_, r_.data(), inverse_.data(), x); }

void BasisFactor::append(const double* r, double left) {
  const std::size_t k = slots();
  reserve(k + 1);
  for (std::size_t s = 0; s < k; ++s)
    if (live_[s]) r_[s * ld_ + k] = r[s];
  r_[k * ld_ + k] = left;
  inverse_.push_back(1 / left);
  live_.push_back(1);
}

void BasisFactor::remove(std::size_t s, double* z) {
  const std::size_t k = slots();
  double* row = &r_[s * ld_];
  std::fill_n(lane_.begin(), s + 1, 0.0);
  std::copy(row + s + 1, row + ld_, lane_.begin() + static_cast<std::ptrdiff_t>(s) + 1);
  std::fill_n(row, ld_, 0.0);
  live_[s] = 0;
  inverse_[s] = 0;
  ++holes_;
  double last = std::exchange(z[s], 0.0);
  for (std::size_t t = s + 1; t < k; ++t) {
    if (!live_[t]) continue;
    double* other = &r_[t * ld_];
    const double a = other[t], b = std::exchange(lane_[t], 0.0);
    if (b == 0) continue;
    const double length = std::sqrt(a * a + b * b), cosine = a / length, sine = b / length;
    const std::size_t from = t / 8 * 8;  // zeros as far as t, in either row
    loops_.rotate(padded() - from, cosine, sine, other + from, &lane_[from]);
    other[t] = length;
    lane_[t] = 0;
    inverse_[t] = 1 / length;
    const double upper = z[t];
    z[t] = cosine * upper + sine * last;
    last = cosine * last - sine * upper;
    if (orthonormal()) loops_.rotate(rows_, cosine, sine, &q_[t * rows_], &q_[s * rows_]);
  }
}

void BasisFactor::start_orthonormal(std::size_t n) {
  rows_ = n;
  ld_ = holes_ = 0;
  r_.clear();
  inverse_.clear();
  live_.clear();
}

double BasisFactor::orthogonalize(double* v, double length, double* r) const {
  std::fill_n(r, padded(), 0.0);
  double left = length, before = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass < 2 && left < enough * before; ++pass) {
    for (std::size_t s = 0; s < slots(); ++s) {
      if (!live_[s]) continue;
      const double c = loops_.dot(rows_, q(s), v);
      r[s] += c;
      loops_.add(rows_, -c, q(s), v);
    }
    before = std::exchange(left, std::sqrt(loops_.dot(rows_, v, v)));
  }
  return left;
}

void BasisFactor::append(const double* r, double left, const double* v) {
  const std::size_t k = slots();
  append(r, left);
  if (q_.size() < (k + 1) * rows_) q_.resize(std::max<std::size_t>(k + k / 2, 8) * rows_);
  for (std::size_t e = 0; e < rows_; ++e) q_[k * rows_ + e] = v[e] / left;
}

void BasisFactor::project(const double* v, double* z) const {
  for (std::size_t s = 0; s < slots(); ++s) z[s] = live_[s] ? loops_.dot(rows_, q(s), v) : 0;
}

void BasisFactor::subtract(double factor, const double* z, double* v) const {
  for (std::size_t s = 0; s < slots(); ++s)
    if (live_[s]) loops_.add(rows_, -factor * z[s], q(s), v);
}

}  // namespace agf
