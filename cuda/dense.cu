#include "dense.hpp"

#include <algorithm>
#include <cmath>

#include "dense_hessians.cuh"
#include "each.cuh"
#include "neurons.cuh"

#if defined(AGF_BLOCK)
#include "block/few.cuh"
#else
#include "host.hpp"
#endif

namespace AGF_SPACE::cuda {

template <typename T>
struct DenseSignal final : Signal {
  AGF_CORE DenseSignal(std::size_t size, Stream stream) : numbers(size, stream) {}
  Held<T> numbers;
};

template <typename T>
AGF_CORE const T* DenseCuda<T>::values(const Signal& signal) {
  return static_cast<const DenseSignal<T>&>(signal).numbers.data();
}
template <typename T>
AGF_CORE T* DenseCuda<T>::values(Signal& signal) {
  return static_cast<DenseSignal<T>&>(signal).numbers.data();
}

template <typename T>
AGF_CORE auto DenseCuda<T>::neurons(Call<T>& call, const double* theta, std::size_t count, Shape shape) const
    -> Neurons {
  return {call.bring(theta, count * m_), count, call.bring(shape.ramp, count), shape.leading};
}

#if defined(AGF_BLOCK)
template <typename T>
AGF_CORE DenseCuda<T>::DenseCuda(const shared::DenseView& view)
    : DenseModel(view.n, view.d, view.c, view.sigma, view.parameter), x_(view.x), y_(view.y) {
  input_scale_ = view.input_scale;
}
#else
template <typename T>
DenseCuda<T>::DenseCuda(int device, Stream stream, const T* x, std::size_t n, std::size_t d, const T* y, std::size_t c,
                        bool on_host, Sigma sigma, double parameter)
    : DenseModel(n, d, c, sigma, parameter), device_(device) {
  const OnDevice on(device);
  own_x_ = Held<T>(n * d, stream);
  own_y_ = Held<T>(n * c, stream);
  x_ = own_x_.data();
  y_ = own_y_.data();
  const auto fetch = on_host ? upload : copy;
  fetch(own_x_.data(), x, n * d * sizeof(T), stream);
  fetch(own_y_.data(), y, n * c * sizeof(T), stream);
  // E|x|^2 is twice half of it; and waits for the copies.
  input_scale_ = std::sqrt(2 * half_mean_square(stream, x_, n));
  wait(stream);
}
#endif

// ----------------------------------------------------------------------------------------------------------- parts

template <typename T>
AGF_CORE std::size_t DenseCuda<T>::chunk(std::size_t samples, std::size_t numbers) const {
#if defined(AGF_BLOCK)
  // A block has little memory, and few threads to keep busy.
  constexpr std::size_t bytes = std::size_t{1} << 18;
#else
  constexpr std::size_t bytes = std::size_t{1} << 25;
#endif
  constexpr std::size_t least = 64;
  return std::min(samples, std::max(least, bytes / std::max(sizeof(T), numbers * sizeof(T))));
}

// z = w x
template <typename T>
AGF_CORE auto DenseCuda<T>::analysed(const T* x, const T* w, T* z) const -> Number<T> {
  return {x, w, d_, nullptr, nullptr, z};
}

// g = a . r, + b . s
template <typename T>
AGF_CORE auto DenseCuda<T>::projected(const T* r, const T* theta, T* g, const T* s, const T* other) const -> Number<T> {
  return {r, theta + d_, c_, s, s ? other + d_ : nullptr, g};
}

template <typename T>
template <typename Loop, typename... Numbers>
AGF_CORE void DenseCuda<T>::over_neurons(Stream stream, Neurons at, std::size_t rows, Loop, Numbers... these) const {
  constexpr std::size_t numbers = sizeof...(Numbers);
  Bent<T, Loop, numbers> bent{nonlinearity_of(at), at.ramp, at.count, m_, {these...}};
#if defined(AGF_BLOCK)
  if ((few(rows, at.count, these.length) && ...)) {
    const std::size_t count = at.count;
    return each(stream, rows * count, [=](std::size_t e) { bent.make(e / count, e % count); });
  }
#endif
  for (std::size_t q = 1; q < numbers; ++q) {
    Number<T>& of = bent.number[q];
    if (bent.is_short(q)) continue;
    const auto add = [&](const T* by, const T* with, double kept) {
      product<T>(stream, Op::none, Op::transpose, rows, at.count, of.length, 1, {by, of.length}, {with, m_}, kept,
                 {of.at, at.count});
    };
    add(of.of, of.with, 0);
    if (of.of_too) add(of.of_too, of.with_too, 1);
    of.there = true;
  }
  const Number<T>& first = bent.number[0];
  product_then<T>(stream, Op::none, Op::transpose, rows, at.count, first.length, {first.of, first.length},
                  {first.with, m_}, bent);
}

// sum_i z_i a_i, with z (rows, count)
template <typename T>
struct DenseCuda<T>::Out {
  const T *z, *theta;

#if defined(AGF_BLOCK)
  AGF_CORE T sum(std::size_t sample, std::size_t count, std::size_t output, std::size_t m) const {
    T value = T(0);
    for (std::size_t i = 0; i < count; ++i) value += z[sample * count + i] * theta[i * m + output];
    return value;
  }
#endif
};

// f = from + alpha (those of `outs`), (rows, c); from = 0 where it is null.
template <typename T>
template <typename... Outs>
AGF_CORE void DenseCuda<T>::readout(Stream stream, std::size_t rows, std::size_t count, double alpha, const T* from,
                                    T* f, Outs... outs) const {
#if defined(AGF_BLOCK)
  if (few(rows, c_, count)) {
    const std::size_t c = c_, d = d_, m = m_;
    return each(stream, rows * c, [=](std::size_t e) {
      const T sum = (outs.sum(e / c, count, d + e % c, m) + ...);
      f[e] = from ? from[e] + alpha * sum : alpha * sum;
    });
  }
#endif
  if (from && from != f) copy(f, from, rows * c_ * sizeof(T), stream);
  double beta = from ? 1 : 0;
  const auto add = [&](const Out& out) {
    product<T>(stream, Op::none, Op::none, rows, c_, count, alpha, {out.z, count}, {out.theta + d_, m_}, beta, {f, c_});
    beta = 1;
  };
  (add(outs), ...);
}

// Sums over samples: g^T x for the inputs' weights, t^T r + z^T dr for the outputs'; none of a pair that is null.
template <typename T>
struct DenseCuda<T>::Collected {
  const T *g, *x, *t, *r, *z, *dr;
};

// out = alpha (what is collected), (count, m), added to out where there is `more`.
template <typename T>
AGF_CORE void DenseCuda<T>::collect(Stream stream, std::size_t rows, std::size_t count, double alpha, bool more,
                                    Collected of, T* out) const {
#if defined(AGF_BLOCK)
  if (few(count, m_, rows)) {
    const std::size_t c = c_, d = d_, first = of.g ? 0 : d, width = m_ - first, m = m_;
    return long_sums(
        count * width, rows,
        [=](std::size_t e, std::size_t sample) {
          const std::size_t at = sample * count + e / width, l = first + e % width;
          if (l < d) return of.g[at] * of.x[sample * d + l];
          const T value = of.t[at] * of.r[sample * c + l - d];
          return of.dr ? value + of.z[at] * of.dr[sample * c + l - d] : value;
        },
        [=](std::size_t e, double sum) {
          T* const to = out + e / width * m + first + e % width;
          *to = more ? *to + alpha * sum : alpha * sum;
        });
  }
#endif
  const double beta = more ? 1 : 0;
  const auto add = [&](const T* q, const T* with, std::size_t width, double kept, T* to) {
    product<T>(stream, Op::transpose, Op::none, count, width, rows, alpha, {q, count}, {with, width}, kept, {to, m_});
  };
  if (of.g) add(of.g, of.x, d_, beta, out);
  add(of.t, of.r, c_, beta, out + d_);
  if (of.dr) add(of.z, of.dr, c_, 1, out + d_);
}

// 1/2 E|r|^2
template <typename T>
AGF_CORE double DenseCuda<T>::half_mean_square(Stream stream, const T* r, std::size_t rows) const {
  const std::size_t size = r == x_ ? n_ * d_ : rows * c_;
  const double sum = total(
      stream, size, AGF_LAMBDA(std::size_t i) {
        const double value = static_cast<double>(r[i]);
        return value * value;
      });
  return 0.5 * sum / static_cast<double>(rows);
}

// f = from + sign sum_i f_i; from = 0 where it is null.
template <typename T>
AGF_CORE void DenseCuda<T>::forward(Stream stream, Neurons at, const T* x, std::size_t rows, T sign, const T* from,
                                    T* f) const {
  if (at.count == 0) {
    if (from) copy(f, from, rows * c_ * sizeof(T), stream);
    if (!from) clear(f, rows * c_ * sizeof(T), stream);
    return;
  }
  const std::size_t most = chunk(rows, at.count), count = at.count;
  Room room(stream);
  T* const z = room.take<T>(most * count);
  for (std::size_t first = 0; first < rows; first += most) {
    const std::size_t b = std::min(most, rows - first);
    over_neurons(stream, at, b, leaf::Value{}, analysed(x + first * d_, at.theta, z));
    readout(stream, b, count, static_cast<double>(sign), from ? from + first * c_ : nullptr, f + first * c_,
            Out{z, at.theta});
  }
}

// dr = -sum_i [ sigma(z_i) v_a + sigma'(z_i) (v_w x) a ]
template <typename T>
AGF_CORE void DenseCuda<T>::derivative(Stream stream, Neurons at, const T* v, T* dr) const {
  if (at.count == 0) return clear(dr, n_ * c_ * sizeof(T), stream);
  const std::size_t most = chunk(n_, 2 * at.count), count = at.count;
  Room room(stream);
  T* const z = room.take<T>(most * count);
  T* const t = room.take<T>(most * count);
  for (std::size_t first = 0; first < n_; first += most) {
    const std::size_t b = std::min(most, n_ - first);
    const T* const x = x_ + first * d_;
    over_neurons(stream, at, b, leaf::Pair{}, analysed(x, at.theta, z), analysed(x, v, t));
    readout(stream, b, count, -1, nullptr, dr + first * c_, Out{z, v}, Out{t, at.theta});
  }
}

// U = a . E[sigma(z) r];  grad_a U = E[sigma(z) r];  grad_w U = E[sigma'(z) g x],  g = a . r
template <typename T>
AGF_CORE void DenseCuda<T>::slopes(Stream stream, Neurons at, const T* r, T* value, T* gradient) const {
  if (at.count == 0) return;
  const std::size_t most = chunk(n_, (gradient ? 2 : 1) * at.count), count = at.count;
  Room room(stream);
  T* const z = room.take<T>(most * count);
  T* const g = gradient ? room.take<T>(most * count) : nullptr;
  T* const out = gradient ? gradient : room.take<T>(count * m_);
  const double scale = 1 / static_cast<double>(n_);
  for (std::size_t first = 0; first < n_; first += most) {
    const std::size_t b = std::min(most, n_ - first);
    const T* const x = x_ + first * d_;
    const T* const rows = r + first * c_;
    if (g) {
      over_neurons(stream, at, b, leaf::Pair{}, analysed(x, at.theta, z), projected(rows, at.theta, g));
    } else {
      over_neurons(stream, at, b, leaf::Value{}, analysed(x, at.theta, z));
    }
    collect(stream, b, count, scale, first > 0, {g, x, z, rows, nullptr, nullptr}, out);
  }
  if (!value) return;
  const std::size_t d = d_, c = c_, m = m_;
  const T* const theta = at.theta;
  each(
      stream, count, AGF_LAMBDA(std::size_t i) {
        double sum = 0;
        for (std::size_t o = 0; o < c; ++o)
          sum += static_cast<double>(theta[i * m + d + o]) * static_cast<double>(out[i * m + d + o]);
        value[i] = static_cast<T>(sum);
      });
}

// hess U v:  w: E[(sigma'' t g + sigma' (v_a . r)) x],  a: E[sigma' t r],  t = v_w . x,  g = a . r;
// with dr, plus grad U(.; dr):  w: E[sigma' (a . dr) x],  a: E[sigma dr].
template <typename T>
AGF_CORE void DenseCuda<T>::curvature(Stream stream, Neurons at, const T* v, const T* r, const T* dr, double sign,
                                      T* out) const {
  if (at.count == 0) return;
  const std::size_t most = chunk(n_, 4 * at.count), count = at.count;
  Room room(stream);
  T* const z = room.take<T>(most * count);
  T* const t = room.take<T>(most * count);
  T* const g = room.take<T>(most * count);
  T* const h = room.take<T>(most * count);
  const double scale = sign / static_cast<double>(n_);
  for (std::size_t first = 0; first < n_; first += most) {
    const std::size_t b = std::min(most, n_ - first);
    const T* const x = x_ + first * d_;
    const T* const rows = r + first * c_;
    const T* const turned = dr ? dr + first * c_ : nullptr;
    over_neurons(stream, at, b, leaf::Curve{}, analysed(x, at.theta, z), analysed(x, v, t),
                 projected(rows, at.theta, g), unkept(projected(rows, v, h, turned, at.theta)));
    collect(stream, b, count, scale, first > 0, {g, x, t, rows, z, turned}, out);
  }
}

// |a| sqrt E sigma(z)^2
template <typename T>
AGF_CORE void DenseCuda<T>::contributions(Stream stream, Neurons at, T* out) const {
  at.ramp = nullptr;
  const std::size_t most = chunk(n_, at.count), count = at.count, d = d_, c = c_, m = m_;
  Room room(stream);
  T* const z = room.take<T>(most * count);
  double* const squares = room.take<double>(count);
  double* const part = room.take<double>(count);
  clear(squares, count * sizeof(double), stream);
  for (std::size_t first = 0; first < n_; first += most) {
    const std::size_t b = std::min(most, n_ - first);
    over_neurons(stream, at, b, leaf::Value{}, analysed(x_ + first * d_, at.theta, z));
    sums(
        stream, count, b,
        AGF_LAMBDA(std::size_t i, std::size_t j) {
          const double value = static_cast<double>(z[j * count + i]);
          return value * value;
        },
        part);
    each(stream, count, AGF_LAMBDA(std::size_t i) { squares[i] += part[i]; });
  }
  const T* const theta = at.theta;
  const double samples = static_cast<double>(n_);
  each(
      stream, count, AGF_LAMBDA(std::size_t i) {
        double norm = 0;
        for (std::size_t o = d; o < d + c; ++o) {
          const double a = static_cast<double>(theta[i * m + o]);
          norm += a * a;
        }
        out[i] = static_cast<T>(::sqrt(norm) * ::sqrt(squares[i] / samples));
      });
}

// -------------------------------------------------------------------------------------------------------- Problem

template <typename T>
AGF_CORE Owned<Signal> DenseCuda<T>::make_signal() const {
  const OnDevice on(device_);
  return make_owned<DenseSignal<T>>(n_ * c_, Stream{});
}

template <typename T>
AGF_CORE double DenseCuda<T>::residual(const double* theta, std::size_t count, Signal& r, Shape shape) const {
  Call<T> call(device_);
  const Neurons at = count ? neurons(call, theta, count, shape) : Neurons{};
  forward(call.stream(), at, x_, n_, T(-1), y_, values(r));
  return half_mean_square(call.stream(), values(r), n_);
}

template <typename T>
AGF_CORE void DenseCuda<T>::residual_derivative(const double* theta, const double* v, std::size_t count, Signal& dr,
                                                Shape shape) const {
  Call<T> call(device_);
  const Neurons at = neurons(call, theta, count, shape);
  derivative(call.stream(), at, call.bring(v, count * m_), values(dr));
  call.give();
}

template <typename T>
AGF_CORE void DenseCuda<T>::utility(const double* theta, std::size_t count, const Signal& r, double* value,
                                    double* gradient, Shape shape) const {
  if (count == 0) return;
  Call<T> call(device_);
  const Neurons at = neurons(call, theta, count, shape);
  T* const to_value = call.place(value, count);
  T* const to_gradient = call.place(gradient, count * m_);
  slopes(call.stream(), at, values(r), to_value, to_gradient);
  call.give();
}

template <typename T>
AGF_CORE void DenseCuda<T>::curvature_vector(const double* theta, const double* v, std::size_t count, const Signal& r,
                                             const Signal* dr, double* out, Shape shape) const {
  if (count == 0) return;
  Call<T> call(device_);
  const Neurons at = neurons(call, theta, count, shape);
  T* const to = call.place(out, count * m_);
  curvature(call.stream(), at, call.bring(v, count * m_), values(r), dr ? values(*dr) : nullptr, 1, to);
  call.give();
}

template <typename T>
AGF_CORE void DenseCuda<T>::utility_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                                            Shape shape) const {
  if (count == 0) return;
  Call<T> call(device_);
  const Neurons at = neurons(call, theta, count, shape);
  own_hessians(call.stream(), at, values(r), curved(shape), call.place(out, count * m_ * m_));
  call.give();
}

template <typename T>
AGF_CORE void DenseCuda<T>::loss_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                                         Shape shape) const {
  if (count == 0) return;
  Call<T> call(device_);
  const Neurons at = neurons(call, theta, count, shape);
  const std::size_t size = count * m_;
  whole_hessian(call.stream(), at, values(r), curved(shape), call.place(out, size * size));
  call.give();
}

template <typename T>
AGF_CORE void DenseCuda<T>::contribution(const double* theta, std::size_t count, double* out) const {
  if (count == 0) return;
  Call<T> call(device_);
  contributions(call.stream(), neurons(call, theta, count, {}), call.place(out, count));
  call.give();
}

#if !defined(AGF_BLOCK)

template <typename T>
Owned<Problem> DenseCuda<T>::reduced(Array<double>& basis) const {
  if (d_ < 2 || d_ > most_reducible || !host().row_space) return nullptr;
  const OnDevice on(device_);
  const Stream stream;
  Array<T> x(n_ * d_);
  download(x.data(), x_, x.size() * sizeof(T), stream);
  Array<double> wide(x.begin(), x.end());
  basis.resize(d_ * d_);
  const double tolerance = static_cast<double>(std::max(n_, d_)) * data_epsilon_;
  const std::size_t rank = host().row_space(n_, d_, wide.data(), tolerance, basis.data());
  if (!worth_reducing(rank, d_)) {
    basis.clear();
    return nullptr;
  }
  basis.resize(d_ * rank);
  const std::size_t inputs = rank + 1;
  Room room(stream);
  wide.assign(x.begin(), x.end());
  const double* const from = room.take(wide.data(), wide.size());
  const double* const map = room.take(basis.data(), basis.size());
  double* const projected = room.take<double>(n_ * inputs);
  T* const to = room.take<T>(n_ * inputs);
  clear(projected, n_ * inputs * sizeof(double), stream);
  product<double>(stream, Op::none, Op::none, n_, rank, d_, 1, {from, d_}, {map, rank}, 0, {projected, inputs});
  each(stream, n_ * inputs, AGF_LAMBDA(std::size_t i) { to[i] = static_cast<T>(projected[i]); });
  return make_owned<DenseCuda<T>>(device_, stream, to, n_, inputs, y_, c_, false, sigma_, parameter_);
}

template <typename T>
Owned<Problem> DenseCuda<T>::in_double() const {
  if constexpr (std::is_same_v<T, double>) {
    return nullptr;
  } else {
    const OnDevice on(device_);
    const Stream stream;
    Room room(stream);
    double* const x = room.take<double>(n_ * d_);
    double* const y = room.take<double>(n_ * c_);
    const T *const x_from = x_, *const y_from = y_;
    each(stream, n_ * d_, AGF_LAMBDA(std::size_t i) { x[i] = static_cast<double>(x_from[i]); });
    each(stream, n_ * c_, AGF_LAMBDA(std::size_t i) { y[i] = static_cast<double>(y_from[i]); });
    auto twin = make_owned<DenseCuda<double>>(device_, stream, x, n_, d_, y, c_, false, sigma_, parameter_);
    twin->data_epsilon_ = data_epsilon_;
    return twin;
  }
}

// ----------------------------------------------------------------------------------------- arrays of the device

template <typename T>
double DenseCuda<T>::residual(Stream stream, const T* theta, std::size_t count, T* r) const {
  const OnDevice on(device_);
  forward(stream, {theta, count, nullptr, false}, x_, n_, T(-1), y_, r);
  return half_mean_square(stream, r, n_);
}

template <typename T>
double DenseCuda<T>::loss(Stream stream, const T* theta, std::size_t count) const {
  const OnDevice on(device_);
  Room room(stream);
  return residual(stream, theta, count, room.take<T>(n_ * c_));
}

template <typename T>
void DenseCuda<T>::utility(Stream stream, const T* theta, std::size_t count, const T* r, T* value, T* gradient) const {
  const OnDevice on(device_);
  const Neurons at{theta, count, nullptr, false};
  if (r) return slopes(stream, at, r, value, gradient);
  Room room(stream);
  T* const own = room.take<T>(n_ * c_);
  forward(stream, at, x_, n_, T(-1), y_, own);
  slopes(stream, at, own, value, gradient);
}

template <typename T>
void DenseCuda<T>::hessian_vector(Stream stream, const T* theta, const T* v, std::size_t count, T* out) const {
  const OnDevice on(device_);
  const Neurons at{theta, count, nullptr, false};
  Room room(stream);
  T* const r = room.take<T>(n_ * c_);
  T* const dr = room.take<T>(n_ * c_);
  forward(stream, at, x_, n_, T(-1), y_, r);
  derivative(stream, at, v, dr);
  curvature(stream, at, v, r, dr, -1, out);
}

template <typename T>
void DenseCuda<T>::hessian(Stream stream, const T* theta, std::size_t count, T* out) const {
  const OnDevice on(device_);
  const Neurons at{theta, count, nullptr, false};
  Room room(stream);
  T* const r = room.take<T>(n_ * c_);
  forward(stream, at, x_, n_, T(-1), y_, r);
  whole_hessian(stream, at, r, curved({}), out);
}

template <typename T>
void DenseCuda<T>::predict(Stream stream, const T* theta, std::size_t count, const T* x, std::size_t rows, T* f) const {
  const OnDevice on(device_);
  forward(stream, {theta, count, nullptr, false}, x, rows, T(1), nullptr, f);
}

template class DenseCuda<float>;
template class DenseCuda<double>;

#endif

}  // namespace AGF_SPACE::cuda
