#include "transport.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "entries.hpp"
#include "linear.hpp"

namespace AGF_SPACE {

namespace {

using Matrix = Array<double>;

// What commutators of order 6 add to those of order 4, relative to the identity: their own successors are smaller by
// the same factor.
AGF_TABLE double largest_correction = 1e-6;
// The part of B that is not linear in time, and the largest exponent of one step.
AGF_TABLE double largest_bend = 0.05, largest_exponent = 3;
AGF_TABLE double least_change = 1e-12;

AGF_CORE double size(const Matrix& a) {
  const double* const entry = a.data();
  return std::sqrt(total(a.size(), [=](std::size_t e) { return entry[e] * entry[e]; }));
}

// c += factor * a b.
AGF_CORE void multiply(std::size_t m, double factor, const Matrix& a, const Matrix& b, Matrix& c) {
  const double* const left = a.data();
  add_product(m, m, m, [=](std::size_t i, std::size_t k) { return factor * left[i * m + k]; }, b.data(), c.data());
}

AGF_CORE Matrix commutator(std::size_t m, const Matrix& a, const Matrix& b) {
  Matrix c(m * m, 0.0);
  multiply(m, 1, a, b, c);
  multiply(m, -1, b, a, c);
  return c;
}

AGF_CORE Matrix combination(double x, const Matrix& a, double y, const Matrix& b) {
  Matrix c(a.size());
  const double *const left = a.data(), *const right = b.data();
  double* const to = c.data();
  each(a.size(), [=](std::size_t e) { to[e] = x * left[e] + y * right[e]; });
  return c;
}

// e^a by scaling, Taylor's series and squaring.
AGF_CORE Matrix exponential(std::size_t m, Matrix a) {
  int halvings = 0;
  for (double length = size(a); length > 0.25; length *= 0.5) ++halvings;
  double* const entry = a.data();
  each(m * m, [=](std::size_t e) { entry[e] = std::ldexp(entry[e], -halvings); });
  Matrix sum(m * m, 0.0), term(a);
  for (std::size_t e = 0; e < m; ++e) sum[e * m + e] = 1;
  for (int k = 1; k < 16; ++k) {
    double* const to = sum.data();
    const double* const more = term.data();
    each(m * m, [=](std::size_t e) { to[e] += more[e]; });
    if (size(term) < 1e-17) break;
    Matrix next(m * m, 0.0);
    multiply(m, 1.0 / (k + 1), a, term, next);
    term = std::move(next);
  }
  for (; halvings > 0; --halvings) {
    Matrix square(m * m, 0.0);
    multiply(m, 1, sum, sum, square);
    sum = std::move(square);
  }
  return sum;
}

}  // namespace

AGF_CORE void Transport::begin() {
  const std::size_t m = directions_.params, n = directions_.count();
  motion_.assign(m * m, 0.0);
  for (std::size_t e = 0; e < m; ++e) motion_[e * m + e] = 1;
  strain_ = 0;
  Array<std::int64_t> highest(n);
  std::int64_t* const tops = highest.data();
  const Wide* const faint = directions_.faint.data();
  each_task(n, [=](std::size_t j) {
    tops[j] = std::numeric_limits<std::int64_t>::min();
    for (std::size_t l = 0; l < m; ++l)
      if (!faint[j * m + l].zero()) tops[j] = std::max(tops[j], faint[j * m + l].exponent);
  });
  std::int64_t top = std::numeric_limits<std::int64_t>::min();
  for (const std::int64_t one : highest) top = std::max(top, one);
  shift_ = n > 0 ? 0.6931471805599453094 * static_cast<double>(top) : 0;
  columns_.assign(m * n, 0.0);
  add_product(
      n, m, m, [=](std::size_t j, std::size_t l) { return faint[j * m + l].scaled(top); }, directions_.frame.data(),
      columns_.data());
  measure();
}

AGF_CORE void Transport::measure() {
  const std::size_t m = directions_.params;
  parts_.resize(columns_.size());
  const double *const motion = motion_.data(), *const column = columns_.data();
  double* const part = parts_.data();
  each_entry(directions_.count(), m,
             [=](std::size_t j, std::size_t e) { part[j * m + e] = dot(m, motion + e * m, column + j * m); });
  const double square = total(parts_.size(), [=](std::size_t e) { return part[e] * part[e]; });
  log_size_ = 0.5 * std::log(square) + shift_;
}

AGF_CORE void Transport::settle(const Modes& now) {
  // The largest grows into all columns alike, and in a frame that turns they would keep nothing else.
  if (contrast_ + strain_ > most_contrast) {
    directions_.orthogonalize();
    contrast_ = 0;
  }
  adopt(directions_, now, &motion_, structured_);
  structured_ = true;
  contrast_ += strain_;
  begin();
}

AGF_CORE void Transport::grow(const Modes& now, double t) {
  settle(now);
  directions_.grow(now.rate, t);
  contrast_ += (now.rate.back() - now.rate.front()) * t;
  begin();
}

AGF_CORE bool Transport::still(const Matrix& b1, const Matrix& b2, const Matrix& b3, double h) {
  const double *const x1 = b1.data(), *const x2 = b2.data(), *const x3 = b3.data();
  const double most = largest(b2.size(), [=](std::size_t e) {
    return std::max({0.0, std::abs(x3[e] - x1[e]), std::abs(x3[e] - 2 * x2[e] + x1[e])});
  });
  return most * h <= least_change;
}

// S. Blanes, F. Casas, J. A. Oteo, J. Ros, "The Magnus expansion and some of its applications", Phys. Rep. 470 (2009),
// eq. 253, on the moments of B about the middle.
AGF_CORE bool Transport::step(const Matrix& b1, const Matrix& b2, const Matrix& b3, double h) {
  const std::size_t m = directions_.params;
  Matrix a1(m * m), a2(m * m), a3(m * m);
  {
    const double *const x1 = b1.data(), *const x2 = b2.data(), *const x3 = b3.data();
    double *const to1 = a1.data(), *const to2 = a2.data(), *const to3 = a3.data();
    const double slope = h * std::sqrt(15.0) / 3;
    each(m * m, [=](std::size_t e) {
      to1[e] = h * x2[e];
      to2[e] = slope * x3[e] - slope * x1[e];
      to3[e] = h * 10 / 3 * (x3[e] - 2 * x2[e] + x1[e]);
    });
  }
  const double length = size(a1);
  if (length > largest_exponent || size(a3) > largest_bend) return false;
  const Matrix c1 = commutator(m, a1, a2);
  const Matrix c2 = commutator(m, a1, combination(2, a3, 1, c1));
  Matrix left(m * m), right(m * m);
  {
    const double *const x1 = a1.data(), *const x2 = a2.data(), *const x3 = a3.data(), *const k1 = c1.data(),
                        *const k2 = c2.data();
    double *const to_left = left.data(), *const to_right = right.data();
    each(m * m, [=](std::size_t e) {
      to_left[e] = -20 * x1[e] - x3[e] + k1[e];
      to_right[e] = x2[e] + k2[e] * (-1.0 / 60);
    });
  }
  const Matrix c3 = commutator(m, left, right);
  Matrix exponent(m * m);
  const double *const k1 = c1.data(), *const k3 = c3.data();
  {
    const double *const x1 = a1.data(), *const x3 = a3.data();
    double* const to = exponent.data();
    each(m * m, [=](std::size_t e) { to[e] = x1[e] + 1.0 / 12 * x3[e] + k3[e] / 240; });
  }
  const double correction = total(m * m, [=](std::size_t e) {
    // Order 4 has -[a1, a2] / 12 in place of c3 / 240.
    const double part = k3[e] / 240 + k1[e] / 12;
    return part * part;
  });
  if (std::sqrt(correction) > largest_correction) return false;
  Matrix moved(m * m, 0.0);
  multiply(m, 1, exponential(m, std::move(exponent)), motion_, moved);
  motion_ = std::move(moved);
  strain_ += length;
  measure();
  return true;
}

}  // namespace AGF_SPACE
