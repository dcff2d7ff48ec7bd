#include "signed_least_squares.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "interrupt.hpp"
#include "lanes.hpp"

namespace agf {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// A column whose part outside the basis is below this, relative to its length, is a combination of the basis.
constexpr double dependent = 1e-11;
// Roundoffs by which a correlation with the residual may be off, relative to |x_j| times all that was summed to the
// residual, |y| + sum_k |x_k beta_k|.
constexpr double rounding = 64 * std::numeric_limits<double>::epsilon();

// |r| / |y| from which on sums to the residual are extended.
constexpr double cancelled = 1e-3;
// A column that keeps this part of its length is orthogonal enough after one pass.
constexpr double enough = 0.7;
// Changes of the basis before the residual is summed again.
constexpr int most_updates = 32;
// And how much, relative to what is left, may have been given back to it, which loses digits.
constexpr double most_given_back = 10;

double norm(std::size_t n, const double* a) { return std::sqrt(lane_dot(n, a, a)); }

}  // namespace

SignedLeastSquares::SignedLeastSquares(const Design& design, const double* y)
    : design_(design),
      y_(y),
      n_(design.rows()),
      place_(design.columns(), absent),
      sign_(design.columns(), 0),
      length_(design.columns()),
      residual_(y, y + n_) {
  design.lengths(length_.data());
  target_length_ = norm(n_, y);
  noise_ = rounding * target_length_;
}

double SignedLeastSquares::loss() const {
  return 0.5 * lane_dot(n_, residual_.data(), residual_.data()) / static_cast<double>(n_);
}

void SignedLeastSquares::allow(std::size_t j, int sign) {
  sign_[j] = static_cast<signed char>(sign);
  if (place_[j] != absent) return;
  place_[j] = waiting;
  idle_.push_back(j);
}

void SignedLeastSquares::shut(std::size_t j) {
  if (place_[j] >= 0) remove(static_cast<std::size_t>(place_[j]));
  idle_.erase(std::find(idle_.begin(), idle_.end(), j));
  place_[j] = absent;
}

bool SignedLeastSquares::solve(const std::function<bool()>& stop) {
  // Coordinates that cannot come in: combinations of the basis, and those whose sign rounding decides.
  std::vector<std::size_t> refused;
  for (;;) {
    idle_correlation_.resize(idle_.size());
    design_.correlate(idle_, residual_.data(), idle_correlation_.data());
    std::size_t best = idle_.size();
    double most = 0;
    for (std::size_t k = 0; k < idle_.size(); ++k) {
      const std::size_t j = idle_[k];
      if (std::find(refused.begin(), refused.end(), j) != refused.end()) continue;
      const double c = sign_[j] ? sign_[j] * idle_correlation_[k] : std::abs(idle_correlation_[k]);
      // Per length of the column: the decrease of the loss along it.
      if (c > noise(j) && c > most * length_[j]) {
        most = c / length_[j];
        best = k;
      }
    }
    if (best == idle_.size()) return true;
    if (stop()) return false;
    const std::size_t j = idle_[best];
    if (!insert(j)) {
      refused.push_back(j);
      continue;
    }
    const bool shrunk = keep_signs();
    if (updates_ > most_updates || given_back_ > most_given_back * norm(n_, residual_.data()))
      refresh();
    else
      measure_noise();
    if (shrunk) refused.clear();
    if (place_[j] == waiting) refused.push_back(j);
  }
}

bool SignedLeastSquares::insert(std::size_t j) {
  const std::size_t k = basis_.size();
  if (k == n_) return false;
  if (q_.size() < (k + 1) * n_) q_.resize(std::max<std::size_t>(2 * k, 8) * n_);
  double* v = q(k);
  design_.column(j, v);
  std::vector<double> r(k + 1, 0.0);
  // Twice is enough: the second pass leaves the column orthogonal to rounding.
  double left = length_[j], before = infinity;
  for (int pass = 0; pass < 2 && left < enough * before; ++pass, before = std::exchange(left, norm(n_, v)))
    for (std::size_t i = 0; i < k; ++i) {
      const double* u = q(i);
      const double c = lane_dot(n_, u, v);
      r[i] += c;
      for (std::size_t e = 0; e < n_; ++e) v[e] -= c * u[e];
    }
  if (!(left > dependent * length_[j])) return false;
  r[k] = left;
  for (std::size_t e = 0; e < n_; ++e) v[e] /= left;
  r_.push_back(std::move(r));
  // The residual is orthogonal to the rest of the basis, and small where y is not: what the column takes off it
  // loses nothing however small the residual has become.
  z_.push_back(lane_dot(n_, v, residual_.data()));
  for (std::size_t e = 0; e < n_; ++e) residual_[e] -= z_[k] * v[e];
  ++updates_;
  beta_.push_back(0.0);
  basis_.push_back(j);
  place_[j] = static_cast<int>(k);
  idle_.erase(std::find(idle_.begin(), idle_.end(), j));
  return true;
}

void SignedLeastSquares::remove(std::size_t position) {
  const std::size_t j = basis_[position];
  const std::size_t k = basis_.size();
  r_.erase(r_.begin() + static_cast<std::ptrdiff_t>(position));
  for (std::size_t i = position; i + 1 < k; ++i) {
    // Column i of R now reaches one below the diagonal: rotate rows i and i + 1.
    const double a = r_[i][i], b = r_[i][i + 1];
    const double length = std::hypot(a, b), c = a / length, s = b / length;
    r_[i].pop_back();
    r_[i][i] = length;
    for (std::size_t l = i + 1; l + 1 < k; ++l) {
      const double upper = r_[l][i], lower = r_[l][i + 1];
      r_[l][i] = c * upper + s * lower;
      r_[l][i + 1] = c * lower - s * upper;
    }
    double* u = q(i);
    double* v = q(i + 1);
    for (std::size_t e = 0; e < n_; ++e) {
      const double upper = u[e], lower = v[e];
      u[e] = c * upper + s * lower;
      v[e] = c * lower - s * upper;
    }
    const double upper = z_[i], lower = z_[i + 1];
    z_[i] = c * upper + s * lower;
    z_[i + 1] = c * lower - s * upper;
  }
  const double* last = q(k - 1);
  for (std::size_t e = 0; e < n_; ++e) residual_[e] += z_[k - 1] * last[e];
  ++updates_;
  given_back_ = std::max(given_back_, std::abs(z_[k - 1]));
  z_.pop_back();
  beta_.erase(beta_.begin() + static_cast<std::ptrdiff_t>(position));
  basis_.erase(basis_.begin() + static_cast<std::ptrdiff_t>(position));
  for (std::size_t i = position; i < basis_.size(); ++i) place_[basis_[i]] = static_cast<int>(i);
  place_[j] = waiting;
  idle_.push_back(j);
}

void SignedLeastSquares::back_substitute(std::vector<double>& x) const {
  for (std::size_t i = x.size(); i-- > 0;) {
    x[i] /= r_[i][i];
    for (std::size_t l = 0; l < i; ++l) x[l] -= r_[i][l] * x[i];
  }
}

// Goes from beta towards the unconstrained minimum over the basis; a coordinate whose sign would change goes out where
// it reaches zero. True if any did.
bool SignedLeastSquares::keep_signs() {
  for (bool shrunk = false;; shrunk = true) {
    wanted_ = z_;
    back_substitute(wanted_);
    std::size_t gone = basis_.size();
    double step = 1;
    for (std::size_t i = 0; i < basis_.size(); ++i) {
      const int s = sign_[basis_[i]];
      if (!s || s * wanted_[i] > 0) continue;
      const double reach = s * beta_[i] > 0 ? beta_[i] / (beta_[i] - wanted_[i]) : 0;
      if (gone < basis_.size() && reach >= step) continue;
      step = reach;
      gone = i;
    }
    if (gone == basis_.size()) {
      beta_ = wanted_;
      return shrunk;
    }
    for (std::size_t i = 0; i < basis_.size(); ++i) beta_[i] += step * (wanted_[i] - beta_[i]);
    remove(gone);
  }
}

void SignedLeastSquares::measure_noise() {
  double summed = target_length_;
  for (std::size_t i = 0; i < basis_.size(); ++i) summed += std::abs(beta_[i]) * length_[basis_[i]];
  noise_ = rounding * summed;
}

// The residual from beta itself, and one round of refinement: rounding does not build up from change to change. Where
// the residual is much smaller than the targets it is a difference of nearly equal numbers, summed in extended
// precision.
void SignedLeastSquares::refresh() {
  updates_ = 0;
  given_back_ = 0;
  const std::size_t k = basis_.size();
  wanted_.resize(k);
  for (std::size_t i = 0; i < k; ++i) wanted_[i] = -beta_[i];
  undisturbed([&]() {
    residual_.assign(y_, y_ + n_);
    design_.combine(basis_, wanted_.data(), residual_.data());
    if (norm(n_, residual_.data()) < cancelled * target_length_) {
      std::vector<long double> sum(y_, y_ + n_);
      design_.combine(basis_, wanted_.data(), sum.data());
      residual_.assign(sum.begin(), sum.end());
    }
  });
  for (std::size_t i = 0; i < k; ++i) wanted_[i] = lane_dot(n_, q(i), residual_.data());
  for (std::size_t i = 0; i < k; ++i) {
    const double* u = q(i);
    for (std::size_t e = 0; e < n_; ++e) residual_[e] -= wanted_[i] * u[e];
    z_[i] += wanted_[i];
  }
  back_substitute(wanted_);
  for (std::size_t i = 0; i < k; ++i) {
    const int s = sign_[basis_[i]];
    const double refined = beta_[i] + wanted_[i];
    if (!s || s * refined > 0) beta_[i] = refined;
  }
  measure_noise();
}

}  // namespace agf
