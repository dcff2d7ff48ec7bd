#include "signed_least_squares.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "entries.hpp"
#include "interrupt.hpp"

namespace AGF_SPACE {

namespace {

// A column whose part outside the basis is below this, relative to its length, is a combination of the basis.
AGF_TABLE double dependent = 1e-11;
// |x outside|^2 / |x|^2 down to which the normal equations tell it from their rounding: corrections by a triangle with
// this in it still gain digits.
AGF_TABLE double resolved = 1e-11;
// Roundoffs by which a correlation with the residual may be off, relative to |x_j| times all that was summed to the
// residual, |y| + sum_k |x_k beta_k|.
AGF_TABLE double summed_rounding = 64 * std::numeric_limits<double>::epsilon();
// |P_B r| / |r| that may be left of a minimum: rates of dormant coordinates, and with them times, are off by no more.
AGF_TABLE double accurate = 1e-11;
// Or this part of what a correlation may be off anyway: steps are taken on residuals unrounded, so that these can be
// better minima than beta's digits are.
AGF_TABLE double part_of_noise = 1e-3;
// |x_j . r| / (|x_j| |r|) over the basis that leave |P_B r| below `accurate` |r| at condition numbers of a thousand.
AGF_TABLE double nothing = 1e-14;
// Corrections of one solution; they gain four digits each or more unless the basis is near to dependent, which is when
// |P_B r| / |r| is still above `hopeless`.
AGF_TABLE int most_corrections = 3;
AGF_TABLE double hopeless = 1e-8;

// |r| / (|y| + sum_k |x_k beta_k|) from which on sums to the residual are extended.
AGF_TABLE double cancelled_part = 1e-3;
// Changes of the basis before residual and correlations are summed again: each rounds them once.
AGF_TABLE int most_updates = 128;
// And what they may be moved by in all, relative to what is summed, or to what is left where sums are extended: steps
// are rounded relative to their own size.
AGF_TABLE double far = 1, far_extended = 1e4;
// And for the loss where it is taken on by differences: |r|^2 relative to that of the last sum, and the sum of
// |x_k step_k| of one solution, by whose square the differences are rounded, relative to |r| and to |y|.
AGF_TABLE double much_less = 1e-3, long_step = 100, long_at_all = 3;

// Columns per sample up to which X^T X pays, and its memory is a small multiple of that of X; and columns at which it
// takes a gigabyte.
AGF_TABLE double most_columns = 3;
AGF_TABLE std::size_t most_gram = 11000;
// Columns per pass over X after which it is made. It takes the time of one pass for each eight columns, since it is
// bound by arithmetic and passes by memory, and most paths have more than twice as many jumps.
AGF_TABLE std::size_t columns_per_pass = 16;

}  // namespace

namespace {

AGF_CORE void take_out(Array<std::size_t>& from, std::size_t j) {
  const auto at = std::find(from.begin(), from.end(), j);
  from.erase(at, at + 1);
}

AGF_CORE void clear(Array<double>& values) {
  double* const at = values.data();
  each(values.size(), [=](std::size_t i) { at[i] = 0; });
}

}  // namespace

AGF_CORE SignedLeastSquares::SignedLeastSquares(const Design& design, const double* y)
    : design_(design),
      loops_(design.loops()),
      y_(y),
      n_(design.rows()),
      place_(design.columns(), int{absent}),
      sign_(design.columns(), 0),
      length_(design.columns()),
      correlation_((design.columns() + 7) / 8 * 8, 0.0),
      factor_(loops_),
      residual_(y, y + n_) {
  design.lengths(length_.data());
  design.correlate(y, correlation_.data());
  target_length_ = norm(residual_);
  noise_ = summed_rounding * target_length_;
  loss_ = loss_then_ = 0.5 * target_length_ * target_length_ / static_cast<double>(n_);
}

AGF_CORE double SignedLeastSquares::norm(const Array<double>& a) const {
  return std::sqrt(loops_.dot(a.size(), a.data(), a.data()));
}

AGF_CORE void SignedLeastSquares::allow(std::size_t j, int sign) {
  sign_[j] = static_cast<signed char>(sign);
  if (place_[j] != absent) return;
  place_[j] = waiting;
  idle_.push_back(j);
}

AGF_CORE void SignedLeastSquares::shut(std::size_t j) {
  take_out(idle_, j);
  place_[j] = absent;
}

AGF_CORE bool SignedLeastSquares::solve(Control& control) {
  // Coordinates that cannot come in: combinations of the basis, and those whose sign rounding decides.
  Array<std::size_t> refused;
  gather_idle();
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
    if (control.poll()) return false;
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

AGF_CORE Array<double> SignedLeastSquares::basis_correlation() const {
  Array<double> out(basis_.size());
  if (complete_) {
    const std::size_t* const which = basis_.data();
    const double* const from = correlation_.data();
    double* const to = out.data();
    each(out.size(), [=](std::size_t k) { to[k] = from[which[k]]; });
    return out;
  }
  undisturbed([&]() { design_.correlate(basis_, residual_.data(), out.data()); });
  return out;
}

// ---- changes of the basis

// Vectors by slot as long as the factor asks for.
AGF_CORE void SignedLeastSquares::fit() {
  member_.resize(factor_.slots(), std::size_t{nobody});
  for (Array<double>* v : {&beta_, &step_, &z_, &wanted_, &cross_}) v->resize(padded(), 0.0);
}

AGF_CORE void SignedLeastSquares::tidy() {
  const Array<std::size_t> old = factor_.compact();
  if (old.empty()) return;
  // Every one moves forward, in their order.
  for (std::size_t s = 0; s < old.size(); ++s) {
    member_[s] = member_[old[s]];
    place_[member_[s]] = static_cast<int>(s);
    for (Array<double>* v : {&beta_, &step_, &z_}) (*v)[s] = (*v)[old[s]];
  }
  for (Array<double>* v : {&beta_, &step_, &z_})
    for (std::size_t s = old.size(); s < v->size(); ++s) (*v)[s] = 0;
  fit();
}

// From the order of the basis to slots.
AGF_CORE void SignedLeastSquares::to_slots(const Array<double>& of_basis, Array<double>& out) const {
  const std::size_t* const which = basis_.data();
  const int* const place = place_.data();
  const double* const from = of_basis.data();
  double* const to = out.data();
  each(basis_.size(), [=](std::size_t k) { to[place[which[k]]] = from[k]; });
}

// cross_ = R^-T X_B^T x_j.
AGF_CORE void SignedLeastSquares::products(std::size_t j) {
  clear(cross_);
  if (gram_) {
    column_.resize(gram_->rows());
    gram_->column(j, column_.data());
    const std::size_t* const which = basis_.data();
    const int* const place = place_.data();
    const double* const from = column_.data();
    double* const to = cross_.data();
    each(basis_.size(), [=](std::size_t k) { to[place[which[k]]] = from[which[k]]; });
  } else {
    column_.resize(n_);
    design_.column(j, column_.data());
    product_.resize(basis_.size());
    design_.correlate(basis_, column_.data(), product_.data());
    to_slots(product_, cross_);
  }
  factor_.forward(cross_.data());
}

// The part of column j outside the basis by subtraction, twice, from cross_ of the normal equations.
AGF_CORE double SignedLeastSquares::outside(std::size_t j) {
  Array<double> step = cross_;
  column_.resize(n_);
  product_.resize(basis_.size());
  design_.column(j, column_.data());
  for (int pass = 0; pass < 3; ++pass) {
    if (pass > 0) {
      design_.correlate(basis_, column_.data(), product_.data());
      to_slots(product_, step);
      factor_.forward(step.data());
    }
    factor_.backward(step.data());
    const std::size_t* const which = basis_.data();
    const int* const place = place_.data();
    const double* const from = step.data();
    double* const to = product_.data();
    each(basis_.size(), [=](std::size_t k) { to[k] = -from[place[which[k]]]; });
    design_.combine(basis_, product_.data(), column_.data());
    clear(step);
  }
  return norm(column_);
}

AGF_CORE bool SignedLeastSquares::insert(std::size_t j, double correlation) {
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
AGF_CORE void SignedLeastSquares::enter(std::size_t j) {
  fit();
  const std::size_t s = member_.size() - 1;
  member_[s] = j;
  place_[j] = static_cast<int>(s);
  basis_.push_back(j);
  take_out(idle_, j);
  ++updates_;
}

AGF_CORE void SignedLeastSquares::remove(std::size_t slot) {
  const std::size_t j = std::exchange(member_[slot], std::size_t{nobody});
  left_.push_back(j);
  left_by_.push_back(-step_[slot]);
  beta_[slot] = step_[slot] = 0;
  factor_.remove(slot, z_.data());
  take_out(basis_, j);
  place_[j] = waiting;
  idle_.push_back(j);
  ++updates_;
}

// Goes from beta towards the unconstrained minimum over the basis; a coordinate whose sign would change goes out where
// it reaches zero. True if any did.
AGF_CORE bool SignedLeastSquares::keep_signs() {
  for (bool shrunk = false;; shrunk = true) {
    wanted_ = z_;
    factor_.backward(wanted_.data());
    const std::size_t slots = member_.size();
    const std::size_t* const member = member_.data();
    const signed char* const sign = sign_.data();
    const double* const wanted = wanted_.data();
    double *const beta = beta_.data(), *const step = step_.data(), *const z = z_.data();
    const auto keeps = [=](std::size_t i) {
      const int s = member[i] == nobody ? 0 : sign[member[i]];
      return !s || s * (beta[i] + wanted[i]) > 0;
    };
    std::size_t gone = nobody;
    double part = 1;
    for (std::size_t i = every(slots, keeps) ? slots : 0; i < slots; ++i) {
      if (keeps(i)) continue;
      const double reach = sign[member[i]] * beta[i] > 0 ? -beta[i] / wanted[i] : 0;
      if (gone != nobody && reach >= part) continue;
      part = reach;
      gone = i;
    }
    each(slots, [=](std::size_t i) {
      step[i] += part * wanted[i];
      beta[i] += part * wanted[i];
    });
    if (factor_.orthonormal()) factor_.subtract(part, z, residual_.data());
    each(z_.size(), [=](std::size_t i) { z[i] *= 1 - part; });
    if (gone == nobody) return shrunk;
    remove(gone);
  }
}

// A Q for the basis as it is; a column that turns out to be a combination of those before it leaves.
AGF_CORE void SignedLeastSquares::orthonormalize() {
  gram_ = {};
  factor_.start_orthonormal(n_);
  const Array<std::size_t> members = std::move(member_);
  const Array<double> beta = std::move(beta_);
  member_.clear();
  beta_.clear();
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

// What correlations say of the idle.
AGF_CORE void SignedLeastSquares::gather_idle() {
  idle_correlation_.resize(idle_.size());
  const std::size_t* const which = idle_.data();
  const double* const from = correlation_.data();
  double* const to = idle_correlation_.data();
  each(idle_.size(), [=](std::size_t k) { to[k] = from[which[k]]; });
}

// What beta has moved since residual and correlations were brought to it, before it was rounded.
AGF_CORE void SignedLeastSquares::gather() {
  using std::swap;
  swap(moved_, left_);
  swap(moves_, left_by_);
  left_.clear();
  left_by_.clear();
  const std::size_t* const member = member_.data();
  double* const step = step_.data();
  const auto has_moved = [=](std::size_t i) { return member[i] != nobody && step[i] != 0; };
  where(member_.size(), has_moved, stepped_);
  const std::size_t before = moved_.size();
  moved_.resize(before + stepped_.size());
  moves_.resize(before + stepped_.size());
  const std::size_t* const slot = stepped_.data();
  std::size_t* const which = moved_.data();
  double* const by = moves_.data();
  each(stepped_.size(), [=](std::size_t k) {
    which[before + k] = member[slot[k]];
    by[before + k] = -step[slot[k]];
    step[slot[k]] = 0;
  });
  const double* const length = length_.data();
  travelled_ = plus_total(travelled_, moved_.size(), [=](std::size_t k) { return std::abs(by[k]) * length[which[k]]; });
}

// Brings them there, as far as the idle ask.
AGF_CORE void SignedLeastSquares::advance() {
  const double before = travelled_;
  gather();
  const double way = travelled_ - before;
  if (gram_) {
    // |r|^2 falls by the steps times the correlations before and after.
    const std::size_t* const which = moved_.data();
    const double *const by = moves_.data(), *const correlation = correlation_.data();
    const auto falls = [=](std::size_t k) { return -by[k] * correlation[which[k]]; };
    double fall = total(moved_.size(), falls);
    gram_->combine(moved_, moves_.data(), correlation_.data());
    fall = plus_total(fall, moved_.size(), falls);
    loss_ -= 0.5 * fall / static_cast<double>(n_);
    gather_idle();
    if (!(loss_ > much_less * loss_then_) || way > std::min(long_step * size(), long_at_all * target_length_))
      refresh();
    return;
  }
  complete_ = false;
  if (!factor_.orthonormal()) design_.combine(moved_, moves_.data(), residual_.data());
  idle_correlation_.resize(idle_.size());
  design_.correlate(idle_, residual_.data(), idle_correlation_.data());
  loss_ = 0.5 * loops_.dot(n_, residual_.data(), residual_.data()) / static_cast<double>(n_);
}

// Correlations of all.
AGF_CORE void SignedLeastSquares::complete() {
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
AGF_CORE bool SignedLeastSquares::uncertain(double left) const {
  for (std::size_t k = 0; k < idle_.size(); ++k) {
    const double c = std::abs(idle_correlation_[k]);
    if (c > noise(idle_[k]) && c < 2 * left * length_[idle_[k]]) return true;
  }
  return false;
}

// Goes by `wanted_` where signs allow.
AGF_CORE void SignedLeastSquares::take() {
  const std::size_t* const member = member_.data();
  const signed char* const sign = sign_.data();
  const double* const wanted = wanted_.data();
  double *const beta = beta_.data(), *const step = step_.data();
  each(member_.size(), [=](std::size_t i) {
    const int s = member[i] == nobody ? 0 : sign[member[i]];
    if (s && !(s * (beta[i] + wanted[i]) > 0)) return;
    step[i] += wanted[i];
    beta[i] += wanted[i];
  });
}

// Corrects by the normal equations until the minimum is one; `again`: once at least.
AGF_CORE void SignedLeastSquares::correct(bool again) {
  for (int round = 0; !basis_.empty(); ++round) {
    const std::size_t* const which = basis_.data();
    const int* const place = place_.data();
    const double *const correlation = correlation_.data(), *const length = length_.data(), least = nothing * size();
    double* const z = z_.data();
    each(basis_.size(), [=](std::size_t k) { z[place[which[k]]] = correlation[which[k]]; });
    const auto is_rounding = [=](std::size_t k) { return std::abs(correlation[which[k]]) <= least * length[which[k]]; };
    if (!(again && round == 0) && every(basis_.size(), is_rounding)) return clear(z_);
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
    gather_idle();
  }
}

// The same by Q: what sums to the residual left in the basis goes to beta.
AGF_CORE void SignedLeastSquares::project() {
  factor_.project(residual_.data(), z_.data());
  wanted_ = z_;
  factor_.backward(wanted_.data());
  factor_.subtract(1, z_.data(), residual_.data());
  clear(z_);
  take();
  undisturbed([&]() { advance(); });
}

AGF_CORE void SignedLeastSquares::measure_noise() {
  const std::size_t* const which = basis_.data();
  const int* const place = place_.data();
  const double *const beta = beta_.data(), *const length = length_.data();
  const double summed = plus_total(target_length_, basis_.size(),
                                   [=](std::size_t k) { return std::abs(beta[place[which[k]]]) * length[which[k]]; });
  noise_ = summed_rounding * summed;
}

AGF_CORE double SignedLeastSquares::size() const {
  return std::sqrt(2 * static_cast<double>(n_) * std::max(loss_, 0.0));
}

AGF_CORE bool SignedLeastSquares::cancels() const { return size() < cancelled_part * noise_ / summed_rounding; }

AGF_CORE bool SignedLeastSquares::stale() const {
  return updates_ > most_updates || travelled_ > (cancels() ? far_extended * size() : far * noise_ / summed_rounding);
}

// From beta itself: rounding does not build up from change to change. Where the residual is much smaller than what is
// summed it is a difference of nearly equal numbers, summed in twice the precision.
AGF_CORE void SignedLeastSquares::refresh() {
  gather();
  updates_ = 0;
  travelled_ = 0;
  Array<double> negative(basis_.size());
  const std::size_t* const which = basis_.data();
  const int* const place = place_.data();
  const double* const beta = beta_.data();
  double* const minus = negative.data();
  each(basis_.size(), [=](std::size_t k) { minus[k] = -beta[place[which[k]]]; });
  residual_.assign(y_, y_ + n_);
  design_.combine(basis_, negative.data(), residual_.data());
  loss_ = 0.5 * loops_.dot(n_, residual_.data(), residual_.data()) / static_cast<double>(n_);
  if (cancels()) {
    Array<double> low(n_, 0.0);
    residual_.assign(y_, y_ + n_);
    design_.combine(basis_, negative.data(), residual_.data(), low.data());
    loops_.add(n_, 1, low.data(), residual_.data());
  }
  loss_ = loss_then_ = 0.5 * loops_.dot(n_, residual_.data(), residual_.data()) / static_cast<double>(n_);
  complete_ = static_cast<bool>(gram_);
  if (gram_) design_.correlate(residual_.data(), correlation_.data());
  idle_correlation_.resize(idle_.size());
  design_.correlate(idle_, residual_.data(), idle_correlation_.data());
}

}  // namespace AGF_SPACE
