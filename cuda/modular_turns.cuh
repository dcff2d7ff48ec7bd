// The leaves of modular addition for few neurons, in turns.
#pragma once

#include "in_turn.cuh"
#include "modular_form.cuh"

namespace AGF_SPACE::cuda {

// There are one or two analyses: of theta, and of a direction v, by which
// derivatives are taken.
struct ModularCuda::Turns {
  Form form;
  unsigned count, analyses;
  const double *theta, *v;
  double *modes, *values;

  AGF_HD const double* row(unsigned which, unsigned i) const { return (which ? v : theta) + i * form.m; }
  AGF_HD Analysis analysis(unsigned which) const {
    return {count, modes + which * 2 * count * form.k, values + which * 2 * count * form.p};
  }
  AGF_HD Analysis last() const { return analysis(analyses - 1); }
  AGF_HD unsigned mode_count() const { return analyses * 2 * count * form.k; }
  AGF_HD unsigned value_count() const { return analyses * 2 * count * form.p; }
  AGF_HD void make_mode(unsigned e) const {
    const unsigned at = e / form.k, i = at % count, side = at / count % 2;
    modes[e] = form.mode(row(at / (2 * count), i) + side * (form.reduced ? form.k : form.p), e % form.k);
  }
  AGF_HD void make_value(unsigned e) const { values[e] = form.value(modes + e / form.p * form.k, e % form.p); }

  // So many columns, or neurons, are a thread's: what they share is read once.
  static constexpr unsigned strip = 4;
  AGF_HD static unsigned strips(unsigned n) { return (n + strip - 1) / strip; }
};

// r = y - sum_i f_i, or along a direction its derivative: outputs by both factors of a neuron, A and w.
struct ModularCuda::ForwardTurns : Turns {
  static constexpr int steps = 4;
  double *means, *outputs;  // (analyses, 2, count), (analyses, count, rows)
  const double* target;     // null: 0
  double* r;

  // Analyses that the outputs are made of, where w is of `theta` (first) and of v (second).
  AGF_HD Analysis along(unsigned which) const { return which ? analysis(0) : last(); }
  AGF_HD double factor(unsigned which) const { return which || analyses == 1 ? 1.0 : 2.0; }

  AGF_HD unsigned length(Step<0>) const { return mode_count(); }
  AGF_HD void operator()(Step<0>, unsigned e) const { make_mode(e); }

  AGF_HD unsigned length(Step<1>) const { return value_count() + analyses * 2 * count; }
  AGF_HD void operator()(Step<1>, unsigned e) const {
    if (e < value_count()) return make_value(e);
    const unsigned at = e - value_count(), which = at / (2 * count);
    means[at] = form.mean(analysis(0), along(which), factor(which), at % (2 * count));
  }

  AGF_HD unsigned length(Step<2>) const { return analyses * count * form.rows(); }
  AGF_HD void operator()(Step<2>, unsigned e) const {
    const unsigned all = form.rows(), f = e % all, i = e / all % count, which = e / (all * count);
    double value = form.feature(analysis(0), along(which), factor(which), i, f);
    if (f < 2 * form.p) value += means[which * 2 * count + (f < form.p ? count + i : i)];
    outputs[e] = value;
  }

  AGF_HD unsigned length(Step<3>) const { return strips(form.p) * form.rows(); }
  AGF_HD void operator()(Step<3>, unsigned e) const {
    const unsigned all = form.rows(), f = e % all, first = e / all * strip;
    const unsigned number = form.p - first < strip ? form.p - first : strip;
    double sum[strip] = {};
    for (unsigned which = 0; which < analyses; ++which)
      for (unsigned i = 0; i < count; ++i) {
        const double output = outputs[(which * count + i) * all + f];
        const double* const w = row(which, i) + form.d + first;
        for (unsigned q = 0; q < strip; ++q)
          if (q < number) sum[q] += output * w[q];
      }
    for (unsigned q = 0; q < strip; ++q) {
      const unsigned at = f * form.p + first + q;
      if (q < number) r[at] = (target ? target[at] : 0.0) - sum[q];
    }
  }

  AGF_HD unsigned terms() const { return static_cast<unsigned>(square_terms(form.rows(), form.p)); }
  AGF_HD double term(unsigned e) const { return square_term(r, form.rows(), form.p, e); }
};

// grad U, with its values, or its derivative along a direction: weight = r w of each neuron pulls at its modes, and
// the features collect r for w. Along a direction the weight of w pulls at the analysis of v, and that of the change of
// r w at the one of theta.
struct ModularCuda::BackwardTurns : Turns {
  static constexpr int steps = 5;
  const double *r, *dr;        // dr: null for none
  double *weights, *featured;  // (analyses, count, rows), (collections, count, rows)
  double* slopes;              // (2, count, K), not of compact inputs
  double *value, *gradient;    // either may be null
  double* collected;           // by w, in pieces of the sum over features, (pieces, count, p)
  unsigned pieces;
  double sign;

  AGF_HD unsigned collections() const { return dr ? 2 : 1; }
  AGF_HD unsigned weight_count() const { return gradient ? strips(count) * analyses * form.rows() : 0; }

  AGF_HD unsigned length(Step<0>) const { return mode_count() + weight_count(); }
  AGF_HD void operator()(Step<0>, unsigned e) const {
    if (e < mode_count()) return make_mode(e);
    e -= mode_count();
    const unsigned all = form.rows(), p = form.p, f = e % all, which = e / all % analyses;
    const unsigned first = e / (all * analyses) * strip, number = count - first < strip ? count - first : strip;
    double sum[strip] = {};
    weigh(which, r + f * p, first, number, sum);
    if (which && dr) weigh(0, dr + f * p, first, number, sum);
    for (unsigned q = 0; q < strip; ++q)
      if (q < number) weights[(which * count + first + q) * all + f] = sum[q];
  }
  AGF_HD void weigh(unsigned which, const double* from, unsigned first, unsigned number, double* sum) const {
    const double* const w = row(which, first) + form.d;
    for (unsigned j = 0; j < form.p; ++j) {
      const double entry = from[j];
      for (unsigned q = 0; q < strip; ++q)
        if (q < number) sum[q] += entry * w[q * form.m + j];
    }
  }

  AGF_HD unsigned length(Step<1>) const { return value_count(); }
  AGF_HD void operator()(Step<1>, unsigned e) const { make_value(e); }

  AGF_HD unsigned length(Step<2>) const { return collections() * count * form.rows(); }
  AGF_HD void operator()(Step<2>, unsigned e) const {
    const unsigned all = form.rows(), i = e / all % count;
    const bool own = analyses == 1 || e >= all * count;
    featured[e] = form.feature(analysis(0), own ? analysis(0) : last(), own ? 1.0 : 2.0, i, e % all);
  }

  AGF_HD unsigned length(Step<3>) const { return count * (pieces * form.p + (gradient ? 2 * form.k : 0)); }
  AGF_HD void operator()(Step<3>, unsigned e) const {
    const unsigned all = form.rows(), p = form.p, k = form.k;
    if (e < pieces * count * p) {
      const unsigned j = e % p, i = e / p % count, piece = e / p / count;
      const unsigned first = piece * all / pieces, last = (piece + 1) * all / pieces;
      double sum = 0;
      for (unsigned f = first; f < last; ++f) sum += featured[i * all + f] * r[f * p + j];
      if (dr)
        for (unsigned f = first; f < last; ++f) sum += featured[(count + i) * all + f] * dr[f * p + j];
      collected[e] = sum;
      return;
    }
    e -= pieces * count * p;
    const unsigned s = e % k, i = e / k % count, side = e / k / count;
    double slope = form.slope(last(), weights + i * all, side, i, s);
    if (analyses > 1) slope += form.slope(analysis(0), weights + (count + i) * all, side, i, s);
    slope *= 2 * sign;
    if (form.reduced) {
      gradient[i * form.m + side * k + s] = form.gain[s] * slope;
    } else {
      slopes[e] = slope;
    }
  }

  AGF_HD double collect(unsigned i, unsigned j) const {
    double sum = 0;
    for (unsigned piece = 0; piece < pieces; ++piece) sum += collected[(piece * count + i) * form.p + j];
    return sum;
  }
  // By w; by u and v, or of compact inputs by the one that is empty; and the values, U = w . grad_w U.
  AGF_HD unsigned by_output() const { return gradient ? count * form.p : 0; }
  AGF_HD unsigned outwards() const { return gradient ? count * (form.reduced ? 1 : 2 * form.p) : 0; }
  AGF_HD unsigned length(Step<4>) const { return by_output() + outwards() + (value ? count : 0); }
  AGF_HD void operator()(Step<4>, unsigned e) const {
    if (e < by_output()) {
      const unsigned j = e % form.p, i = e / form.p;
      gradient[i * form.m + form.d + j] = sign * collect(i, j);
      return;
    }
    e -= by_output();
    if (e >= outwards()) {
      const unsigned i = e - outwards();
      const double* const w = theta + i * form.m + form.d;
      double sum = 0;
      for (unsigned j = 0; j < form.p; ++j) sum += w[j] * collect(i, j);
      value[i] = sum;
    } else if (form.reduced) {
      gradient[e * form.m + 2 * form.k] = 0;
    } else {
      const unsigned j = e % form.p, i = e / form.p % count, side = e / form.p / count;
      const double* const map = form.map + j * form.k;
      const double* const from = slopes + (side * count + i) * form.k;
      double sum = 0;
      for (unsigned s = 0; s < form.k; ++s) sum += map[s] * from[s];
      gradient[i * form.m + side * form.p + j] = sum;
    }
  }
};

}  // namespace AGF_SPACE::cuda
