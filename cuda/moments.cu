#include "moments.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "call.hpp"
#include "each.cuh"
#include "moments_turns.cuh"
#include "product.hpp"

namespace AGF_SPACE::cuda {
namespace {

struct MomentSignal final : Signal {
  AGF_CORE MomentSignal(std::size_t size, Stream stream) : values(size, stream) {}
  Held<double> values;
};

AGF_CORE const double* matrix_of(const Signal& signal) {
  return static_cast<const MomentSignal&>(signal).values.data();
}
AGF_CORE double* matrix_of(Signal& signal) { return static_cast<MomentSignal&>(signal).values.data(); }

// Room of the outer products whose images under a listed G are taken together.
#if defined(AGF_BLOCK)
constexpr std::size_t image_bytes = std::size_t{1} << 20;
#else
constexpr std::size_t image_bytes = std::size_t{1} << 25;
#endif

// out_i = sum_j f(i, j) over j < n: rows that are short are a thread's work.
template <typename F>
AGF_CORE void row_sums(Stream stream, std::size_t rows, std::size_t n, const F& f, double* out) {
  constexpr std::size_t most = 128;
  if (n > most) return sums(stream, rows, n, f, out);
  each(
      stream, rows, AGF_LAMBDA(std::size_t i) {
        double sum = 0;
        for (std::size_t j = 0; j < n; ++j) sum += f(i, j);
        out[i] = sum;
      });
}

// out_i = |row_i|^2
AGF_CORE void square_rows(Stream stream, Matrix<const double> rows, std::size_t count, std::size_t n, double* out) {
  row_sums(
      stream, count, n,
      AGF_LAMBDA(std::size_t i, std::size_t j) {
        const double value = rows.at[i * rows.stride + j];
        return value * value;
      },
      out);
}

}  // namespace

// n matrices x_e y_e^T; the factors of one lie `*_stride` apart from those of the next.
struct MomentsCuda::Pairs {
  const double* x;
  std::size_t x_stride;
  const double* y;
  std::size_t y_stride;
};

// What G makes of them: G[x_e y_e^T] = far_e near_e^T, or near_e alone of a list.
struct MomentsCuda::Images {
  Matrix<const double> far, near;
};

// Second derivatives of the utility of neuron i.
struct MomentsCuda::Bend {
  ProductLayout at;
  const double *theta, *signal, *ahead, *back;  // M r and M^T l, of neurons with a gain

  AGF_HD double operator()(std::size_t i, std::size_t u, std::size_t v) const {
    if (at.of_left(u) && at.of_right(v)) return mixed(i, u, v);
    if (at.of_right(u) && at.of_left(v)) return mixed(i, v, u);
    if (!at.gained || (u == at.gain) == (v == at.gain)) return 0.0;
    const std::size_t other = u == at.gain ? v : u;
    return at.of_left(other) ? ahead[i * at.rows + other - at.left] : back[i * at.columns + other - at.right];
  }
  AGF_HD double mixed(std::size_t i, std::size_t u, std::size_t v) const {
    return at.gain_of(theta + i * at.params) * signal[(u - at.left) * at.columns + v - at.right];
  }
};

#if defined(AGF_BLOCK)

AGF_CORE MomentsCuda::MomentsCuda(const shared::MomentsView& view)
    : MomentsModel(view.product, view.sizes, view.least), view_(view) {}

#else

MomentsCuda::MomentsCuda(int device, ProductLayout product, const PseudoSamples& samples,
                         const std::vector<double>& target, double least)
    : MomentsModel(product, sizes_of(samples), least), device_(device) {
  const OnDevice on(device);
  const Stream stream;
  if (!samples.left.empty()) left_ = Held<double>(samples.left.data(), samples.left.size(), stream);
  right_ = Held<double>(samples.right.data(), samples.right.size(), stream);
  target_ = Held<double>(target.data(), target.size(), stream);
  view_ = {product_, sizes_, least_, left_.data(), right_.data(), target_.data()};
}

#endif

// ----------------------------------------------------------------------------------------------------------- parts

// Whether so few neurons are taken in turns: products of matrices pay off where there is more to do.
AGF_CORE bool MomentsCuda::few(std::size_t count) const {
#if !defined(__CUDACC__)
  constexpr std::size_t longest = 512;
  constexpr double most = 1 << 14;  // so that both ways are seen
#elif defined(AGF_BLOCK)
  constexpr std::size_t longest = 4096;
  constexpr double most = 1 << 20;
#else
  constexpr std::size_t longest = 512;
  constexpr double most = 1 << 18;
#endif
  const std::size_t sums = std::max({count, sizes_.outer, sizes_.inner, product_.size()});
  return sums <= longest && static_cast<double>(count * product_.size()) + sizes_.flops() <= most;
}

AGF_CORE MomentsCuda::SignalTurns MomentsCuda::signal_turns(Room& room, const double* theta, const double* v,
                                                            std::size_t count, double* signal) const {
  const std::size_t size = product_.size(), half = sizes_.rows * sizes_.inner;
  double* const at = room.take<double>(size + 2 * half + sizes_.entries());
  return {view_, static_cast<unsigned>(count), theta, v, at, at + size, at + size + 2 * half, at + size + half, signal};
}

AGF_CORE MomentsCuda::SlopeTurns MomentsCuda::slope_turns(Room& room, const double* theta, const double* v,
                                                          std::size_t count, const double* signal,
                                                          const double* change) const {
  const std::size_t rows = count * product_.rows, columns = count * product_.columns;
  // Along a direction what neurons without a gain see of M by themselves does not matter.
  const bool own = !v || product_.gained;
  double* const at = room.take<double>((own && v ? 2 : 1) * (rows + columns) + count);
  double* const change_at = own ? at + rows + columns : at;
  SlopeTurns turns{product_, static_cast<unsigned>(count),
                   theta,    v,
                   signal,   change,
                   false,    nullptr,
                   nullptr,  nullptr,
                   nullptr,  nullptr,
                   1,        nullptr,
                   nullptr};
  if (own) turns.ahead = at, turns.back = at + rows;
  if (v) turns.ahead_change = change_at, turns.back_change = change_at + rows;
  if (own) turns.form = (v ? change_at : at) + rows + columns;
  return turns;
}

// P = sum_i left_i right_i^T + beta P; rows of left lie `stride` apart, those of right as parameters do.
AGF_CORE void MomentsCuda::add(Stream stream, const double* left, std::size_t stride, const double* right,
                               std::size_t count, double beta, double* p) const {
  product<double>(stream, Op::transpose, Op::none, product_.rows, product_.columns, count, 1, {left, stride},
                  {right + product_.right, product_.params}, beta, {p, product_.columns});
}

// f = alpha G[P] + beta f
AGF_CORE void MomentsCuda::forward(Stream stream, const double* p, double alpha, double beta, double* f) const {
  const std::size_t rows = sizes_.rows, columns = sizes_.columns, outer = sizes_.outer, inner = sizes_.inner;
  if (sizes_.listed) {
    const std::size_t size = rows * columns;
    product<double>(stream, Op::none, Op::transpose, 1, inner, size, alpha, {p, size}, {view_.right, size}, beta,
                    {f, inner});
    return;
  }
  if (sizes_.whole) {
    product<double>(stream, Op::none, Op::transpose, rows, inner, columns, alpha, {p, columns}, {view_.right, columns},
                    beta, {f, inner});
    return;
  }
  Room room(stream);
  double* const half = room.take<double>(rows * inner);
  product<double>(stream, Op::none, Op::transpose, rows, inner, columns, 1, {p, columns}, {view_.right, columns}, 0,
                  {half, inner});
  product<double>(stream, Op::none, Op::none, outer, inner, rows, alpha, {view_.left, rows}, {half, inner}, beta,
                  {f, inner});
}

// M = G*[f]
AGF_CORE void MomentsCuda::adjoint(Stream stream, const double* f, double* signal) const {
  const std::size_t rows = sizes_.rows, columns = sizes_.columns, outer = sizes_.outer, inner = sizes_.inner;
  if (sizes_.listed) {
    const std::size_t size = rows * columns;
    product<double>(stream, Op::none, Op::none, 1, size, inner, 1, {f, inner}, {view_.right, size}, 0, {signal, size});
    return;
  }
  Room room(stream);
  const double* half = f;
  if (!sizes_.whole) {
    double* const to = room.take<double>(rows * inner);
    product<double>(stream, Op::transpose, Op::none, rows, inner, outer, 1, {view_.left, rows}, {f, inner}, 0,
                    {to, inner});
    half = to;
  }
  product<double>(stream, Op::none, Op::none, rows, columns, inner, 1, {half, inner}, {view_.right, columns}, 0,
                  {signal, columns});
}

// out_i = M r_i + beta out_i, (count, rows)
AGF_CORE void MomentsCuda::ahead(Stream stream, const double* signal, const double* theta, std::size_t count,
                                 double beta, double* out) const {
  product<double>(stream, Op::none, Op::transpose, count, product_.rows, product_.columns, 1,
                  {theta + product_.right, product_.params}, {signal, product_.columns}, beta, {out, product_.rows});
}

// out_i = M^T l_i + beta out_i, (count, columns)
AGF_CORE void MomentsCuda::back(Stream stream, const double* signal, const double* theta, std::size_t count,
                                double beta, double* out) const {
  product<double>(stream, Op::none, Op::none, count, product_.columns, product_.rows, 1,
                  {theta + product_.left, product_.params}, {signal, product_.columns}, beta, {out, product_.columns});
}

// M = G*[y - G[P]], and L; either may be null.
AGF_CORE void MomentsCuda::signal_of(Stream stream, const double* theta, std::size_t count, double* signal,
                                     double* loss) const {
  const ProductLayout at = product_;
  const std::size_t entries = sizes_.entries();
  Room room(stream);
  if (few(count)) {
    const SignalTurns turns = signal_turns(room, theta, nullptr, count, signal);
    if (!loss) return in_turn(stream, turns);
    *loss = least_ + 0.5 * total_in_turn(stream, turns);
    return;
  }
  double* const rest = room.take<double>(entries);
  copy(rest, view_.target, entries * sizeof(double), stream);
  if (count) {
    double* const p = room.take<double>(at.size());
    if (at.gained) {
      const std::size_t rows = at.rows;
      double* const left = room.take<double>(count * rows);
      each(
          stream, count * rows,
          AGF_LAMBDA(std::size_t e) { left[e] = at.left_of(theta + e / rows * at.params, e % rows); });
      add(stream, left, rows, theta, count, 0, p);
    } else {
      add(stream, theta + at.left, at.params, theta, count, 0, p);
    }
    forward(stream, p, -1, 1, rest);
  }
  if (signal) adjoint(stream, rest, signal);
  if (loss) *loss = least_ + 0.5 * total(stream, entries, AGF_LAMBDA(std::size_t e) { return rest[e] * rest[e]; });
}

// dP = sum_i (dg l + g dl) r^T + g l dr^T, dM = -G*[G[dP]].
AGF_CORE void MomentsCuda::derivative(Stream stream, const double* theta, const double* v, std::size_t count,
                                      double* signal) const {
  const ProductLayout at = product_;
  if (count == 0) return clear(signal, at.size() * sizeof(double), stream);
  Room room(stream);
  if (few(count)) return in_turn(stream, signal_turns(room, theta, v, count, signal));
  double* const p = room.take<double>(at.size());
  double* const image = room.take<double>(sizes_.entries());
  if (at.gained) {
    const std::size_t rows = at.rows;
    double* const turned = room.take<double>(count * rows);
    double* const left = room.take<double>(count * rows);
    each(
        stream, count * rows, AGF_LAMBDA(std::size_t e) {
          const double *const x = theta + e / rows * at.params, *const u = v + e / rows * at.params;
          turned[e] = at.left_change(x, u, e % rows);
          left[e] = at.left_of(x, e % rows);
        });
    add(stream, turned, rows, theta, count, 0, p);
    add(stream, left, rows, v, count, 1, p);
  } else {
    add(stream, v + at.left, at.params, theta, count, 0, p);
    add(stream, theta + at.left, at.params, v, count, 1, p);
  }
  forward(stream, p, -1, 0, image);
  adjoint(stream, image, signal);
}

AGF_CORE void MomentsCuda::slopes(Stream stream, const double* theta, std::size_t count, const double* signal,
                                  double* value, double* gradient) const {
  if (count == 0) return;
  Room room(stream);
  SlopeTurns turns = slope_turns(room, theta, nullptr, count, signal, nullptr);
  turns.value = value;
  turns.out = gradient;
  if (!few(count)) {
    turns.made = true;
    ahead(stream, signal, theta, count, 0, turns.ahead);
    if (gradient) back(stream, signal, theta, count, 0, turns.back);
    if (value || product_.gained)
      row_sums(
          stream, count, product_.rows, AGF_LAMBDA(std::size_t i, std::size_t a) { return turns.form_term(i, a); },
          turns.form);
  }
  in_turn(stream, turns);
}

AGF_CORE void MomentsCuda::curvature(Stream stream, const double* theta, const double* v, std::size_t count,
                                     const double* signal, const double* change, double sign, double* out) const {
  if (count == 0) return;
  Room room(stream);
  SlopeTurns turns = slope_turns(room, theta, v, count, signal, change);
  turns.sign = sign;
  turns.out = out;
  if (!few(count)) {
    turns.made = true;
    ahead(stream, signal, v, count, 0, turns.ahead_change);
    back(stream, signal, v, count, 0, turns.back_change);
    if (change) {
      ahead(stream, change, theta, count, 1, turns.ahead_change);
      back(stream, change, theta, count, 1, turns.back_change);
    }
    if (product_.gained) {
      ahead(stream, signal, theta, count, 0, turns.ahead);
      back(stream, signal, theta, count, 0, turns.back);
      row_sums(
          stream, count, product_.rows, AGF_LAMBDA(std::size_t i, std::size_t a) { return turns.form_term(i, a); },
          turns.form);
    }
  }
  in_turn(stream, turns);
}

AGF_CORE MomentsCuda::Bend MomentsCuda::bend(Room& room, const double* theta, std::size_t count,
                                             const double* signal) const {
  Bend out{product_, theta, signal, nullptr, nullptr};
  if (!product_.gained) return out;
  double* const forwards = room.take<double>(count * product_.rows);
  double* const backwards = room.take<double>(count * product_.columns);
  ahead(room.stream(), signal, theta, count, 0, forwards);
  back(room.stream(), signal, theta, count, 0, backwards);
  out.ahead = forwards;
  out.back = backwards;
  return out;
}

AGF_CORE void MomentsCuda::own_hessians(Stream stream, const double* theta, std::size_t count, const double* signal,
                                        double* out) const {
  const std::size_t m = product_.params;
  Room room(stream);
  const Bend bent = bend(room, theta, count, signal);
  const auto size = static_cast<Index>(m);
  each(
      stream, count * m * m, AGF_LAMBDA(std::size_t element) {
        const auto e = static_cast<Index>(element);
        out[e] = bent(e / (size * size), e / size % size, e % size);
      });
}

AGF_CORE MomentsCuda::Images MomentsCuda::images(Room& room, Pairs pairs, std::size_t n) const {
  const Stream stream = room.stream();
  const std::size_t rows = sizes_.rows, columns = sizes_.columns, outer = sizes_.outer, inner = sizes_.inner;
  double* const near = room.take<double>(n * inner);
  if (sizes_.listed) {
    const std::size_t size = rows * columns,
                      most = std::min(n, std::max<std::size_t>(1, image_bytes / (size * sizeof(double))));
    Room chunk(stream);
    double* const flat = chunk.take<double>(most * size);
    for (std::size_t first = 0; first < n; first += most) {
      const std::size_t h = std::min(most, n - first);
      each(
          stream, h * size, AGF_LAMBDA(std::size_t i) {
            const std::size_t e = first + i / size, at = i % size;
            flat[i] = pairs.x[e * pairs.x_stride + at / columns] * pairs.y[e * pairs.y_stride + at % columns];
          });
      product<double>(stream, Op::none, Op::transpose, h, inner, size, 1, {flat, size}, {view_.right, size}, 0,
                      {near + first * inner, inner});
    }
    return {{nullptr, 0}, {near, inner}};
  }
  product<double>(stream, Op::none, Op::transpose, n, inner, columns, 1, {pairs.y, pairs.y_stride},
                  {view_.right, columns}, 0, {near, inner});
  if (sizes_.whole) return {{pairs.x, pairs.x_stride}, {near, inner}};
  double* const far = room.take<double>(n * outer);
  product<double>(stream, Op::none, Op::transpose, n, outer, rows, 1, {pairs.x, pairs.x_stride}, {view_.left, rows}, 0,
                  {far, outer});
  return {{far, outer}, {near, inner}};
}

// <G[dp/dtheta_e], G[dp/dtheta_f]>, where every dp/dtheta_e = x_e y_e^T, less the curvature of each neuron's utility.
AGF_CORE void MomentsCuda::whole_hessian(Stream stream, const double* theta, std::size_t count, const double* signal,
                                         double* out) const {
  if (count == 0) return;
  const ProductLayout at = product_;
  const std::size_t rows = at.rows, columns = at.columns, m = at.params, n = count * m;
  Room room(stream);
  double* const x = room.take<double>(n * rows);
  double* const y = room.take<double>(n * columns);
  each(
      stream, n * rows, AGF_LAMBDA(std::size_t i) {
        const std::size_t e = i / rows, a = i % rows, u = e % m;
        const double* const from = theta + e / m * m;
        const double g = at.gain_of(from);
        if (at.of_left(u)) {
          x[i] = a == u - at.left ? g : 0.0;
        } else {
          x[i] = (at.gained && u == at.gain ? 1.0 : g) * from[at.left + a];
        }
      });
  each(
      stream, n * columns, AGF_LAMBDA(std::size_t i) {
        const std::size_t e = i / columns, b = i % columns, u = e % m;
        if (at.of_right(u)) {
          y[i] = b == u - at.right ? 1.0 : 0.0;
        } else {
          y[i] = theta[e / m * m + at.right + b];
        }
      });
  const Images of = images(room, {x, rows, y, columns}, n);
  const Bend bent = bend(room, theta, count, signal);
  product<double>(stream, Op::none, Op::transpose, n, n, sizes_.inner, 1, of.near, of.near, 0, {out, n});
  double* const factor = of.far.at ? room.take<double>(n * n) : nullptr;
  if (factor) product<double>(stream, Op::none, Op::transpose, n, n, sizes_.outer, 1, of.far, of.far, 0, {factor, n});
  // The lower triangle, mirrored: symmetric to the last bit.
  each(
      stream, n * n, AGF_LAMBDA(std::size_t element) {
        const auto i = static_cast<Index>(element), size = static_cast<Index>(n), wide = static_cast<Index>(m);
        const Index row = i / size, column = i % size;
        if (column > row) return;
        double value = out[i];
        if (factor) value *= factor[i];
        if (row / wide == column / wide) value -= bent(row / wide, row % wide, column % wide);
        out[i] = value;
        out[column * size + row] = value;
      });
}

// |G[p_i]|
AGF_CORE void MomentsCuda::contributions(Stream stream, const double* theta, std::size_t count, double* out) const {
  const ProductLayout at = product_;
  Room room(stream);
  const Images of = images(room, {theta + at.left, at.params, theta + at.right, at.params}, count);
  double* const near = room.take<double>(count);
  double* const far = of.far.at ? room.take<double>(count) : nullptr;
  square_rows(stream, of.near, count, sizes_.inner, near);
  if (far) square_rows(stream, of.far, count, sizes_.outer, far);
  each(
      stream, count, AGF_LAMBDA(std::size_t i) {
        const double square = far ? near[i] * far[i] : near[i];
        out[i] = ::fabs(at.gain_of(theta + i * at.params)) * ::sqrt(square);
      });
}

// -------------------------------------------------------------------------------------------------------- Problem

AGF_CORE Owned<Signal> MomentsCuda::make_signal() const {
  const OnDevice on(device_);
  return make_owned<MomentSignal>(product_.size(), Stream{});
}

AGF_CORE double MomentsCuda::residual(const double* theta, std::size_t count, Signal& r, Shape) const {
  Call<double> call(device_);
  double loss = 0;
  signal_of(call.stream(), count ? call.bring(theta, count * product_.params) : nullptr, count, matrix_of(r), &loss);
  return loss;
}

AGF_CORE void MomentsCuda::residual_derivative(const double* theta, const double* v, std::size_t count, Signal& dr,
                                               Shape) const {
  Call<double> call(device_);
  const std::size_t size = count * product_.params;
  const double* const at = call.bring(theta, size);
  derivative(call.stream(), at, call.bring(v, size), count, matrix_of(dr));
  call.give();
}

AGF_CORE void MomentsCuda::utility(const double* theta, std::size_t count, const Signal& r, double* value,
                                   double* gradient, Shape) const {
  if (count == 0) return;
  Call<double> call(device_);
  const std::size_t size = count * product_.params;
  double* const value_out = call.place(value, count);
  double* const gradient_out = call.place(gradient, size);
  slopes(call.stream(), call.bring(theta, size), count, matrix_of(r), value_out, gradient_out);
  call.give();
}

AGF_CORE void MomentsCuda::curvature_vector(const double* theta, const double* v, std::size_t count, const Signal& r,
                                            const Signal* dr, double* out, Shape) const {
  if (count == 0) return;
  Call<double> call(device_);
  const std::size_t size = count * product_.params;
  const double* const at = call.bring(theta, size);
  const double* const along = call.bring(v, size);
  double* const to = call.place(out, size);
  curvature(call.stream(), at, along, count, matrix_of(r), dr ? matrix_of(*dr) : nullptr, 1, to);
  call.give();
}

AGF_CORE void MomentsCuda::utility_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                                           Shape) const {
  if (count == 0) return;
  Call<double> call(device_);
  const std::size_t size = count * product_.params;
  double* const to = call.place(out, size * product_.params);
  own_hessians(call.stream(), call.bring(theta, size), count, matrix_of(r), to);
  call.give();
}

AGF_CORE void MomentsCuda::loss_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                                        Shape) const {
  if (count == 0) return;
  Call<double> call(device_);
  const std::size_t size = count * product_.params;
  double* const to = call.place(out, size * size);
  whole_hessian(call.stream(), call.bring(theta, size), count, matrix_of(r), to);
  call.give();
}

AGF_CORE void MomentsCuda::contribution(const double* theta, std::size_t count, double* out) const {
  if (count == 0) return;
  Call<double> call(device_);
  double* const to = call.place(out, count);
  contributions(call.stream(), call.bring(theta, count * product_.params), count, to);
  call.give();
}

}  // namespace AGF_SPACE::cuda
