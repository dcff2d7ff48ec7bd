#include "basis_factor.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "entries.hpp"

namespace AGF_SPACE {

namespace {

// A column that keeps this part of its length is orthogonal enough after one pass.
AGF_TABLE double least_kept = 0.7;
// Holes per live slot up to which they cost less than moving the triangle.
AGF_TABLE double most_holes = 0.1;
AGF_TABLE std::size_t few_holes = 16;

}  // namespace

AGF_CORE void BasisFactor::reserve(std::size_t slots) {
  if (slots <= ld_) return;
  const std::size_t ld = (std::max<std::size_t>(slots + slots / 2, 32) + 7) / 8 * 8, before = ld_;
  Array<double> r(ld * ld, 0.0);
  const double* const from = r_.data();
  double* const to = r.data();
  each_entry(live_.size(), ld_, [=](std::size_t s, std::size_t t) { to[s * ld + t] = from[s * before + t]; });
  r_ = std::move(r);
  ld_ = ld;
  lane_.resize(ld);
}

AGF_CORE AGF_APART Array<std::size_t> BasisFactor::compact() {
  const std::size_t before = live_.size(), count = before - holes_, ld = ld_, rows = rows_;
  if (static_cast<double>(holes_) <= most_holes * static_cast<double>(count) + few_holes) return {};
  Array<std::size_t> old;
  for (std::size_t s = 0; s < before; ++s)
    if (live_[s]) old.push_back(s);
  const std::size_t* const slot = old.data();
  double *const r = r_.data(), *const lane = lane_.data();
  // Every entry moves up or to the left, so whatever is written was read before.
  for (std::size_t s = 0; s < count; ++s) {
    each(count, [=](std::size_t t) { lane[t] = t < s ? 0 : r[slot[s] * ld + slot[t]]; });
    each(ld, [=](std::size_t t) { r[s * ld + t] = t < count ? lane[t] : 0; });
    inverse_[s] = inverse_[old[s]];
    if (!orthonormal()) continue;
    double *const from = &q_[old[s] * rows], *const to = &q_[s * rows];
    each(rows, [=](std::size_t e) { to[e] = from[e]; });
  }
  each((before - count) * ld, [=](std::size_t e) { r[count * ld + e] = 0; });
  inverse_.resize(count);
  live_.assign(count, 1);
  holes_ = 0;
  return old;
}

AGF_CORE void BasisFactor::forward(double* x) const { loops_.forward(slots(), ld_, r_.data(), inverse_.data(), x); }

AGF_CORE void BasisFactor::backward(double* x) const { loops_.backward(slots(), ld_, r_.data(), inverse_.data(), x); }

AGF_CORE void BasisFactor::append(const double* r, double left) {
  const std::size_t k = slots();
  reserve(k + 1);
  const std::size_t ld = ld_;
  const unsigned char* const live = live_.data();
  double* const to = r_.data();
  each(k, [=](std::size_t s) {
    if (live[s]) to[s * ld + k] = r[s];
  });
  r_[k * ld_ + k] = left;
  inverse_.push_back(1 / left);
  live_.push_back(1);
}

AGF_CORE AGF_APART void BasisFactor::remove(std::size_t s, double* z) {
  const std::size_t k = slots();
  double *const row = &r_[s * ld_], *const lane = lane_.data();
  each(ld_, [=](std::size_t t) {
    lane[t] = t <= s ? 0 : row[t];
    row[t] = 0;
  });
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

AGF_CORE void BasisFactor::start_orthonormal(std::size_t n) {
  rows_ = n;
  ld_ = holes_ = 0;
  r_.clear();
  inverse_.clear();
  live_.clear();
}

AGF_CORE AGF_APART double BasisFactor::orthogonalize(double* v, double length, double* r) const {
  each(padded(), [=](std::size_t s) { r[s] = 0; });
  double left = length, before = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass < 2 && left < least_kept * before; ++pass) {
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

AGF_CORE void BasisFactor::append(const double* r, double left, const double* v) {
  const std::size_t k = slots();
  append(r, left);
  if (q_.size() < (k + 1) * rows_) q_.resize(std::max<std::size_t>(k + k / 2, 8) * rows_);
  double* const to = &q_[k * rows_];
  each(rows_, [=](std::size_t e) { to[e] = v[e] / left; });
}

AGF_CORE void BasisFactor::project(const double* v, double* z) const {
  for (std::size_t s = 0; s < slots(); ++s) z[s] = live_[s] ? loops_.dot(rows_, q(s), v) : 0;
}

AGF_CORE void BasisFactor::subtract(double factor, const double* z, double* v) const {
  for (std::size_t s = 0; s < slots(); ++s)
    if (live_[s]) loops_.add(rows_, -factor * z[s], q(s), v);
}

}  // namespace AGF_SPACE
