#include "modular.hpp"

#include <algorithm>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "call.hpp"
#include "each.cuh"
#include "in_turn.cuh"
#include "product.hpp"

namespace AGF_SPACE::cuda {
namespace {

struct ModularSignal final : Signal {
  AGF_CORE ModularSignal(std::size_t size, Stream stream) : values(size, stream) {}
  // In ModularModel's rows of p outputs.
  Held<double> values;
};

AGF_CORE const double* components(const Signal& signal) {
  return static_cast<const ModularSignal&>(signal).values.data();
}
AGF_CORE double* components(Signal& signal) { return static_cast<ModularSignal&>(signal).values.data(); }

// As many items as have room in the arrays of one chunk, where each takes so many numbers.
AGF_CORE std::size_t items_at_once(std::size_t items, std::size_t numbers, std::size_t least = 1) {
#if !defined(__CUDACC__)
  constexpr std::size_t most_numbers = std::size_t{1} << 12;  // so that chunks are seen
#elif defined(AGF_BLOCK)
  constexpr std::size_t most_numbers = std::size_t{1} << 17;  // many blocks share a device's memory
#else
  constexpr std::size_t most_numbers = std::size_t{1} << 22;
#endif
  return std::min(items, std::max(least, most_numbers / std::max<std::size_t>(1, numbers)));
}

#if !defined(AGF_BLOCK)

template <typename From, typename To>
void convert(Stream stream, const From* from, std::size_t count, To* to) {
  each(stream, count, AGF_LAMBDA(std::size_t e) { to[e] = static_cast<To>(from[e]); });
}

// An array of T in double; itself where it is.
template <typename T>
const double* widened(Room& room, const T* from, std::size_t count) {
  if constexpr (std::is_same_v<T, double>) {
    return from;
  } else {
    double* const to = room.take<double>(count);
    convert(room.stream(), from, count, to);
    return to;
  }
}

// Doubles that become an array of T by `narrow`; the array itself where it is of doubles. Null stays null.
template <typename T>
double* wide_room(Room& room, T* to, std::size_t count) {
  if constexpr (std::is_same_v<T, double>) {
    return to;
  } else {
    return to ? room.take<double>(count) : nullptr;
  }
}
template <typename T>
void narrow(Stream stream, const double* from, std::size_t count, T* to) {
  if constexpr (!std::is_same_v<T, double>) {
    if (to) convert(stream, from, count, to);
  }
}

#endif

// The pair (row, column), row >= column, with this number in the order (0, 0), (1, 0), (1, 1), (2, 0), ...
struct Pair {
  std::size_t row, column;
};
AGF_DEVICE Pair pair_of(std::size_t number) {
  std::size_t row = static_cast<std::size_t>((::sqrt(8.0 * static_cast<double>(number) + 1.0) - 1.0) / 2.0);
  while (row * (row + 1) / 2 > number) --row;
  while ((row + 1) * (row + 2) / 2 <= number) ++row;
  return {row, number - row * (row + 1) / 2};
}

// 1/2 E|r|^2 is half the sum of these: squares of all components, and, since the means over a and over b both hold the
// mean over all pairs, which counts once, less its square for each output. At most half of the sum goes that way.
AGF_HD std::size_t square_terms(std::size_t rows, std::size_t p) { return (rows + 1) * p; }
AGF_HD double square_term(const double* r, std::size_t rows, std::size_t p, std::size_t e) {
  if (e < rows * p) return r[e] * r[e];
  const double* const column = r + (e - rows * p);
  double sum = 0;
  for (std::size_t a = 0; a < p; ++a) sum += column[a * p];
  return -sum * sum / static_cast<double>(p);
}

}  // namespace

#if defined(AGF_BLOCK)

AGF_CORE ModularCuda::ModularCuda(const shared::ModularView& view)
    : ModularModel(view.period, view.modes, view.input_scale, view.compact), view_(view) {}

#else

ModularCuda::ModularCuda(int device, const double* x, std::size_t p, const std::vector<std::size_t>& frequencies)
    : ModularModel(x, p, frequencies), device_(device) {
  const OnDevice on(device);
  const Stream stream;
  std::vector<double> map(basis_);
  for (std::size_t e = 0; e < map.size(); ++e) map[e] *= gain_[e % modes_];
  auto constants = std::make_shared<Constants>();
  constants->gain = Held<double>(gain_.data(), gain_.size(), stream);
  constants->waves = Held<double>(waves_.data(), waves_.size(), stream);
  constants->target = Held<double>(target_.data(), target_.size(), stream);
  constants->map = Held<double>(map.data(), map.size(), stream);
  view_ = {p_,
           modes_,
           false,
           input_scale_,
           constants->gain.data(),
           constants->waves.data(),
           constants->target.data(),
           constants->map.data()};
  constants_ = std::move(constants);
  target_ = {};  // the largest, and asked for on the device alone
}

#endif

// ----------------------------------------------------------------------------------------------------------- parts

// Where a loop is cut in chunks, its elements are few enough for 32 bits, whose divisions are fast on a device.

// Enough to fill a device, of a bounded room where there are few modes.
AGF_CORE std::size_t ModularCuda::neurons_at_once(std::size_t count) const { return items_at_once(count, rows(), 64); }

// One neuron's share of the parts below, and the numbers it takes.
struct ModularCuda::Form {
  unsigned k, p, m, d;
  bool reduced;
  double root;
  const double *gain, *waves, *map;

  AGF_HD unsigned rows() const { return 2 * p + k * k; }

  // A_s or B_s of the side that this parameter begins.
  AGF_HD double mode(const double* from, unsigned s) const {
    if (reduced) return gain[s] * from[s];
    double sum = 0;
    for (unsigned j = 0; j < p; ++j) sum += map[j * k + s] * from[j];
    return sum;
  }
  // A(a) or B(a) from its modes.
  AGF_HD double value(const double* modes, unsigned a) const {
    double sum = 0;
    for (unsigned s = 0; s < k; ++s) sum += modes[s] * waves[a * k + s];
    return sum;
  }
  // What a residual in its components is weighed with, U = features . r w, as a symmetric bilinear form of two
  // analyses: of one with itself the features, of two with factor 2 their derivative.
  AGF_HD double feature(const Analysis& at, const Analysis& along, double factor, unsigned i, unsigned f) const {
    const auto count = static_cast<unsigned>(at.count);
    if (f < 2 * p) {
      const unsigned from = f < p ? i * p + f : (count + i) * p + (f - p);
      return factor * root * at.values[from] * along.values[from];
    }
    const unsigned s = i * k + (f - 2 * p) / k, t = (count + i) * k + (f - 2 * p) % k;
    return factor * (at.modes[s] * along.modes[t] + along.modes[s] * at.modes[t]);
  }
  // Turns features into components of the output: the mean over b of (A + B)^2 is A^2 + E B^2. E B^2 = |B_s|^2 is
  // bilinear, of `at` and `along`; `row`: of the analyses.
  AGF_HD double mean(const Analysis& at, const Analysis& along, double factor, unsigned row) const {
    double sum = 0;
    for (unsigned s = 0; s < k; ++s) sum += at.modes[row * k + s] * along.modes[row * k + s];
    return factor * root * sum;
  }
  // The derivative of weight . features by A_s or B_s of neuron i, halved:
  // (1 / sqrt p) sum_a e_s(a) A(a) weight(a) + sum_t weight_st B_t.
  AGF_HD double slope(const Analysis& at, const double* weight, unsigned side, unsigned i, unsigned s) const {
    const double* const values = at.values + (side * static_cast<unsigned>(at.count) + i) * p;
    double sum = 0;
    for (unsigned a = 0; a < p; ++a) sum += values[a] * weight[side * p + a] * waves[a * k + s];
    return root * sum + cross(at, weight, side, i, s);
  }
  AGF_HD double cross(const Analysis& at, const double* weight, unsigned side, unsigned i, unsigned s) const {
    const double* const other = at.modes + ((1 - side) * static_cast<unsigned>(at.count) + i) * k;
    const double* const mine = weight + 2 * p + s * (side ? 1 : k);
    const unsigned step = side ? k : 1;
    double sum = 0;
    for (unsigned t = 0; t < k; ++t) sum += mine[t * step] * other[t];
    return sum;
  }
};

// The leaves of few neurons, in turns. There are one or two analyses: of theta, and of a direction v, by which
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

AGF_CORE ModularCuda::Form ModularCuda::form() const {
  return {static_cast<unsigned>(modes_),
          static_cast<unsigned>(p_),
          static_cast<unsigned>(m_),
          static_cast<unsigned>(d_),
          reduced_,
          root_,
          view_.gain,
          view_.waves,
          view_.map};
}

// Whether so few neurons are taken in turns: products of matrices pay off where there is more to do.
AGF_CORE bool ModularCuda::few(std::size_t count) const {
#if !defined(__CUDACC__)
  constexpr std::size_t most_rows = 512, most = std::size_t{1} << 14;  // so that both ways are seen
#elif defined(AGF_BLOCK)
  constexpr std::size_t most_rows = 4096, most = std::size_t{1} << 20;
#else
  constexpr std::size_t most_rows = 512, most = std::size_t{1} << 18;
#endif
  return rows() <= most_rows && count * rows() * p_ <= most;
}

// Takes `numbers` beside the analyses.
AGF_CORE ModularCuda::Turns ModularCuda::turns(Room& room, const double* theta, const double* v, std::size_t count,
                                               std::size_t numbers, double*& rest) const {
  const std::size_t analyses = v ? 2 : 1, modes = analyses * 2 * count * modes_, values = analyses * 2 * count * p_;
  double* const at = room.take<double>(modes + values + numbers);
  rest = at + modes + values;
  return {form(), static_cast<unsigned>(count), static_cast<unsigned>(analyses), theta, v, at, at + modes};
}

AGF_CORE ModularCuda::ForwardTurns ModularCuda::forward_turns(Room& room, const double* theta, const double* v,
                                                              std::size_t count, double* r) const {
  const std::size_t analyses = v ? 2 : 1, means = analyses * 2 * count;
  double* rest = nullptr;
  const Turns turns = this->turns(room, theta, v, count, means + analyses * count * rows(), rest);
  return {turns, rest, rest + means, v ? nullptr : view_.target, r};
}

AGF_CORE void ModularCuda::backward_in_turn(Stream stream, const double* theta, const double* v, std::size_t count,
                                            const double* r, const double* dr, double sign, double* value,
                                            double* gradient) const {
  const std::size_t once = count * rows(), weights = gradient ? (v ? 2 : 1) * once : 0;
  const std::size_t featured = (dr ? 2 : 1) * once, slopes = reduced_ || !gradient ? 0 : 2 * count * modes_;
  // Few long sums are cut, so that no thread is idle.
  constexpr std::size_t most_pieces = 8;
  const std::size_t pieces = std::clamp<std::size_t>(each_width / (count * p_), 1, most_pieces);
  Room room(stream);
  double* rest = nullptr;
  const Turns turns = this->turns(room, theta, v, count, weights + featured + slopes + pieces * count * p_, rest);
  in_turn(stream, BackwardTurns{turns, r, dr, rest, rest + weights, rest + weights + featured, value, gradient,
                                rest + weights + featured + slopes, static_cast<unsigned>(pieces), sign});
}

AGF_CORE ModularCuda::Analysis ModularCuda::analyse(Room& room, const double* theta, std::size_t count) const {
  const std::size_t k = modes_, p = p_, m = m_;
  const Analysis at{count, room.take<double>(2 * count * k), room.take<double>(2 * count * p)};
  const Stream stream = room.stream();
  if (reduced_) {
    const Form form = this->form();
    each(
        stream, 2 * count * k, AGF_LAMBDA(std::size_t element) {
          const auto e = static_cast<unsigned>(element), number = static_cast<unsigned>(count);
          const unsigned s = e % form.k, i = e / form.k % number, side = e / form.k / number;
          at.modes[e] = form.mode(theta + i * m + side * form.k, s);
        });
  } else {
    product<double>(stream, Op::none, Op::none, count, k, p, 1, {theta, m, p}, {view_.map, k}, 0,
                    {at.modes, k, count * k}, 2);
  }
  product<double>(stream, Op::none, Op::transpose, 2 * count, p, k, 1, {at.modes, k}, {view_.waves, k}, 0,
                  {at.values, p});
  return at;
}

AGF_CORE void ModularCuda::features(Stream stream, Analysis at, Analysis along, double factor, double* out) const {
  const Form form = this->form();
  each(
      stream, at.count * rows(), AGF_LAMBDA(std::size_t element) {
        const auto e = static_cast<unsigned>(element);
        out[e] = form.feature(at, along, factor, e / form.rows(), e % form.rows());
      });
}

AGF_CORE void ModularCuda::add_means(Stream stream, Analysis at, Analysis along, double factor, double* out) const {
  const Form form = this->form();
  const auto count = static_cast<unsigned>(at.count);
  Room room(stream);
  double* const means = room.take<double>(2 * at.count);
  each(
      stream, 2 * at.count,
      AGF_LAMBDA(std::size_t i) { means[i] = form.mean(at, along, factor, static_cast<unsigned>(i)); });
  each(
      stream, at.count * 2 * p_, AGF_LAMBDA(std::size_t element) {
        const auto e = static_cast<unsigned>(element);
        const unsigned i = e / (2 * form.p), f = e % (2 * form.p);
        out[i * form.rows() + f] += means[f < form.p ? count + i : i];
      });
}

// r -= outputs^T w, w in rows m apart.
AGF_CORE void ModularCuda::subtract(Stream stream, const double* outputs, const double* w, std::size_t count,
                                    double* r) const {
  product<double>(stream, Op::transpose, Op::none, rows(), p_, count, -1, {outputs, rows()}, {w, m_}, 1, {r, p_});
}

// out = w r^T + beta out: what weighs the features.
AGF_CORE void ModularCuda::project(Stream stream, const double* w, std::size_t count, const double* r, double beta,
                                   double* out) const {
  product<double>(stream, Op::none, Op::transpose, count, rows(), p_, 1, {w, m_}, {r, p_}, beta, {out, rows()});
}

// out = alpha features r + beta out, in rows m apart.
AGF_CORE void ModularCuda::collect(Stream stream, const double* features, std::size_t count, const double* r,
                                   double alpha, double beta, double* out) const {
  product<double>(stream, Op::none, Op::none, count, p_, rows(), alpha, {features, rows()}, {r, p_}, beta, {out, m_});
}

// The derivative of weight . features by A_s and B_s, (2, count, K): see Form::slope.
AGF_CORE void ModularCuda::pull(Stream stream, Analysis at, const double* weight, double beta, double* slopes) const {
  const Form form = this->form();
  const std::size_t k = modes_, p = p_;
  const auto count = static_cast<unsigned>(at.count);
  Room room(stream);
  double* const weighed = room.take<double>(2 * at.count * p);
  each(
      stream, 2 * at.count * p, AGF_LAMBDA(std::size_t element) {
        const auto e = static_cast<unsigned>(element);
        const unsigned a = e % form.p, i = e / form.p % count, side = e / form.p / count;
        weighed[e] = 2 * form.root * at.values[e] * weight[i * form.rows() + side * form.p + a];
      });
  product<double>(stream, Op::none, Op::none, 2 * at.count, k, p, 1, {weighed, p}, {view_.waves, k}, beta, {slopes, k});
  each(
      stream, 2 * at.count * k, AGF_LAMBDA(std::size_t element) {
        const auto e = static_cast<unsigned>(element);
        const unsigned s = e % form.k, i = e / form.k % count, side = e / form.k / count;
        slopes[e] += 2 * form.cross(at, weight + i * form.rows(), side, i, s);
      });
}

// sign times slopes by A_s and B_s as slopes by u and v, in rows m apart.
AGF_CORE void ModularCuda::outward(Stream stream, const double* slopes, std::size_t count, double sign,
                                   double* out) const {
  const std::size_t k = modes_, m = m_;
  if (!reduced_) {
    product<double>(stream, Op::none, Op::transpose, count, p_, k, sign, {slopes, k, count * k}, {view_.map, k}, 0,
                    {out, m, p_}, 2);
    return;
  }
  const double* const gain = view_.gain;
  each(
      stream, count * (2 * k + 1), AGF_LAMBDA(std::size_t e) {
        const std::size_t i = e / (2 * k + 1), f = e % (2 * k + 1);
        out[i * m + f] = f < 2 * k ? sign * gain[f % k] * slopes[((f < k ? i : count + i)) * k + f % k] : 0.0;
      });
}

// r = y - sum_i f_i, in components.
AGF_CORE void ModularCuda::forward(Stream stream, const double* theta, std::size_t count, double* r) const {
  if (few(count)) {
    Room room(stream);
    return in_turn(stream, forward_turns(room, theta, nullptr, count, r));
  }
  copy(r, view_.target, rows() * p_ * sizeof(double), stream);
  const std::size_t most = neurons_at_once(count);
  for (std::size_t first = 0; first < count; first += most) {
    const std::size_t h = std::min(most, count - first);
    Room room(stream);
    const Analysis at = analyse(room, theta + first * m_, h);
    double* const outputs = room.take<double>(h * rows());
    features(stream, at, at, 1, outputs);
    add_means(stream, at, at, 1, outputs);
    subtract(stream, outputs, theta + first * m_ + d_, h, r);
  }
}

// The same; and 1/2 E|r|^2.
AGF_CORE double ModularCuda::forward_loss(Stream stream, const double* theta, std::size_t count, double* r) const {
  if (few(count)) {
    Room room(stream);
    return 0.5 * total_in_turn(stream, forward_turns(room, theta, nullptr, count, r));
  }
  forward(stream, theta, count, r);
  const std::size_t all = rows(), p = p_;
  return 0.5 * total(stream, square_terms(all, p), AGF_LAMBDA(std::size_t e) { return square_term(r, all, p, e); });
}

AGF_CORE void ModularCuda::derivative(Stream stream, const double* theta, const double* v, std::size_t count,
                                      double* dr) const {
  if (few(count)) {
    Room room(stream);
    return in_turn(stream, forward_turns(room, theta, v, count, dr));
  }
  clear(dr, rows() * p_ * sizeof(double), stream);
  const std::size_t most = neurons_at_once(count);
  for (std::size_t first = 0; first < count; first += most) {
    const std::size_t h = std::min(most, count - first);
    Room room(stream);
    const Analysis at = analyse(room, theta + first * m_, h), along = analyse(room, v + first * m_, h);
    double* const outputs = room.take<double>(h * rows());
    features(stream, at, along, 2, outputs);
    add_means(stream, at, along, 2, outputs);
    subtract(stream, outputs, theta + first * m_ + d_, h, dr);
    features(stream, at, at, 1, outputs);
    add_means(stream, at, at, 1, outputs);
    subtract(stream, outputs, v + first * m_ + d_, h, dr);
  }
}

// U = features . (r w);  grad_w U = r^T features
AGF_CORE void ModularCuda::slopes(Stream stream, const double* theta, std::size_t count, const double* r, double* value,
                                  double* gradient) const {
  if (few(count)) return backward_in_turn(stream, theta, nullptr, count, r, nullptr, 1, value, gradient);
  const std::size_t most = neurons_at_once(count), all = rows();
  for (std::size_t first = 0; first < count; first += most) {
    const std::size_t h = std::min(most, count - first);
    Room room(stream);
    const double* const rows_of = theta + first * m_;
    const Analysis at = analyse(room, rows_of, h);
    double* const feature = room.take<double>(h * all);
    double* const weight = room.take<double>(h * all);
    features(stream, at, at, 1, feature);
    project(stream, rows_of + d_, h, r, 0, weight);
    if (value)
      sums(
          stream, h, all,
          AGF_LAMBDA(std::size_t i, std::size_t f) { return feature[i * all + f] * weight[i * all + f]; },
          value + first);
    if (!gradient) continue;
    double* const out = gradient + first * m_;
    double* const slope = room.take<double>(2 * h * modes_);
    pull(stream, at, weight, 0, slope);
    outward(stream, slope, h, 1, out);
    collect(stream, feature, h, r, 1, 0, out + d_);
  }
}

AGF_CORE void ModularCuda::curvature(Stream stream, const double* theta, const double* v, std::size_t count,
                                     const double* r, const double* dr, double sign, double* out) const {
  if (few(count)) return backward_in_turn(stream, theta, v, count, r, dr, sign, nullptr, out);
  const std::size_t most = neurons_at_once(count);
  for (std::size_t first = 0; first < count; first += most) {
    const std::size_t h = std::min(most, count - first);
    Room room(stream);
    const double *const rows_of = theta + first * m_, *const along_of = v + first * m_;
    const Analysis at = analyse(room, rows_of, h), along = analyse(room, along_of, h);
    double* const feature = room.take<double>(h * rows());
    double* const weight = room.take<double>(h * rows());
    double* const slope = room.take<double>(2 * h * modes_);
    double* const to = out + first * m_;
    project(stream, rows_of + d_, h, r, 0, weight);
    pull(stream, along, weight, 0, slope);
    project(stream, along_of + d_, h, r, 0, weight);
    if (dr) project(stream, rows_of + d_, h, dr, 1, weight);
    pull(stream, at, weight, 1, slope);
    outward(stream, slope, h, sign, to);
    features(stream, at, along, 2, feature);
    collect(stream, feature, h, r, sign, 0, to + d_);
    if (!dr) continue;
    features(stream, at, at, 1, feature);
    collect(stream, feature, h, dr, sign, 1, to + d_);
  }
}

// hess U of each neuron by [A_s | B_s | w], weight = r w: by A_s A_t (2 / sqrt p) sum_a e_s e_t weight(a), by A_s B_t
// 2 weight_st, by A_s w (2 / sqrt p) sum_a e_s A r(a) + 2 sum_t B_t r_st, by w w nothing.
AGF_CORE void ModularCuda::own_curvatures(Stream stream, const double* theta, std::size_t count, const double* r,
                                          double* out) const {
  const std::size_t n = compact(), k = modes_, p = p_, all = rows();
  Room room(stream);
  const Analysis at = analyse(room, theta, count);
  double* const weight = room.take<double>(count * all);
  project(stream, theta + d_, count, r, 0, weight);
  double* const weighed = room.take<double>(count * p * k);
  double* const scaled = room.take<double>(count * p * k);
  const double* const waves = view_.waves;
  const double* const product_part = r + 2 * p * p;
  const double scale = 2 * root_;
  for (std::size_t side = 0; side < 2; ++side) {
    each(
        stream, count * p * k, AGF_LAMBDA(std::size_t e) {
          const std::size_t wave = e % (p * k), a = wave / k, i = e / (p * k);
          weighed[e] = scale * weight[i * all + side * p + a] * waves[wave];
          scaled[e] = scale * at.values[(side * count + i) * p + a] * waves[wave];
        });
    double* const own = out + side * k * n + side * k;
    product<double>(stream, Op::transpose, Op::none, k, k, p, 1, {waves, k, 0}, {weighed, k, p * k}, 0, {own, n, n * n},
                    count);
    double* const mixed = out + side * k * n + 2 * k;
    product<double>(stream, Op::transpose, Op::none, k, p, p, 1, {scaled, k, p * k}, {r + side * p * p, p, 0}, 0,
                    {mixed, n, n * n}, count);
    // For every s of its own, neurons by neurons' other modes.
    const Matrix<const double> components =
        side ? Matrix<const double>{product_part, k * p, p} : Matrix<const double>{product_part, p, k * p};
    product<double>(stream, Op::none, Op::none, count, p, k, 2, {at.modes + (1 - side) * count * k, k, 0}, components,
                    1, {mixed, n * n, n}, k);
  }
  each(
      stream, count * n * n, AGF_LAMBDA(std::size_t e) {
        const std::size_t i = e / (n * n), u = e / n % n, v = e % n;
        const std::size_t low = u < v ? u : v, high = u < v ? v : u;
        if (low >= 2 * k) {
          out[e] = 0;
        } else if (low < k && high >= k && high < 2 * k) {
          out[e] = 2 * weight[i * all + 2 * p + low * k + high - k];
        } else if (u > v) {
          out[e] = out[(i * n + low) * n + high];
        }
      });
}

// out = the same matrices by u, v and w.
AGF_CORE void ModularCuda::outward_blocks(Stream stream, const double* hessians, std::size_t number,
                                          double* out) const {
  const std::size_t n = compact(), k = modes_, p = p_, m = m_, d = d_;
  if (reduced_) {
    // One empty input between the modes and w.
    const double* const gain = view_.gain;
    each(
        stream, number * m * m, AGF_LAMBDA(std::size_t e) {
          const std::size_t q = e / (m * m), u = e / m % m, v = e % m;
          if (u == 2 * k || v == 2 * k) {
            out[e] = 0;
            return;
          }
          const double left = u < d ? gain[u % k] : 1.0, right = v < d ? gain[v % k] : 1.0;
          out[e] = left * right * hessians[(q * n + (u < d ? u : u - 1)) * n + (v < d ? v : v - 1)];
        });
    return;
  }
  const double* const map = view_.map;
  Room room(stream);
  // Rows of the compact form, columns of the other.
  double* const half = room.take<double>(number * n * m);
  for (std::size_t side = 0; side < 2; ++side)
    product<double>(stream, Op::none, Op::transpose, n, p, k, 1, {hessians + side * k, n, n * n}, {map, k, 0}, 0,
                    {half + side * p, m, n * m}, number);
  each(
      stream, number * n * p,
      AGF_LAMBDA(std::size_t e) { half[e / p * m + d + e % p] = hessians[e / p * n + 2 * k + e % p]; });
  for (std::size_t side = 0; side < 2; ++side)
    product<double>(stream, Op::none, Op::none, p, m, k, 1, {map, k, 0}, {half + side * k * m, m, n * m}, 0,
                    {out + side * p * m, m, m * m}, number);
  each(
      stream, number * p * m, AGF_LAMBDA(std::size_t e) {
        const std::size_t q = e / (p * m), at = e % (p * m);
        out[q * m * m + d * m + at] = half[(q * n + 2 * k) * m + at];
      });
}

AGF_CORE void ModularCuda::own_hessians(Stream stream, const double* theta, std::size_t count, const double* r,
                                        double* out) const {
  const std::size_t n = compact(), m = m_;
  const std::size_t most = items_at_once(count, n * (n + m) + rows() + 2 * p_ * modes_);
  for (std::size_t first = 0; first < count; first += most) {
    const std::size_t h = std::min(most, count - first);
    Room room(stream);
    double* const hessians = room.take<double>(h * n * n);
    own_curvatures(stream, theta + first * m, h, r, hessians);
    double* const to = out + first * m * m;
    outward_blocks(stream, hessians, h, to);
    // Symmetric to the last bit, whatever the order of sums in a tile.
    each(
        stream, h * m * m, AGF_LAMBDA(std::size_t e) {
          const std::size_t i = e / (m * m), u = e / m % m, v = e % m;
          if (u < v) to[e] = to[(i * m + v) * m + u];
        });
  }
}

// hess L = E[(df/dtheta)^T df/dtheta] - hess U of each neuron by itself. With primes for the right one of a pair, by
// [A_s | B_s | w] of each and by the moments of products of modes without mean:
//   by A_s A'_t  4 w.w' (E[e_s e_t A A'] + [s = t] E[B B']),   by A_s B'_t  4 w.w' (A_s B'_t + A'_s B_t),
//   by w A'_s    2 w' (E[A^2 A' e_s] + E[B^2] A'_s + 2 E[B B'] A_s),
//   by w w'      (E[A^2 A'^2] + E[B^2 B'^2] + E[A^2] E[B'^2] + E[B^2] E[A'^2] + 4 E[A A'] E[B B']) 1.
AGF_CORE void ModularCuda::whole_hessian(Stream stream, const double* theta, std::size_t count, const double* r,
                                         double* out) const {
  const std::size_t n = compact(), k = modes_, p = p_, m = m_, d = d_, pairs = count * (count + 1) / 2;
  const double period = static_cast<double>(p);
  const double* const waves = view_.waves;
  Room outer(stream);
  const Analysis at = analyse(outer, theta, count);
  double* const own = outer.take<double>(count * n * n);
  const std::size_t some = items_at_once(count, rows() + 2 * p * k);
  for (std::size_t first = 0; first < count; first += some)
    own_curvatures(stream, theta + first * m, std::min(some, count - first), r, own + first * n * n);
  // Of neurons with neurons: w.w', E[A A'] and E[B B'], E[A^2 A'^2] and E[B^2 B'^2].
  double* const outputs = outer.take<double>(count * count);
  double* const seconds = outer.take<double>(2 * count * count);
  double* const fourths = outer.take<double>(2 * count * count);
  double* const squares = outer.take<double>(2 * count * p);
  each(stream, 2 * count * p, AGF_LAMBDA(std::size_t e) { squares[e] = at.values[e] * at.values[e]; });
  product<double>(stream, Op::none, Op::transpose, count, count, p, 1, {theta + d, m}, {theta + d, m}, 0,
                  {outputs, count});
  product<double>(stream, Op::none, Op::transpose, count, count, k, 1, {at.modes, k, count * k},
                  {at.modes, k, count * k}, 0, {seconds, count, count * count}, 2);
  product<double>(stream, Op::none, Op::transpose, count, count, p, 1 / period, {squares, p, count * p},
                  {squares, p, count * p}, 0, {fourths, count, count * count}, 2);

  const std::size_t most = items_at_once(pairs, n * (n + m) + m * m + p * k + 4 * (p + k));
  Room room(stream);
  double* const hessians = room.take<double>(most * n * n);
  double* const blocks = room.take<double>(most * m * m);
  double* const weighed = room.take<double>(most * p * k);
  // E[A^2 A' e_s] and its mirror E[A'^2 A e_s], and so for b: (pairs, side, mirrored, K).
  double* const cubes = room.take<double>(most * 4 * p);
  double* const thirds = room.take<double>(most * 4 * k);
  for (std::size_t first = 0; first < pairs; first += most) {
    const std::size_t number = std::min(most, pairs - first);
    each(
        stream, number * 4 * p, AGF_LAMBDA(std::size_t e) {
          const Pair pair = pair_of(first + e / (4 * p));
          const std::size_t a = e % p, mirrored = e / p % 2, side = e / (2 * p) % 2;
          const double x = at.values[(side * count + pair.row) * p + a];
          const double y = at.values[(side * count + pair.column) * p + a];
          cubes[e] = x * y * (mirrored ? y : x) / period;
        });
    product<double>(stream, Op::none, Op::none, number * 4, k, p, 1, {cubes, p}, {waves, k}, 0, {thirds, k});
    for (std::size_t side = 0; side < 2; ++side) {
      each(
          stream, number * p * k, AGF_LAMBDA(std::size_t e) {
            const Pair pair = pair_of(first + e / (p * k));
            const std::size_t wave = e % (p * k), a = wave / k;
            const double x = at.values[(side * count + pair.row) * p + a];
            const double y = at.values[(side * count + pair.column) * p + a];
            weighed[e] = 4 * outputs[pair.row * count + pair.column] * x * y / period * waves[wave];
          });
      product<double>(stream, Op::transpose, Op::none, k, k, p, 1, {waves, k, 0}, {weighed, k, p * k}, 0,
                      {hessians + side * k * n + side * k, n, n * n}, number);
    }
    each(
        stream, number * n * n, AGF_LAMBDA(std::size_t e) {
          const std::size_t q = e / (n * n), u = e / n % n, v = e % n;
          const Pair pair = pair_of(first + q);
          const std::size_t i = pair.row, j = pair.column, cross = i * count + j;
          const double dots = 4 * outputs[cross];
          double value = 0;
          if (u < 2 * k && v < 2 * k) {
            const std::size_t left = u < k ? 0 : 1, right = v < k ? 0 : 1, s = u % k, t = v % k;
            if (left == right) {
              value = hessians[e];
              if (s == t) value += dots * seconds[(1 - left) * count * count + cross];
            } else {
              const double* const mine = at.modes + left * count * k + s;
              const double* const other = at.modes + right * count * k + t;
              value = dots * (mine[i * k] * other[j * k] + mine[j * k] * other[i * k]);
            }
          } else if (u < 2 * k || v < 2 * k) {
            // By w of one neuron, `from`, and a mode of the other, `by`, whose w is the factor.
            const std::size_t mirrored = u < 2 * k ? 1 : 0, mode = mirrored ? u : v,
                              output = (mirrored ? v : u) - 2 * k;
            const std::size_t side = mode < k ? 0 : 1, s = mode % k;
            const std::size_t from = mirrored ? j : i, by = mirrored ? i : j;
            const double* const mine = at.modes + side * count * k + s;
            const double* const others = seconds + (1 - side) * count * count;
            const double slope = others[from * count + from] * mine[by * k] + 2 * others[cross] * mine[from * k] +
                                 thirds[(q * 4 + side * 2 + mirrored) * k + s];
            value = 2 * slope * theta[by * m + d + output];
          } else if (u == v) {
            const double *const a = seconds, *const b = seconds + count * count;
            value = fourths[cross] + fourths[count * count + cross] + a[i * count + i] * b[j * count + j] +
                    b[i * count + i] * a[j * count + j] + 4 * a[cross] * b[cross];
          }
          hessians[e] = i == j ? value - own[(i * n + u) * n + v] : value;
        });
    outward_blocks(stream, hessians, number, blocks);
    const std::size_t stride = count * m;
    each(
        stream, number * m * m, AGF_LAMBDA(std::size_t e) {
          const Pair pair = pair_of(first + e / (m * m));
          const std::size_t u = e / m % m, v = e % m;
          if (pair.row == pair.column && u < v) return;
          // The lower triangle, mirrored: symmetric to the last bit.
          const std::size_t row = pair.row * m + u, column = pair.column * m + v;
          out[row * stride + column] = blocks[e];
          out[column * stride + row] = blocks[e];
        });
  }
}

// |w| sqrt E (A + B)^4
AGF_CORE void ModularCuda::contributions(Stream stream, const double* theta, std::size_t count, double* out) const {
  const std::size_t most = neurons_at_once(count), all = rows(), p = p_, m = m_, d = d_;
  for (std::size_t first = 0; first < count; first += most) {
    const std::size_t h = std::min(most, count - first);
    Room room(stream);
    const double* const rows_of = theta + first * m;
    const Analysis at = analyse(room, rows_of, h);
    double* const feature = room.take<double>(h * all);
    double* const output = room.take<double>(h * all);
    features(stream, at, at, 1, feature);
    copy(output, feature, h * all * sizeof(double), stream);
    add_means(stream, at, at, 1, output);
    double* const squares = room.take<double>(h);
    sums(
        stream, h, all, AGF_LAMBDA(std::size_t i, std::size_t f) { return feature[i * all + f] * output[i * all + f]; },
        squares);
    double* const to = out + first;
    each(
        stream, h, AGF_LAMBDA(std::size_t i) {
          double norm = 0;
          for (std::size_t j = 0; j < p; ++j) norm += rows_of[i * m + d + j] * rows_of[i * m + d + j];
          to[i] = ::sqrt(norm) * ::sqrt(squares[i]);
        });
  }
}

// -------------------------------------------------------------------------------------------------------- Problem

AGF_CORE Owned<Signal> ModularCuda::make_signal() const {
  const OnDevice on(device_);
  return make_owned<ModularSignal>(rows() * p_, Stream{});
}

AGF_CORE double ModularCuda::residual(const double* theta, std::size_t count, Signal& r, Shape) const {
  Call<double> call(device_);
  return forward_loss(call.stream(), count ? call.bring(theta, count * m_) : nullptr, count, components(r));
}

AGF_CORE void ModularCuda::residual_derivative(const double* theta, const double* v, std::size_t count, Signal& dr,
                                               Shape) const {
  Call<double> call(device_);
  const double* const at = call.bring(theta, count * m_);
  derivative(call.stream(), at, call.bring(v, count * m_), count, components(dr));
  call.give();
}

AGF_CORE void ModularCuda::utility(const double* theta, std::size_t count, const Signal& r, double* value,
                                   double* gradient, Shape) const {
  if (count == 0) return;
  Call<double> call(device_);
  double* const values_out = call.place(value, count);
  double* const gradient_out = call.place(gradient, count * m_);
  slopes(call.stream(), call.bring(theta, count * m_), count, components(r), values_out, gradient_out);
  call.give();
}

AGF_CORE void ModularCuda::curvature_vector(const double* theta, const double* v, std::size_t count, const Signal& r,
                                            const Signal* dr, double* out, Shape) const {
  if (count == 0) return;
  Call<double> call(device_);
  const double* const at = call.bring(theta, count * m_);
  const double* const along = call.bring(v, count * m_);
  double* const to = call.place(out, count * m_);
  curvature(call.stream(), at, along, count, components(r), dr ? components(*dr) : nullptr, 1, to);
  call.give();
}

AGF_CORE void ModularCuda::utility_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                                           Shape) const {
  if (count == 0) return;
  Call<double> call(device_);
  double* const to = call.place(out, count * m_ * m_);
  own_hessians(call.stream(), call.bring(theta, count * m_), count, components(r), to);
  call.give();
}

AGF_CORE void ModularCuda::loss_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                                        Shape) const {
  if (count == 0) return;
  Call<double> call(device_);
  const std::size_t size = count * m_;
  double* const to = call.place(out, size * size);
  whole_hessian(call.stream(), call.bring(theta, size), count, components(r), to);
  call.give();
}

AGF_CORE void ModularCuda::contribution(const double* theta, std::size_t count, double* out) const {
  if (count == 0) return;
  Call<double> call(device_);
  double* const to = call.place(out, count);
  contributions(call.stream(), call.bring(theta, count * m_), count, to);
  call.give();
}

#if !defined(AGF_BLOCK)

std::unique_ptr<Problem> ModularCuda::reduced(std::vector<double>& basis) const {
  if (reduced_) return nullptr;
  basis = compact_basis();
  auto compact_form = std::make_unique<ModularCuda>(*this);
  compact_form->make_compact();
  compact_form->view_.compact = true;
  return compact_form;
}

// ----------------------------------------------------------------------------------------- arrays of the device

// E r, times sqrt p
static const double* mean_of(Room& room, const double* r, std::size_t p) {
  double* const mean = room.take<double>(p);
  each(
      room.stream(), p, AGF_LAMBDA(std::size_t j) {
        double sum = 0;
        for (std::size_t a = 0; a < p; ++a) sum += r[a * p + j];
        mean[j] = sum / static_cast<double>(p);
      });
  return mean;
}

// r(a, b) = r(a) + r(b) - mean + sum_st r_st e_s(a) e_t(b)
template <typename T>
void ModularCuda::spread(Stream stream, const double* r, T* pairs) const {
  const std::size_t k = modes_, p = p_, most = items_at_once(p, (k + p) * p);
  const double root = root_;
  const double* const waves = view_.waves;
  Room room(stream);
  const double* const mean = mean_of(room, r, p);
  double* const half = room.take<double>(most * k * p);
  double* const wide = std::is_same_v<T, double> ? nullptr : room.take<double>(most * p * p);
  for (std::size_t first = 0; first < p; first += most) {
    const std::size_t number = std::min(most, p - first);
    double* to = wide;
    if constexpr (std::is_same_v<T, double>) to = pairs + first * p * p;
    each(
        stream, number * p * p, AGF_LAMBDA(std::size_t e) {
          const std::size_t a = first + e / (p * p), b = e / p % p, j = e % p;
          to[e] = (r[a * p + j] - mean[j] + r[(p + b) * p + j]) / root;
        });
    product<double>(stream, Op::none, Op::none, number, k * p, k, 1, {waves + first * k, k}, {r + 2 * p * p, k * p}, 0,
                    {half, k * p});
    product<double>(stream, Op::none, Op::none, p, p, k, 1, {waves, k, 0}, {half, p, k * p}, 1, {to, p, p * p}, number);
    narrow(stream, to, number * p * p, pairs + first * p * p);
  }
}

template <typename T>
void ModularCuda::gather(Stream stream, const T* pairs, double* r) const {
  const std::size_t k = modes_, p = p_, most = items_at_once(p, (k + p) * p);
  const double period = static_cast<double>(p), weight = root_ / period;
  const double* const waves = view_.waves;
  Room outer(stream);
  double* const half = outer.take<double>(most * k * p);
  for (std::size_t first = 0; first < p; first += most) {
    const std::size_t number = std::min(most, p - first);
    Room room(stream);
    const double* const from = widened(room, pairs + first * p * p, number * p * p);
    each(
        stream, (number + p) * p, AGF_LAMBDA(std::size_t e) {
          const std::size_t j = e % p, row = e / p;
          double sum = 0;
          if (row < number) {
            for (std::size_t b = 0; b < p; ++b) sum += from[(row * p + b) * p + j];
            r[(first + row) * p + j] = weight * sum;
          } else {
            const std::size_t b = row - number;
            for (std::size_t a = 0; a < number; ++a) sum += from[(a * p + b) * p + j];
            double* const to = r + (p + b) * p + j;
            *to = first ? *to + weight * sum : weight * sum;
          }
        });
    product<double>(stream, Op::transpose, Op::none, k, p, p, 1 / (period * period), {waves, k, 0}, {from, p, p * p}, 0,
                    {half, p, k * p}, number);
    product<double>(stream, Op::transpose, Op::none, k, k * p, number, 1, {waves + first * k, k}, {half, k * p},
                    first ? 1 : 0, {r + 2 * p * p, k * p});
  }
}

template <typename T>
void ModularCuda::residual(Stream stream, const T* theta, std::size_t count, T* pairs) const {
  const OnDevice on(device_);
  Room room(stream);
  double* const r = room.take<double>(rows() * p_);
  forward(stream, widened(room, theta, count * m_), count, r);
  spread(stream, r, pairs);
}

template <typename T>
double ModularCuda::loss(Stream stream, const T* theta, std::size_t count) const {
  const OnDevice on(device_);
  Room room(stream);
  return forward_loss(stream, widened(room, theta, count * m_), count, room.take<double>(rows() * p_));
}

template <typename T>
void ModularCuda::utility(Stream stream, const T* theta, std::size_t count, const T* pairs, T* value,
                          T* gradient) const {
  const OnDevice on(device_);
  Room room(stream);
  const double* const at = widened(room, theta, count * m_);
  double* const r = room.take<double>(rows() * p_);
  if (pairs) {
    gather(stream, pairs, r);
  } else {
    forward(stream, at, count, r);
  }
  double* const value_out = wide_room(room, value, count);
  double* const gradient_out = wide_room(room, gradient, count * m_);
  slopes(stream, at, count, r, value_out, gradient_out);
  narrow(stream, value_out, count, value);
  narrow(stream, gradient_out, count * m_, gradient);
}

template <typename T>
void ModularCuda::hessian_vector(Stream stream, const T* theta, const T* v, std::size_t count, T* out) const {
  const OnDevice on(device_);
  Room room(stream);
  const double* const at = widened(room, theta, count * m_);
  const double* const along = widened(room, v, count * m_);
  double* const r = room.take<double>(rows() * p_);
  double* const dr = room.take<double>(rows() * p_);
  forward(stream, at, count, r);
  derivative(stream, at, along, count, dr);
  double* const to = wide_room(room, out, count * m_);
  curvature(stream, at, along, count, r, dr, -1, to);
  narrow(stream, to, count * m_, out);
}

template <typename T>
void ModularCuda::hessian(Stream stream, const T* theta, std::size_t count, T* out) const {
  const OnDevice on(device_);
  Room room(stream);
  const double* const at = widened(room, theta, count * m_);
  double* const r = room.take<double>(rows() * p_);
  forward(stream, at, count, r);
  const std::size_t size = count * m_;
  double* const to = wide_room(room, out, size * size);
  whole_hessian(stream, at, count, r, to);
  narrow(stream, to, size * size, out);
}

AGF_MODULAR_LEAVES(, float)
AGF_MODULAR_LEAVES(, double)

#endif

}  // namespace AGF_SPACE::cuda
