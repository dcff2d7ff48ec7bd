#include "moments.hpp"

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "each.cuh"
#include "product.hpp"

namespace agf::cuda {
namespace {

struct MomentSignal final : Signal {
  MomentSignal(std::size_t size, Stream stream) : values(size, stream) {}
  Held<double> values;
};

const double* values(const Signal& signal) { return static_cast<const MomentSignal&>(signal).values.data(); }
double* values(Signal& signal) { return static_cast<MomentSignal&>(signal).values.data(); }

// Room of the outer products whose images under a listed G are taken together.
constexpr std::size_t chunk_bytes = std::size_t{1} << 25;

// out_i = sum_j f(i, j) over j < n: rows that are short are a thread's work.
template <typename F>
void row_sums(Stream stream, std::size_t rows, std::size_t n, const F& f, double* out) {
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
void square_rows(Stream stream, Matrix<const double> rows, std::size_t count, std::size_t n, double* out) {
  row_sums(
      stream, count, n,
      AGF_LAMBDA(std::size_t i, std::size_t j) {
        const double value = rows.at[i * rows.stride + j];
        return value * value;
      },
      out);
}

// Arrays of a caller in double: themselves, or in room of their own.
template <typename T>
const double* wide(Room& room, const T* from, std::size_t count) {
  if constexpr (std::is_same_v<T, double>) {
    return from;
  } else {
    double* const to = room.take<double>(count);
    each(room.stream(), count, AGF_LAMBDA(std::size_t i) { to[i] = static_cast<double>(from[i]); });
    return to;
  }
}
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
    if (to) each(stream, count, AGF_LAMBDA(std::size_t i) { to[i] = static_cast<T>(from[i]); });
  }
}

}  // namespace

// A call that brings doubles of the host and takes doubles back.
class MomentsCuda::Call {
 public:
  explicit Call(const MomentsCuda& problem) : on_(problem.device_), room_(Stream{}) {}

  Stream stream() const { return room_.stream(); }
  double* take(std::size_t count) { return room_.take<double>(count); }
  const double* bring(const double* from, std::size_t count) { return room_.take(from, count); }
  void give(const double* from, std::size_t count, double* to) { download(to, from, count * sizeof(double), stream()); }

 private:
  OnDevice on_;
  Room room_;
};

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

MomentsCuda::MomentsCuda(int device, ProductLayout product, const PseudoSamples& samples,
                         const std::vector<double>& target, double least)
    : MomentsModel(product, samples, least), device_(device) {
  const OnDevice on(device);
  const Stream stream;
  if (!samples.left.empty()) left_ = Held<double>(samples.left.data(), samples.left.size(), stream);
  right_ = Held<double>(samples.right.data(), samples.right.size(), stream);
  target_ = Held<double>(target.data(), target.size(), stream);
}

// ----------------------------------------------------------------------------------------------------------- parts

// P = sum_i left_i right_i^T + beta P; rows of left lie `stride` apart, those of right as parameters do.
void MomentsCuda::add(Stream stream, const double* left, std::size_t stride, const double* right, std::size_t count,
                      double beta, double* p) const {
  product<double>(stream, Op::transpose, Op::none, product_.rows, product_.columns, count, 1, {left, stride},
                  {right + product_.right, product_.params}, beta, {p, product_.columns});
}

// f = alpha G[P] + beta f
void MomentsCuda::forward(Stream stream, const double* p, double alpha, double beta, double* f) const {
  const std::size_t rows = sizes_.rows, columns = sizes_.columns, outer = sizes_.outer, inner = sizes_.inner;
  if (sizes_.listed) {
    const std::size_t size = rows * columns;
    product<double>(stream, Op::none, Op::transpose, 1, inner, size, alpha, {p, size}, {right_.data(), size}, beta,
                    {f, inner});
    return;
  }
  if (sizes_.whole) {
    product<double>(stream, Op::none, Op::transpose, rows, inner, columns, alpha, {p, columns},
                    {right_.data(), columns}, beta, {f, inner});
    return;
  }
  Room room(stream);
  double* const half = room.take<double>(rows * inner);
  product<double>(stream, Op::none, Op::transpose, rows, inner, columns, 1, {p, columns}, {right_.data(), columns}, 0,
                  {half, inner});
  product<double>(stream, Op::none, Op::none, outer, inner, rows, alpha, {left_.data(), rows}, {half, inner}, beta,
                  {f, inner});
}

// M = G*[f]
void MomentsCuda::adjoint(Stream stream, const double* f, double* signal) const {
  const std::size_t rows = sizes_.rows, columns = sizes_.columns, outer = sizes_.outer, inner = sizes_.inner;
  if (sizes_.listed) {
    const std::size_t size = rows * columns;
    product<double>(stream, Op::none, Op::none, 1, size, inner, 1, {f, inner}, {right_.data(), size}, 0,
                    {signal, size});
    return;
  }
  Room room(stream);
  const double* half = f;
  if (!sizes_.whole) {
    double* const to = room.take<double>(rows * inner);
    product<double>(stream, Op::transpose, Op::none, rows, inner, outer, 1, {left_.data(), rows}, {f, inner}, 0,
                    {to, inner});
    half = to;
  }
  product<double>(stream, Op::none, Op::none, rows, columns, inner, 1, {half, inner}, {right_.data(), columns}, 0,
                  {signal, columns});
}

// out_i = M r_i + beta out_i, (count, rows)
void MomentsCuda::ahead(Stream stream, const double* signal, const double* theta, std::size_t count, double beta,
                        double* out) const {
  product<double>(stream, Op::none, Op::transpose, count, product_.rows, product_.columns, 1,
                  {theta + product_.right, product_.params}, {signal, product_.columns}, beta, {out, product_.rows});
}

// out_i = M^T l_i + beta out_i, (count, columns)
void MomentsCuda::back(Stream stream, const double* signal, const double* theta, std::size_t count, double beta,
                       double* out) const {
  product<double>(stream, Op::none, Op::none, count, product_.columns, product_.rows, 1,
                  {theta + product_.left, product_.params}, {signal, product_.columns}, beta, {out, product_.columns});
}

// M = G*[y - G[P]], and L; either may be null.
void MomentsCuda::signal_of(Stream stream, const double* theta, std::size_t count, double* signal, double* loss) const {
  const ProductLayout at = product_;
  const std::size_t entries = sizes_.entries();
  Room room(stream);
  double* const rest = room.take<double>(entries);
  copy(rest, target_.data(), entries * sizeof(double), stream);
  if (count) {
    double* const p = room.take<double>(at.size());
    if (at.gained) {
      const std::size_t rows = at.rows;
      double* const left = room.take<double>(count * rows);
      each(
          stream, count * rows, AGF_LAMBDA(std::size_t e) {
            const double* const x = theta + e / rows * at.params;
            left[e] = at.gain_of(x) * x[at.left + e % rows];
          });
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
void MomentsCuda::derivative(Stream stream, const double* theta, const double* v, std::size_t count,
                             double* signal) const {
  const ProductLayout at = product_;
  if (count == 0) return clear(signal, at.size() * sizeof(double), stream);
  Room room(stream);
  double* const p = room.take<double>(at.size());
  double* const image = room.take<double>(sizes_.entries());
  if (at.gained) {
    const std::size_t rows = at.rows;
    double* const turned = room.take<double>(count * rows);
    double* const left = room.take<double>(count * rows);
    each(
        stream, count * rows, AGF_LAMBDA(std::size_t e) {
          const double* const x = theta + e / rows * at.params;
          const double* const u = v + e / rows * at.params;
          const std::size_t a = at.left + e % rows;
          turned[e] = at.gain_of(x) * u[a] + u[at.gain] * x[a];
          left[e] = at.gain_of(x) * x[a];
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

// U = g l^T M r,  grad_l = g M r,  grad_r = g M^T l,  grad_g = l^T M r.
void MomentsCuda::slopes(Stream stream, const double* theta, std::size_t count, const double* signal, double* value,
                         double* gradient) const {
  if (count == 0) return;
  const ProductLayout at = product_;
  Room room(stream);
  double* const forwards = room.take<double>(count * at.rows);
  ahead(stream, signal, theta, count, 0, forwards);
  double* const form = value || at.gained ? room.take<double>(count) : nullptr;
  if (form)
    row_sums(
        stream, count, at.rows,
        AGF_LAMBDA(std::size_t i, std::size_t a) {
          return theta[i * at.params + at.left + a] * forwards[i * at.rows + a];
        },
        form);
  if (value) each(stream, count, AGF_LAMBDA(std::size_t i) { value[i] = at.gain_of(theta + i * at.params) * form[i]; });
  if (!gradient) return;
  double* const backwards = room.take<double>(count * at.columns);
  back(stream, signal, theta, count, 0, backwards);
  each(
      stream, count * at.params, AGF_LAMBDA(std::size_t e) {
        const std::size_t i = e / at.params, u = e % at.params;
        const double g = at.gain_of(theta + i * at.params);
        if (at.of_left(u)) {
          gradient[e] = g * forwards[i * at.rows + u - at.left];
        } else if (at.of_right(u)) {
          gradient[e] = g * backwards[i * at.columns + u - at.right];
        } else {
          gradient[e] = form[i];
        }
      });
}

// d grad_l = dg M r + g M dr,  d grad_r = dg M^T l + g M^T dl,  d grad_g = dl^T M r + l^T M dr;
// with dM, plus grad U(.; dM): M dr becomes M dr + dM r, and M^T dl becomes M^T dl + dM^T l.
void MomentsCuda::curvature(Stream stream, const double* theta, const double* v, std::size_t count,
                            const double* signal, const double* change, double sign, double* out) const {
  if (count == 0) return;
  const ProductLayout at = product_;
  Room room(stream);
  double* const along = room.take<double>(count * at.rows);
  double* const across = room.take<double>(count * at.columns);
  ahead(stream, signal, v, count, 0, along);
  back(stream, signal, v, count, 0, across);
  if (change) {
    ahead(stream, change, theta, count, 1, along);
    back(stream, change, theta, count, 1, across);
  }
  double* const forwards = at.gained ? room.take<double>(count * at.rows) : nullptr;
  double* const backwards = at.gained ? room.take<double>(count * at.columns) : nullptr;
  double* const form = at.gained ? room.take<double>(count) : nullptr;
  if (at.gained) {
    ahead(stream, signal, theta, count, 0, forwards);
    back(stream, signal, theta, count, 0, backwards);
    row_sums(
        stream, count, at.rows,
        AGF_LAMBDA(std::size_t i, std::size_t a) {
          const std::size_t in = i * at.params + at.left + a;
          return v[in] * forwards[i * at.rows + a] + theta[in] * along[i * at.rows + a];
        },
        form);
  }
  each(
      stream, count * at.params, AGF_LAMBDA(std::size_t e) {
        const std::size_t i = e / at.params, u = e % at.params;
        const double g = at.gain_of(theta + i * at.params), dg = at.gained ? v[i * at.params + at.gain] : 0.0;
        double value = 0;
        if (at.of_left(u)) {
          const std::size_t a = i * at.rows + u - at.left;
          value = g * along[a];
          if (at.gained) value += dg * forwards[a];
        } else if (at.of_right(u)) {
          const std::size_t b = i * at.columns + u - at.right;
          value = g * across[b];
          if (at.gained) value += dg * backwards[b];
        } else {
          value = form[i];
        }
        out[e] = sign * value;
      });
}

MomentsCuda::Bend MomentsCuda::bend(Room& room, const double* theta, std::size_t count, const double* signal) const {
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

void MomentsCuda::own_hessians(Stream stream, const double* theta, std::size_t count, const double* signal,
                               double* out) const {
  const std::size_t m = product_.params;
  Room room(stream);
  const Bend bent = bend(room, theta, count, signal);
  each(stream, count * m * m, AGF_LAMBDA(std::size_t e) { out[e] = bent(e / (m * m), e / m % m, e % m); });
}

MomentsCuda::Images MomentsCuda::images(Room& room, Pairs pairs, std::size_t n) const {
  const Stream stream = room.stream();
  const std::size_t rows = sizes_.rows, columns = sizes_.columns, outer = sizes_.outer, inner = sizes_.inner;
  double* const near = room.take<double>(n * inner);
  if (sizes_.listed) {
    const std::size_t size = rows * columns,
                      most = std::min(n, std::max<std::size_t>(1, chunk_bytes / (size * sizeof(double))));
    Room chunk(stream);
    double* const flat = chunk.take<double>(most * size);
    for (std::size_t first = 0; first < n; first += most) {
      const std::size_t h = std::min(most, n - first);
      each(
          stream, h * size, AGF_LAMBDA(std::size_t i) {
            const std::size_t e = first + i / size, at = i % size;
            flat[i] = pairs.x[e * pairs.x_stride + at / columns] * pairs.y[e * pairs.y_stride + at % columns];
          });
      product<double>(stream, Op::none, Op::transpose, h, inner, size, 1, {flat, size}, {right_.data(), size}, 0,
                      {near + first * inner, inner});
    }
    return {{nullptr, 0}, {near, inner}};
  }
  product<double>(stream, Op::none, Op::transpose, n, inner, columns, 1, {pairs.y, pairs.y_stride},
                  {right_.data(), columns}, 0, {near, inner});
  if (sizes_.whole) return {{pairs.x, pairs.x_stride}, {near, inner}};
  double* const far = room.take<double>(n * outer);
  product<double>(stream, Op::none, Op::transpose, n, outer, rows, 1, {pairs.x, pairs.x_stride}, {left_.data(), rows},
                  0, {far, outer});
  return {{far, outer}, {near, inner}};
}

// <G[dp/dtheta_e], G[dp/dtheta_f]>, where every dp/dtheta_e = x_e y_e^T, less the curvature of each neuron's utility.
void MomentsCuda::whole_hessian(Stream stream, const double* theta, std::size_t count, const double* signal,
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
      stream, n * n, AGF_LAMBDA(std::size_t i) {
        const std::size_t row = i / n, column = i % n;
        if (column > row) return;
        double value = out[i];
        if (factor) value *= factor[i];
        if (row / m == column / m) value -= bent(row / m, row % m, column % m);
        out[i] = value;
        out[column * n + row] = value;
      });
}

// |G[p_i]|
void MomentsCuda::contributions(Stream stream, const double* theta, std::size_t count, double* out) const {
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

std::unique_ptr<Signal> MomentsCuda::make_signal() const {
  const OnDevice on(device_);
  return std::make_unique<MomentSignal>(product_.size(), Stream{});
}

double MomentsCuda::residual(const double* theta, std::size_t count, Signal& r, Shape) const {
  Call call(*this);
  double loss = 0;
  signal_of(call.stream(), count ? call.bring(theta, count * product_.params) : nullptr, count, values(r), &loss);
  return loss;
}

void MomentsCuda::residual_derivative(const double* theta, const double* v, std::size_t count, Signal& dr,
                                      Shape) const {
  Call call(*this);
  const std::size_t size = count * product_.params;
  derivative(call.stream(), call.bring(theta, size), call.bring(v, size), count, values(dr));
  wait(call.stream());
}

void MomentsCuda::utility(const double* theta, std::size_t count, const Signal& r, double* value, double* gradient,
                          Shape) const {
  if (count == 0) return;
  Call call(*this);
  const std::size_t size = count * product_.params;
  double* const value_out = value ? call.take(count) : nullptr;
  double* const gradient_out = gradient ? call.take(size) : nullptr;
  slopes(call.stream(), call.bring(theta, size), count, values(r), value_out, gradient_out);
  if (value) call.give(value_out, count, value);
  if (gradient) call.give(gradient_out, size, gradient);
}

void MomentsCuda::curvature_vector(const double* theta, const double* v, std::size_t count, const Signal& r,
                                   const Signal* dr, double* out, Shape) const {
  if (count == 0) return;
  Call call(*this);
  const std::size_t size = count * product_.params;
  double* const to = call.take(size);
  curvature(call.stream(), call.bring(theta, size), call.bring(v, size), count, values(r), dr ? values(*dr) : nullptr,
            1, to);
  call.give(to, size, out);
}

void MomentsCuda::utility_hessian(const double* theta, std::size_t count, const Signal& r, double* out, Shape) const {
  if (count == 0) return;
  Call call(*this);
  const std::size_t size = count * product_.params;
  double* const to = call.take(size * product_.params);
  own_hessians(call.stream(), call.bring(theta, size), count, values(r), to);
  call.give(to, size * product_.params, out);
}

void MomentsCuda::loss_hessian(const double* theta, std::size_t count, const Signal& r, double* out, Shape) const {
  if (count == 0) return;
  Call call(*this);
  const std::size_t size = count * product_.params;
  double* const to = call.take(size * size);
  whole_hessian(call.stream(), call.bring(theta, size), count, values(r), to);
  call.give(to, size * size, out);
}

void MomentsCuda::contribution(const double* theta, std::size_t count, double* out) const {
  if (count == 0) return;
  Call call(*this);
  double* const to = call.take(count);
  contributions(call.stream(), call.bring(theta, count * product_.params), count, to);
  call.give(to, count, out);
}

// ----------------------------------------------------------------------------------------- arrays of the device

template <typename T>
double MomentsCuda::residual(Stream stream, const T* theta, std::size_t count, T* r) const {
  const OnDevice on(device_);
  Room room(stream);
  double* const signal = wide_room(room, r, product_.size());
  double loss = 0;
  signal_of(stream, wide(room, theta, count * product_.params), count, signal, &loss);
  narrow(stream, signal, product_.size(), r);
  return loss;
}

template <typename T>
double MomentsCuda::loss(Stream stream, const T* theta, std::size_t count) const {
  const OnDevice on(device_);
  Room room(stream);
  double value = 0;
  signal_of(stream, wide(room, theta, count * product_.params), count, nullptr, &value);
  return value;
}

template <typename T>
void MomentsCuda::utility(Stream stream, const T* theta, std::size_t count, const T* r, T* value, T* gradient) const {
  const OnDevice on(device_);
  Room room(stream);
  const std::size_t size = count * product_.params;
  const double* const at = wide(room, theta, size);
  const double* signal = nullptr;
  if (r) {
    signal = wide(room, r, product_.size());
  } else {
    double* const own = room.take<double>(product_.size());
    signal_of(stream, at, count, own, nullptr);
    signal = own;
  }
  double* const value_out = wide_room(room, value, count);
  double* const gradient_out = wide_room(room, gradient, size);
  slopes(stream, at, count, signal, value_out, gradient_out);
  narrow(stream, value_out, count, value);
  narrow(stream, gradient_out, size, gradient);
}

template <typename T>
void MomentsCuda::hessian_vector(Stream stream, const T* theta, const T* v, std::size_t count, T* out) const {
  const OnDevice on(device_);
  Room room(stream);
  const std::size_t size = count * product_.params;
  const double* const at = wide(room, theta, size);
  const double* const along = wide(room, v, size);
  double* const signal = room.take<double>(product_.size());
  double* const change = room.take<double>(product_.size());
  double* const to = wide_room(room, out, size);
  signal_of(stream, at, count, signal, nullptr);
  derivative(stream, at, along, count, change);
  curvature(stream, at, along, count, signal, change, -1, to);
  narrow(stream, to, size, out);
}

template <typename T>
void MomentsCuda::hessian(Stream stream, const T* theta, std::size_t count, T* out) const {
  const OnDevice on(device_);
  Room room(stream);
  const std::size_t size = count * product_.params;
  const double* const at = wide(room, theta, size);
  double* const signal = room.take<double>(product_.size());
  double* const to = wide_room(room, out, size * size);
  signal_of(stream, at, count, signal, nullptr);
  whole_hessian(stream, at, count, signal, to);
  narrow(stream, to, size * size, out);
}

#define AGF_LEAVES(T)                                                                              \
  template double MomentsCuda::residual<T>(Stream, const T*, std::size_t, T*) const;               \
  template double MomentsCuda::loss<T>(Stream, const T*, std::size_t) const;                       \
  template void MomentsCuda::utility<T>(Stream, const T*, std::size_t, const T*, T*, T*) const;    \
  template void MomentsCuda::hessian_vector<T>(Stream, const T*, const T*, std::size_t, T*) const; \
  template void MomentsCuda::hessian<T>(Stream, const T*, std::size_t, T*) const;
AGF_LEAVES(float)
AGF_LEAVES(double)
#undef AGF_LEAVES

}  // namespace agf::cuda
