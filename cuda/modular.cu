#include "modular.hpp"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "call.hpp"
#include "each.cuh"
#include "modular_turns.cuh"
#include "product.cuh"

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

// Enough to fill a device, and few enough that features, weights and the like stay in its cache from one loop to the
// next.
AGF_CORE std::size_t ModularCuda::neurons_at_once(std::size_t count) const {
#if defined(__CUDACC__) && !defined(AGF_BLOCK)
  constexpr std::size_t arrays = 4;
#else
  constexpr std::size_t arrays = 1;
#endif
  return items_at_once(count, arrays * rows(), 64);
}

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

// Slopes by way of the values of A and B, and of their modes.
struct ModularCuda::Pulled {
  Form form;
  Analysis at;
  const double* weight;
  double beta;
  double* slopes;

  struct Column {
    const Pulled& all;
    unsigned s;
    AGF_DEVICE void operator()(size_t row, double sum) const { all.put(static_cast<unsigned>(row), s, sum); }
  };
  AGF_DEVICE Column of(size_t, size_t s) const { return {*this, static_cast<unsigned>(s)}; }
  AGF_DEVICE void put(unsigned row, unsigned s, double sum) const {
    const auto count = static_cast<unsigned>(at.count);
    const unsigned i = row % count, side = row / count;
    double* const to = slopes + row * form.k + s;
    const double slope = sum + 2 * form.cross(at, weight + i * form.rows(), side, i, s);
    *to = beta == 0 ? slope : slope + beta * *to;
  }
};

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
  product_then<double>(stream, Op::none, Op::none, 2 * at.count, k, p, {weighed, p}, {view_.waves, k},
                       Pulled{form, at, weight, beta, slopes});
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

#endif

}  // namespace AGF_SPACE::cuda
