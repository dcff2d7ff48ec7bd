#include "signed_least_squares.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "interrupt.hpp"

namespace agf {

namespace {

// A column whose part outside the basis is below this, relative to its length, is a combination of the basis.
constexpr double dependent = 1e-11;
// |x outside|^2 / |x|^2 down to which the normal equations tell it from their rounding: corrections by a triangle with
// this in it still gain digits.
constexpr double resolved = 1e-11;
// Roundoffs by which a correlation with the residual may be off, relative to |x_j| times all that was summed to the
// residual, |y| + sum_k |x_k beta_k|.
constexpr double rounding = 64 * std::numeric_limits<double>::epsilon();
// |P_B r| / |r| that may be left of a minimum: rates of dormant coordinates, and with them times, are off by no more.
constexpr double accurate = 1e-11;
// Or this part of what a correlation may be off anyway: steps are taken on residuals unrounded, so that these can be
// better minima than beta's digits are.
constexpr double part_of_noise = 1e-3;
// |x_j . r| / (|x_j| |r|) over the basis that leave |P_B r| below `accurate` |r| at condition numbers of a thousand.
constexpr double nothing = 1e-14;
// Corrections of one solution; they gain four digits each or more unless the basis is near to dependent, which is when
// |P_B r| / |r| is still above `hopeless`.
constexpr int most_corrections = 3;
constexpr double hopeless = 1e-8;

// |r| / (|y| + sum_k |x_k beta_k|) from which on sums to the residual are extended.
constexpr double cancelled = 1e-3;
// Changes of the basis before residual and correlations are summed again: each rounds them once.
constexpr int most_updates = 128;
// And what they may be moved by in all, relative to what is summed, or to what is left where sums are extended: steps
// are rounded relative to their own size.
constexpr double far = 1, far_extended = 1e4;
// And for the loss where it is taken on by differences: |r|^2 relative to that of the last sum, and the sum of
// |x_k step_k| of one solution, by whose square the differences are rounded, relative to |r| and to |y|.
constexpr double much_less = 1e-3, long_step = 100, long_at_all = 3;

// Columns per sample up to which X^T X pays, and its memory is a small multiple of that of X; and columns at which it
// takes a gigabyte.
constexpr double most_columns = 3;
constexpr std::size_t most_gram = 11000;
// Columns per pass over X after which it is made. It takes the time of one pass for each eight columns, since it is
// bound by arithmetic and passes by memory, and most paths have more than twice as many jumps.
constexpr std::size_t columns_per_pass = 16;

}  // namespace

SignedLeastSquares::SignedLeastSquares(const Design& design, const double* y)
    : design_(design),
      loops_(design.loops()),
      y_(y),
      n_(design.rows()),
      place_(design.columns(), absent),
      sign_(design.columns(), 0),
      length_(design.columns()),
      correlation_((design.columns() + 7) / 8 * 8, 0.0),
      factor_(loops_),
      residual_(y, y + n_) {
  design.lengths(length_.data());
  design.correlate(y, correlation_.data());
  target_length_ = norm(residual_);
  noise_ = rounding * target_length_;
  loss_ = loss_then_ = 0.5 * target_length_ * target_length_ / static_cast<double>(n_);
}

double SignedLeastSquares::norm(const std::vector<double>& a) const {
  return std::sqrt(loops_.dot(a.size(), a.data(), a.data()));
}

void SignedLeastSquares::allow(std::size_t j, int sign) {
  sign_[j] = static_cast<signed char>(sign);
  if (place_[j] != absent) return;
  place_[j] = waiting;
  idle_.push_back(j);
}

void SignedLeastSquares::shut(std::size_t j) {
  idle_.erase(std::find(idle_.begin(), idle_.end(), j));
  place_[j] = absent;
}

bool SignedLeastSquares::solve(const std::function<bool()>& stop) {
  // Coordinates that cannot come in: combinations of the basis, and those whose sign rounding decides.
  std::vector<std::size_t> refused;
  idle_correlation_.clear();
  for (std::size_t j : idle_) idle_correlation_.push_back(correlation_[j]);
  bool again = false;
  for (;;) {
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
    if (best == idle_.size()) break;
    if (stop()) return false;
    const std::size_t j = idle_[best];
    if (!insert(j, idle_correlation_[best])) {
      refused.push_back(j);
      continue;
    }
    const bool shrunk = keep_signs();
    measure_noise();
    // Not half of it: beta and what goes with it stay together.
    undisturbed([&]() {
      if (stale()) {
        refresh();
        again = true;
      } else {
        advance();
      }
    });
    if (shrunk) refused.clear();
    if (place_[j] == waiting) refused.push_back(j);
  }
  if (factor_.orthonormal()) project();
  complete();
  if (!factor_.orthonormal()) correct(again);
  return true;
}

std::vector<double> SignedLeastSquares::basis_correlation() const {
  std::vector<double> out(basis_.size());
  if (complete_)
    for (std::size_t k = 0; k < out.size(); ++k) out[k] = correlation_[basis_[k]];
  else
    undisturbed([&]() { design_.correlate(basis_, residual_.data(), out.data()); });
  return out;
}

// ---- changes of the basis

// Vectors by slot as long as the factor asks for.
void SignedLeastSquares::fit() {
  member_.resize(factor_.slots(), nobody);
  for (std::vector<double>* v : {&beta_, &step_, &z_, &wanted_, &cross_}) v->resize(padded(), 0.0);
}

void SignedLeastSquares::tidy() {
  const std::vector<std::size_t> old = factor_.compact();
  if (old.empty()) return;
  for (std::size_t s = 0; s < old.size(); ++s) {
    member_[s] = member_[old[s]];
    place_[member_[s]] = static_cast<int>(s);
    for (std::vector<double>* v : {&beta_, &step_, &z_}) (*v)[s] = (*v)[old[s]];
  }
  for (std::vector<double>* v : {&beta_, &step_, &z_})
    std::fill(v->begin() + static_cast<std::ptrdiff_t>(old.size()), v->end(), 0.0);
  fit();
}

// cross_ = R^-T X_B^T x_j.
void SignedLeastSquares::products(std::size_t j) {
  std::fill(cross_.begin(), cross_.end(), 0.0);
  if (gram_) {
    column_.resize(gram_->rows());
    gram_->column(j, column_.data());
    for (std::size_t k : basis_) cross_[static_cast<std::size_t>(place_[k])] = column_[k];
  } else {
    column_.resize(n_);
    design_.column(j, column_.data());
    product_.resize(basis_.size());
    design_.correlate(basis_, column_.data(), product_.data());
    for (std::size_t k = 0; k < basis_.size(); ++k) cross_[static_cast<std::size_t>(place_[basis_[k]])] = product_[k];
  }
  factor_.forward(cross_.data());
}

// The part of column j outside the basis by subtraction, twice, from cross_ of the normal equations.
double SignedLeastSquares::outside(std::size_t j) {
  std::vector<double> step = cross_;
  column_.resize(n_);
  product_.resize(basis_.size());
  design_.column(j, column_.data());
  for (int pass = 0; pass < 3; ++pass) {
    if (pass > 0) {
      design_.correlate(basis_, column_.data(), product_.data());
      for (std::size_t k = 0; k < basis_.size(); ++k) step[static_cast<std::size_t>(place_[basis_[k]])] = product_[k];
      factor_.forward(step.data());
    }
    factor_.backward(step.data());
    for (std::size_t k = 0; k < basis_.size(); ++k) product_[k] = -step[static_cast<std::size_t>(place_[basis_[k]])];
    design_.combine(basis_, product_.data(), column_.data());
    std::fill(step.begin(), step.end(), 0.0);
  }
  return norm(column_);
}

bool SignedLeastSquares::insert(std::size_t j, double correlation) {
  if (basis_.size() == n_) return false;
  tidy();
  if (!factor_.orthonormal()) {
    products(j);
    const double whole = length_[j] * length_[j];
    const double left = whole - loops_.dot(cross_.size(), cross_.data(), cross_.data());
    if (left > resolved * whole) {
      const double before = loops_.dot(z_.size(), cross_.data(), z_.data());
      factor_.append(cross_.data(), std::sqrt(left));
      enter(j);
      z_[member_.size() - 1] = (correlation - before) / std::sqrt(left);
      return true;
    }
    if (!(outside(j) > dependent * length_[j])) return false;
    undisturbed([&]() { orthonormalize(); });
  }
  column_.resize(n_);
  design_.column(j, column_.data());
  const double left = factor_.orthogonalize(column_.data(), length_[j], cross_.data());
  if (!(left > dependent * length_[j])) return false;
  factor_.append(cross_.data(), left, column_.data());
  enter(j);
  z_[member_.size() - 1] = loops_.dot(n_, factor_.q(member_.size() - 1), residual_.data());
  return true;
}

// Books column j, which is in the factor's last slot.
void SignedLeastSquares::enter(std::size_t j) {
  fit();
  const std::size_t s = member_.size() - 1;
  member_[s] = j;
  place_[j] = static_cast<int>(s);
  basis_.push_back(j);
  idle_.erase(std::find(idle_.begin(), idle_.end(), j));
  ++updates_;
}

void SignedLeastSquares::remove(std::size_t slot) {
  const std::size_t j = std::exchange(member_[slot], nobody);
  left_.push_back(j);
  left_by_.push_back(-step_[slot]);
  beta_[slot] = step_[slot] = 0;
  factor_.remove(slot, z_.data());
  basis_.erase(std::find(basis_.begin(), basis_.end(), j));
  place_[j] = waiting;
  idle_.push_back(j);
  ++updates_;
}

// Goes from beta towards the unconstrained minimum over the basis; a coordinate whose sign would change goes out where
// it reaches zero. True if any did.
bool SignedLeastSquares::keep_signs() {
  for (bool shrunk = false;; shrunk = true) {
    wanted_ = z_;
    factor_.backward(wanted_.data());
    std::size_t gone = nobody;
    double part = 1;
    for (std::size_t i = 0; i < member_.size(); ++i) {
      if (member_[i] == nobody) continue;
      const int s = sign_[member_[i]];
      if (!s || s * (beta_[i] + wanted_[i]) > 0) continue;
      const double reach = s * beta_[i] > 0 ? -beta_[i] / wanted_[i] : 0;
      if (gone != nobody && reach >= part) continue;
      part = reach;
      gone = i;
    }
    for (std::size_t i = 0; i < member_.size(); ++i) step_[i] += part * wanted_[i];
    for (std::size_t i = 0; i < member_.size(); ++i) beta_[i] += part * wanted_[i];
    if (factor_.orthonormal()) factor_.subtract(part, z_.data(), residual_.data());
    for (double& z : z_) z *= 1 - part;
    if (gone == nobody) return shrunk;
    remove(gone);
  }
}

// A Q for the basis as it is; a column that turns out to be a combination of those before it leaves.
void SignedLeastSquares::orthonormalize() {
  gram_.reset();
  factor_.start_orthonormal(n_);
  const std::vector<std::size_t> members = std::exchange(member_, {});
  const std::vector<double> beta = std::exchange(beta_, {});
  step_.clear();
  basis_.clear();
  column_.resize(n_);
  for (std::size_t i = 0; i < members.size(); ++i) {
    const std::size_t j = members[i];
    if (j == nobody) continue;
    place_[j] = waiting;
    idle_.push_back(j);
    design_.column(j, column_.data());
    fit();
    const double left = factor_.orthogonalize(column_.data(), length_[j], cross_.data());
    if (!(left > dependent * length_[j])) continue;
    factor_.append(cross_.data(), left, column_.data());
    enter(j);
    beta_[member_.size() - 1] = beta[i];
  }
  refresh();
  factor_.project(residual_.data(), z_.data());
}

// ---- residual and correlations

// What beta has moved since residual and correlations were brought to it, before it was rounded.
void SignedLeastSquares::gather() {
  moved_.swap(left_);
  moves_.swap(left_by_);
  left_.clear();
  left_by_.clear();
  for (std::size_t i = 0; i < member_.size(); ++i) {
    if (member_[i] == nobody || step_[i] == 0) continue;
    moved_.push_back(member_[i]);
    moves_.push_back(-std::exchange(step_[i], 0.0));
  }
  for (std::size_t k = 0; k < moved_.size(); ++k) travelled_ += std::abs(moves_[k]) * length_[moved_[k]];
}

// Brings them there, as far as the idle ask.
void SignedLeastSquares::advance() {
  const double before = travelled_;
  gather();
  const double way = travelled_ - before;
  idle_correlation_.resize(idle_.size());
  if (gram_) {
    // |r|^2 falls by the steps times the correlations before and after.
    double fall = 0;
    for (std::size_t k = 0; k < moved_.size(); ++k) fall -= moves_[k] * correlation_[moved_[k]];
    gram_->combine(moved_, moves_.data(), correlation_.data());
    for (std::size_t k = 0; k < moved_.size(); ++k) fall -= moves_[k] * correlation_[moved_[k]];
    loss_ -= 0.5 * fall / static_cast<double>(n_);
    for (std::size_t k = 0; k < idle_.size(); ++k) idle_correlation_[k] = correlation_[idle_[k]];
    if (!(loss_ > much_less * loss_then_) || way > std::min(long_step * size(), long_at_all * target_length_))
      refresh();
    return;
  }
  complete_ = false;
  if (!factor_.orthonormal()) design_.combine(moved_, moves_.data(), residual_.data());
  design_.correlate(idle_, residual_.data(), idle_correlation_.data());
  loss_ = 0.5 * loops_.dot(n_, residual_.data(), residual_.data()) / static_cast<double>(n_);
}

// Correlations of all.
void SignedLeastSquares::complete() {
  if (gram_) return;
  design_.correlate(residual_.data(), correlation_.data());
  complete_ = true;
  ++passes_;
  const std::size_t d = design_.columns();
  if (factor_.orthonormal() || d > most_gram || passes_ < static_cast<long>(d / columns_per_pass) ||
      static_cast<double>(d) > most_columns * static_cast<double>(n_))
    return;
  gram_ = design_.gram();
  loss_then_ = loss_;
}

// Whether what is left of the minimum, |P_B r|, decides the sign of an idle coordinate's correlation.
bool SignedLeastSquares::uncertain(double left) const {
  for (std::size_t k = 0; k < idle_.size(); ++k) {
    const double c = std::abs(idle_correlation_[k]);
    if (c > noise(idle_[k]) && c < 2 * left * length_[idle_[k]]) return true;
  }
  return false;
}

// Goes by `wanted_` where signs allow.
void SignedLeastSquares::take() {
  for (std::size_t i = 0; i < member_.size(); ++i) {
    const int s = member_[i] == nobody ? 0 : sign_[member_[i]];
    if (s && !(s * (beta_[i] + wanted_[i]) > 0)) continue;
    step_[i] += wanted_[i];
    beta_[i] += wanted_[i];
  }
}

// Corrects by the normal equations until the minimum is one; `again`: once at least.
void SignedLeastSquares::correct(bool again) {
  for (int round = 0; !basis_.empty(); ++round) {
    bool rounded = !(again && round == 0);
    for (std::size_t k : basis_) {
      z_[static_cast<std::size_t>(place_[k])] = correlation_[k];
      rounded = rounded && std::abs(correlation_[k]) <= nothing * size() * length_[k];
    }
    if (rounded) {
      std::fill(z_.begin(), z_.end(), 0.0);
      return;
    }
    factor_.forward(z_.data());
    const double left = norm(z_);
    const bool fine = left <= std::max(accurate * size(), part_of_noise * noise_) && !uncertain(left);
    if (fine && !(again && round == 0)) return;
    if (round == most_corrections) {
      if (left <= std::max(hopeless * size(), noise_)) return;
      undisturbed([&]() { orthonormalize(); });
      project();
      complete();
      return;
    }
    wanted_ = z_;
    factor_.backward(wanted_.data());
    take();
    undisturbed([&]() { advance(); });
    complete();
    for (std::size_t k = 0; k < idle_.size(); ++k) idle_correlation_[k] = correlation_[idle_[k]];
  }
}

// The same by Q: what sums to the residual left in the basis goes to beta.
void SignedLeastSquares::project() {
  factor_.project(residual_.data(), z_.data());
  wanted_ = z_;
  factor_.backward(wanted_.data());
  factor_.subtract(1, z_.data(), residual_.data());
  std::fill(z_.begin(), z_.end(), 0.0);
  take();
  undisturbed([&]() { advance(); });
}

void SignedLeastSquares::measure_noise() {
  double summed = target_length_;
  for (std::size_t j : basis_) summed += std::abs(value(j)) * length_[j];
  noise_ = rounding * summed;
}

double SignedLeastSquares::size() const { return std::sqrt(2 * static_cast<double>(n_) * std::max(loss_, 0.0)); }

bool SignedLeastSquares::cancels() const { return size() < cancelled * noise_ / rounding; }

bool SignedLeastSquares::stale() const {
  return updates_ > most_updates || travelled_ > (cancels() ? far_extended * size() : far * noise_ / rounding);
}

// From beta itself: rounding does not build up from change to change. Where the residual is much smaller than what is
// summed it is a difference of nearly equal numbers, summed in twice the precision.
void SignedLeastSquares::refresh() {
  gather();
  updates_ = 0;
  travelled_ = 0;
  std::vector<double> negative;
  for (std::size_t j : basis_) negative.push_back(-value(j));
  residual_.assign(y_, y_ + n_);
  design_.combine(basis_, negative.data(), residual_.data());
  loss_ = 0.5 * loops_.dot(n_, residual_.data(), residual_.data()) / static_cast<double>(n_);
  if (cancels()) {
    std::vector<double> low(n_, 0.0);
    residual_.assign(y_, y_ + n_);
    design_.combine(basis_, negative.data(), residual_.data(), low.data());
    loops_.add(n_, 1, low.data(), residual_.data());
  }
  loss_ = loss_then_ = 0.5 * loops_.dot(n_, residual_.data(), residual_.data()) / static_cast<double>(n_);
  complete_ = gram_ != nullptr;
  if (gram_) design_.correlate(residual_.data(), correlation_.data());
  idle_correlation_.resize(idle_.size());
  design_.correlate(idle_, residual_.data(), idle_correlation_.data());
}

}  // namespace agf
