#include "transport.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "linear.hpp"

namespace agf {

namespace {

using Matrix = std::vector<double>;

// What commutators of order 6 add to those of order 4, relative to the identity: their own successors are smaller by
// the same factor.
constexpr double largest_correction = 1e-6;
// The part of B that is not linear in time, and the largest exponent of one step.
constexpr double largest_bend = 0.05, largest_exponent = 3;
constexpr double least_change = 1e-12;

double size(const Matrix& a) { return norm(a.size(), a.data()); }

// c += factor * a b.
void multiply(std::size_t m, double factor, const Matrix& a, const Matrix& b, Matrix& c) {
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t k = 0; k < m; ++k) {
      const double left = factor * a[i * m + k];
      if (left == 0) continue;
      for (std::size_t j = 0; j < m; ++j) c[i * m + j] += left * b[k * m + j];
    }
}

Matrix commutator(std::size_t m, const Matrix& a, const Matrix& b) {
  Matrix c(m * m, 0.0);
  multiply(m, 1, a, b, c);
  multiply(m, -1, b, a, c);
  return c;
}

Matrix combination(double x, const Matrix& a, double y, const Matrix& b) {
  Matrix c(a.size());
  for (std::size_t e = 0; e < a.size(); ++e) c[e] = x * a[e] + y * b[e];
  return c;
}

// e^a by scaling, Taylor's series and squaring.
Matrix exponential(std::size_t m, Matrix a) {
  int halvings = 0;
  for (double length = size(a); length > 0.25; length *= 0.5) ++halvings;
  for (double& e : a) e = std::ldexp(e, -halvings);
  Matrix sum(m * m, 0.0), term(a);
  for (std::size_t e = 0; e < m; ++e) sum[e * m + e] = 1;
  for (int k = 1; k < 16; ++k) {
    for (std::size_t e = 0; e < m * m; ++e) sum[e] += term[e];
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

void Transport::begin() {
  const std::size_t m = directions_.params, n = directions_.count();
  motion_.assign(m * m, 0.0);
  for (std::size_t e = 0; e < m; ++e) motion_[e * m + e] = 1;
  strain_ = 0;
  std::int64_t top = std::numeric_limits<std::int64_t>::min();
  for (const Wide& x : directions_.faint)
    if (!x.zero()) top = std::max(top, x.exponent);
  shift_ = n > 0 ? 0.6931471805599453094 * static_cast<double>(top) : 0;
  columns_.assign(m * n, 0.0);
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t l = 0; l < m; ++l) {
      const double part = directions_.faint[j * m + l].scaled(top);
      for (std::size_t e = 0; e < m && part != 0; ++e) columns_[j * m + e] += part * directions_.frame[l * m + e];
    }
  measure();
}

void Transport::measure() {
  const std::size_t m = directions_.params;
  double square = 0;
  for (std::size_t c = 0; c < columns_.size(); c += m)
    for (std::size_t e = 0; e < m; ++e) {
      const double part = dot(m, &motion_[e * m], &columns_[c]);
      square += part * part;
    }
  log_size_ = 0.5 * std::log(square) + shift_;
}

void Transport::settle(const Modes& now) {
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

void Transport::grow(const Modes& now, double t) {
  settle(now);
  directions_.grow(now.rate, t);
  contrast_ += (now.rate.back() - now.rate.front()) * t;
  begin();
}

bool Transport::still(const Matrix& b1, const Matrix& b2, const Matrix& b3, double h) {
  double change = 0, bend = 0;
  for (std::size_t e = 0; e < b2.size(); ++e) {
    change = std::max(change, std::abs(b3[e] - b1[e]));
    bend = std::max(bend, std::abs(b3[e] - 2 * b2[e] + b1[e]));
  }
  return std::max(change, bend) * h <= least_change;
}

// S. Blanes, F. Casas, J. A. Oteo, J. Ros, "The Magnus expansion and some of its applications", Phys. Rep. 470 (2009),
// eq. 253, on the moments of B about the middle.
bool Transport::step(const Matrix& b1, const Matrix& b2, const Matrix& b3, double h) {
  const std::size_t m = directions_.params;
  Matrix a1 = b2, a2 = combination(h * std::sqrt(15.0) / 3, b3, -h * std::sqrt(15.0) / 3, b1), a3(m * m);
  for (std::size_t e = 0; e < m * m; ++e) {
    a1[e] *= h;
    a3[e] = h * 10 / 3 * (b3[e] - 2 * b2[e] + b1[e]);
  }
  const double length = size(a1);
  if (length > largest_exponent || size(a3) > largest_bend) return false;
  const Matrix c1 = commutator(m, a1, a2);
  Matrix c2 = commutator(m, a1, combination(2, a3, 1, c1));
  for (double& e : c2) e *= -1.0 / 60;
  Matrix left(m * m);
  for (std::size_t e = 0; e < m * m; ++e) left[e] = -20 * a1[e] - a3[e] + c1[e];
  const Matrix c3 = commutator(m, left, combination(1, a2, 1, c2));
  Matrix exponent = combination(1, a1, 1.0 / 12, a3);
  double correction = 0;
  for (std::size_t e = 0; e < m * m; ++e) {
    // Order 4 has -[a1, a2] / 12 in place of c3 / 240.
    const double part = c3[e] / 240 + c1[e] / 12;
    correction += part * part;
    exponent[e] += c3[e] / 240;
  }
  if (std::sqrt(correction) > largest_correction) return false;
  Matrix moved(m * m, 0.0);
  multiply(m, 1, exponential(m, std::move(exponent)), motion_, moved);
  motion_ = std::move(moved);
  strain_ += length;
  measure();
  return true;
}

}  // namespace agf
