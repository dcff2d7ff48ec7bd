// The leaves of models by moments for few neurons, in turns.
#pragma once

#include "in_turn.cuh"
#include "moments.hpp"

namespace AGF_SPACE::cuda {

// M = G*[y - G[P]] of few neurons, or its derivative along v, in turns.
struct MomentsCuda::SignalTurns {
  static constexpr int steps = 5;
  shared::MomentsView view;
  unsigned count;
  const double *theta, *v;  // v: null for none
  double *p, *half, *rest, *back;
  double* signal;  // null: not wanted

  AGF_HD unsigned rows() const { return static_cast<unsigned>(view.sizes.rows); }
  AGF_HD unsigned columns() const { return static_cast<unsigned>(view.sizes.columns); }
  AGF_HD unsigned outer() const { return static_cast<unsigned>(view.sizes.outer); }
  AGF_HD unsigned inner() const { return static_cast<unsigned>(view.sizes.inner); }
  AGF_HD bool halved() const { return !view.sizes.listed && !view.sizes.whole; }

  AGF_HD unsigned length(Step<0>) const { return rows() * columns(); }
  AGF_HD void operator()(Step<0>, unsigned e) const {
    const unsigned a = e / columns(), b = e % columns(), m = static_cast<unsigned>(view.product.params);
    double sum = 0;
    for (unsigned i = 0; i < count; ++i) {
      const double *const x = theta + i * m, *const u = v + (v ? i * m : 0);
      const double right = x[view.product.right + b];
      sum += v ? view.product.left_change(x, u, a) * right + view.product.left_of(x, a) * u[view.product.right + b]
               : view.product.left_of(x, a) * right;
    }
    p[e] = sum;
  }

  AGF_HD unsigned length(Step<1>) const { return halved() ? rows() * inner() : 0; }
  AGF_HD void operator()(Step<1>, unsigned e) const {
    half[e] = along_row(p + e / inner() * columns(), view.right + e % inner() * columns(), columns());
  }

  AGF_HD unsigned length(Step<2>) const { return outer() * inner(); }
  AGF_HD void operator()(Step<2>, unsigned e) const {
    const unsigned o = e / inner(), k = e % inner();
    double image;
    if (view.sizes.listed) {
      image = along_row(p, view.right + k * rows() * columns(), rows() * columns());
    } else if (view.sizes.whole) {
      image = along_row(p + o * columns(), view.right + k * columns(), columns());
    } else {
      image = along_column(view.left + o * rows(), 1, half + k, inner(), rows());
    }
    rest[e] = (v ? 0.0 : view.target[e]) - image;
  }

  AGF_HD unsigned length(Step<3>) const { return signal && halved() ? rows() * inner() : 0; }
  AGF_HD void operator()(Step<3>, unsigned e) const {
    back[e] = along_column(view.left + e / inner(), rows(), rest + e % inner(), inner(), outer());
  }

  AGF_HD unsigned length(Step<4>) const { return signal ? rows() * columns() : 0; }
  AGF_HD void operator()(Step<4>, unsigned e) const {
    if (view.sizes.listed) {
      signal[e] = along_column(rest, 1, view.right + e, rows() * columns(), inner());
    } else {
      const double* const from = (halved() ? back : rest) + e / columns() * inner();
      signal[e] = along_column(from, 1, view.right + e % columns(), columns(), inner());
    }
  }

  AGF_HD unsigned terms() const { return outer() * inner(); }
  AGF_HD double term(unsigned e) const { return rest[e] * rest[e]; }

  AGF_HD static double along_row(const double* x, const double* y, unsigned n) { return along_column(x, 1, y, 1, n); }
  AGF_HD static double along_column(const double* x, unsigned x_step, const double* y, unsigned y_step, unsigned n) {
    double sum = 0;
    for (unsigned e = 0; e < n; ++e) sum += x[e * x_step] * y[e * y_step];
    return sum;
  }
};

// U = g l^T M r,  grad_l = g M r,  grad_r = g M^T l,  grad_g = l^T M r; along v
// d grad_l = dg M r + g M dr,  d grad_r = dg M^T l + g M^T dl,  d grad_g = dl^T M r + l^T M dr;
// with dM, plus grad U(.; dM): M dr becomes M dr + dM r, and M^T dl becomes M^T dl + dM^T l.
struct MomentsCuda::SlopeTurns {
  static constexpr int steps = 3;
  ProductLayout at;
  unsigned count;
  const double *theta, *v, *signal, *change;  // v, change: null for none
  bool made;                                  // the products and sums: by others
  double *ahead, *back;                       // M r and M^T l, where they are asked for
  double *ahead_change, *back_change;         // along v
  double* form;                               // l^T M r, or its change
  double sign;
  double *value, *out;  // value: without v; either may be null

  AGF_HD unsigned rows() const { return static_cast<unsigned>(at.rows); }
  AGF_HD unsigned columns() const { return static_cast<unsigned>(at.columns); }
  AGF_HD unsigned params() const { return static_cast<unsigned>(at.params); }
  AGF_HD unsigned products() const { return count * (rows() + columns()); }

  AGF_HD unsigned length(Step<0>) const { return made ? 0 : products() * ((ahead ? 1 : 0) + (v ? 1 : 0)); }
  AGF_HD void operator()(Step<0>, unsigned e) const {
    const bool along = !ahead || e >= products();
    if (ahead && along) e -= products();
    const bool left = e < count * rows();
    if (!left) e -= count * rows();
    const unsigned width = left ? rows() : columns();
    const unsigned i = e / width, which = e % width;
    double sum = image(signal, (along ? v : theta) + i * params(), left, which);
    if (along && change) sum += image(change, theta + i * params(), left, which);
    (left ? along ? ahead_change : ahead : along ? back_change : back)[e] = sum;
  }
  // (M r)_a or (M^T l)_b
  AGF_HD double image(const double* matrix, const double* x, bool left, unsigned which) const {
    double sum = 0;
    if (left) {
      for (unsigned b = 0; b < columns(); ++b) sum += matrix[which * columns() + b] * x[at.right + b];
    } else {
      for (unsigned a = 0; a < rows(); ++a) sum += matrix[a * columns() + which] * x[at.left + a];
    }
    return sum;
  }

  AGF_HD unsigned length(Step<1>) const { return !made && form ? count : 0; }
  AGF_HD void operator()(Step<1>, unsigned i) const {
    double sum = 0;
    for (unsigned a = 0; a < rows(); ++a) sum += form_term(i, a);
    form[i] = sum;
  }
  AGF_HD double form_term(std::size_t i, std::size_t a) const {
    const std::size_t in = i * at.params + at.left + a, out_of = i * at.rows + a;
    return v ? v[in] * ahead[out_of] + theta[in] * ahead_change[out_of] : theta[in] * ahead[out_of];
  }

  AGF_HD unsigned length(Step<2>) const { return (out ? count * params() : 0) + (value ? count : 0); }
  AGF_HD void operator()(Step<2>, unsigned e) const {
    const unsigned slopes = out ? count * params() : 0;
    if (e >= slopes) {
      const unsigned i = e - slopes;
      value[i] = at.gain_of(theta + i * params()) * form[i];
      return;
    }
    const unsigned i = e / params(), u = e % params();
    const double g = at.gain_of(theta + i * params()), dg = v && at.gained ? v[i * params() + at.gain] : 0.0;
    double slope = 0;
    if (at.of_left(u)) {
      slope = by(ahead, ahead_change, i * rows() + u - static_cast<unsigned>(at.left), g, dg);
    } else if (at.of_right(u)) {
      slope = by(back, back_change, i * columns() + u - static_cast<unsigned>(at.right), g, dg);
    } else {
      slope = form[i];
    }
    out[e] = sign * slope;
  }
  AGF_HD double by(const double* image, const double* change_of, unsigned e, double g, double dg) const {
    if (!v) return g * image[e];
    return at.gained ? g * change_of[e] + dg * image[e] : g * change_of[e];
  }
};

}  // namespace AGF_SPACE::cuda
