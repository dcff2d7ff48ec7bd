#include "dense.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "each.cuh"
#include "host.hpp"
#include "product.hpp"

namespace agf::cuda {
namespace {

template <typename T>
struct DenseSignal final : Signal {
  DenseSignal(std::size_t size, Stream stream) : values(size, stream) {}
  Held<T> values;
};

template <typename T>
const T* values(const Signal& signal) {
  return static_cast<const DenseSignal<T>&>(signal).values.data();
}
template <typename T>
T* values(Signal& signal) {
  return static_cast<DenseSignal<T>&>(signal).values.data();
}

// Room of the arrays of one chunk of samples.
constexpr std::size_t chunk_bytes = std::size_t{1} << 25;

}  // namespace

// A call that brings doubles of the host and takes doubles back.
template <typename T>
class DenseCuda<T>::Call {
 public:
  explicit Call(const DenseCuda& problem) : problem_(problem), on_(problem.device_), room_(Stream{}) {}

  Stream stream() const { return room_.stream(); }
  T* take(std::size_t count) { return room_.template take<T>(count); }
  const T* bring(const double* from, std::size_t count) {
    cast_.assign(from, from + count);
    return room_.take(cast_.data(), count);
  }
  Neurons neurons(const double* theta, std::size_t count, Shape shape) {
    const T* at = bring(theta, count * problem_.m_);
    return {at, count, shape.ramp ? bring(shape.ramp, count) : nullptr, shape.leading};
  }
  void give(const T* from, std::size_t count, double* to) {
    cast_.resize(count);
    download(cast_.data(), from, count * sizeof(T), stream());
    std::copy(cast_.begin(), cast_.end(), to);
  }

 private:
  const DenseCuda& problem_;
  OnDevice on_;
  Room room_;
  std::vector<T> cast_;
};

template <typename T>
DenseCuda<T>::DenseCuda(int device, Stream stream, const T* x, std::size_t n, std::size_t d, const T* y, std::size_t c,
                        bool on_host, Sigma sigma, double parameter)
    : DenseModel(n, d, c, sigma, parameter), device_(device) {
  const OnDevice on(device);
  x_ = Held<T>(n * d, stream);
  y_ = Held<T>(n * c, stream);
  const auto fetch = on_host ? upload : copy;
  fetch(x_.data(), x, n * d * sizeof(T), stream);
  fetch(y_.data(), y, n * c * sizeof(T), stream);
  // E|x|^2 is twice half of it; and waits for the copies.
  input_scale_ = std::sqrt(2 * half_mean_square(stream, x_.data(), n));
  wait(stream);
}

// ----------------------------------------------------------------------------------------------------------- parts

template <typename T>
std::size_t DenseCuda<T>::chunk(std::size_t samples, std::size_t numbers) const {
  constexpr std::size_t least = 64;
  return std::min(samples, std::max(least, chunk_bytes / (numbers * sizeof(T))));
}

// z = w x, (rows, count)
template <typename T>
void DenseCuda<T>::analyse(Stream stream, const T* x, std::size_t rows, const T* w, std::size_t count, T* z) const {
  product<T>(stream, Op::none, Op::transpose, rows, count, d_, 1, {x, d_}, {w, m_}, 0, {z, count});
}

// g = a . r + beta g, (rows, count)
template <typename T>
void DenseCuda<T>::project(Stream stream, const T* r, std::size_t rows, const T* theta, std::size_t count, double beta,
                           T* g) const {
  product<T>(stream, Op::none, Op::transpose, rows, count, c_, 1, {r, c_}, {theta + d_, m_}, beta, {g, count});
}

// f += alpha sum_i z_i a_i, (rows, c)
template <typename T>
void DenseCuda<T>::readout(Stream stream, const T* z, std::size_t rows, const T* theta, std::size_t count, double alpha,
                           T* f) const {
  product<T>(stream, Op::none, Op::none, rows, c_, count, alpha, {z, count}, {theta + d_, m_}, 1, {f, c_});
}

// out = alpha q^T with + beta out, (count, width) in rows m apart; q (rows, count), with (rows, width)
template <typename T>
void DenseCuda<T>::collect(Stream stream, const T* q, std::size_t rows, const T* with, std::size_t width,
                           std::size_t count, double alpha, double beta, T* out) const {
  product<T>(stream, Op::transpose, Op::none, count, width, rows, alpha, {q, count}, {with, width}, beta, {out, m_});
}

// 1/2 E|r|^2
template <typename T>
double DenseCuda<T>::half_mean_square(Stream stream, const T* r, std::size_t rows) const {
  const std::size_t size = r == x_.data() ? n_ * d_ : rows * c_;
  const double sum = total(
      stream, size, AGF_LAMBDA(std::size_t i) {
        const double value = static_cast<double>(r[i]);
        return value * value;
      });
  return 0.5 * sum / static_cast<double>(rows);
}

// f += sign sum_i f_i
template <typename T>
void DenseCuda<T>::forward(Stream stream, Neurons at, const T* x, std::size_t rows, T sign, T* f) const {
  if (at.count == 0) return;
  const Nonlinearity sigma = nonlinearity_of(at);
  const std::size_t most = chunk(rows, at.count), count = at.count;
  Room room(stream);
  T* const z = room.take<T>(most * count);
  for (std::size_t first = 0; first < rows; first += most) {
    const std::size_t b = std::min(most, rows - first);
    analyse(stream, x + first * d_, b, at.theta, count, z);
    const T* const ramp = at.ramp;
    each(
        stream, b * count, AGF_LAMBDA(std::size_t e) {
          leaf::pointwise(sigma, ramp ? ramp + e % count : nullptr, 1, 1, leaf::Value{}, z + e);
        });
    readout(stream, z, b, at.theta, count, static_cast<double>(sign), f + first * c_);
  }
}

// dr = -sum_i [ sigma(z_i) v_a + sigma'(z_i) (v_w x) a ]
template <typename T>
void DenseCuda<T>::derivative(Stream stream, Neurons at, const T* v, T* dr) const {
  clear(dr, n_ * c_ * sizeof(T), stream);
  if (at.count == 0) return;
  const Nonlinearity sigma = nonlinearity_of(at);
  const std::size_t most = chunk(n_, 2 * at.count), count = at.count;
  Room room(stream);
  T* const z = room.take<T>(most * count);
  T* const t = room.take<T>(most * count);
  for (std::size_t first = 0; first < n_; first += most) {
    const std::size_t b = std::min(most, n_ - first);
    analyse(stream, x_.data() + first * d_, b, at.theta, count, z);
    analyse(stream, x_.data() + first * d_, b, v, count, t);
    const T* const ramp = at.ramp;
    each(
        stream, b * count, AGF_LAMBDA(std::size_t e) {
          leaf::pointwise(sigma, ramp ? ramp + e % count : nullptr, 1, 1, leaf::Pair{}, z + e, t + e);
        });
    readout(stream, z, b, v, count, -1, dr + first * c_);
    readout(stream, t, b, at.theta, count, -1, dr + first * c_);
  }
}

// U = a . E[sigma(z) r];  grad_a U = E[sigma(z) r];  grad_w U = E[sigma'(z) g x],  g = a . r
template <typename T>
void DenseCuda<T>::slopes(Stream stream, Neurons at, const T* r, T* value, T* gradient) const {
  if (at.count == 0) return;
  const Nonlinearity sigma = nonlinearity_of(at);
  const std::size_t most = chunk(n_, (gradient ? 2 : 1) * at.count), count = at.count;
  Room room(stream);
  T* const z = room.take<T>(most * count);
  T* const g = gradient ? room.take<T>(most * count) : nullptr;
  T* const out = gradient ? gradient : room.take<T>(count * m_);
  const double scale = 1 / static_cast<double>(n_);
  for (std::size_t first = 0; first < n_; first += most) {
    const std::size_t b = std::min(most, n_ - first);
    const double beta = first ? 1 : 0;
    const T* const x = x_.data() + first * d_;
    const T* const rows = r + first * c_;
    analyse(stream, x, b, at.theta, count, z);
    if (g) project(stream, rows, b, at.theta, count, 0, g);
    const T* const ramp = at.ramp;
    each(
        stream, b * count, AGF_LAMBDA(std::size_t e) {
          const T* const width = ramp ? ramp + e % count : nullptr;
          if (g) {
            leaf::pointwise(sigma, width, 1, 1, leaf::Pair{}, z + e, g + e);
          } else {
            leaf::pointwise(sigma, width, 1, 1, leaf::Value{}, z + e);
          }
        });
    if (g) collect(stream, g, b, x, d_, count, scale, beta, out);
    collect(stream, z, b, rows, c_, count, scale, beta, out + d_);
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
void DenseCuda<T>::curvature(Stream stream, Neurons at, const T* v, const T* r, const T* dr, double sign,
                             T* out) const {
  if (at.count == 0) return;
  const Nonlinearity sigma = nonlinearity_of(at);
  const std::size_t most = chunk(n_, 4 * at.count), count = at.count;
  Room room(stream);
  T* const z = room.take<T>(most * count);
  T* const t = room.take<T>(most * count);
  T* const g = room.take<T>(most * count);
  T* const h = room.take<T>(most * count);
  const double scale = sign / static_cast<double>(n_);
  for (std::size_t first = 0; first < n_; first += most) {
    const std::size_t b = std::min(most, n_ - first);
    const double beta = first ? 1 : 0;
    const T* const x = x_.data() + first * d_;
    const T* const rows = r + first * c_;
    analyse(stream, x, b, at.theta, count, z);
    analyse(stream, x, b, v, count, t);
    project(stream, rows, b, at.theta, count, 0, g);
    project(stream, rows, b, v, count, 0, h);
    if (dr) project(stream, dr + first * c_, b, at.theta, count, 1, h);
    const T* const ramp = at.ramp;
    each(
        stream, b * count, AGF_LAMBDA(std::size_t e) {
          leaf::pointwise(sigma, ramp ? ramp + e % count : nullptr, 1, 1, leaf::Curve{}, z + e, t + e, g + e, h + e);
        });
    collect(stream, g, b, x, d_, count, scale, beta, out);
    collect(stream, t, b, rows, c_, count, scale, beta, out + d_);
    if (dr) collect(stream, z, b, dr + first * c_, c_, count, scale, 1, out + d_);
  }
}

// ww = E[sigma'' g x x^T] (count, d, d), skipped unless bent, and wa = E[sigma' x r^T] (count, d, c)
template <typename T>
void DenseCuda<T>::curve_terms(Stream stream, Neurons at, const T* r, bool bent, T* ww, T* wa) const {
  const Nonlinearity sigma = nonlinearity_of(at);
  const std::size_t count = at.count, d = d_;
  const std::size_t most = chunk(n_, count * (4 + 2 * d));
  Room room(stream);
  T* const z = room.take<T>(most * count);
  T* const s1 = room.take<T>(most * count);
  T* const s2 = room.take<T>(most * count);
  T* const g = room.take<T>(most * count);
  // Of neuron j: sigma' x and sigma'' g x, (b, d) each.
  T* const sloped = room.take<T>(most * count * d);
  T* const weighted = bent ? room.take<T>(most * count * d) : nullptr;
  const double scale = 1 / static_cast<double>(n_);
  for (std::size_t first = 0; first < n_; first += most) {
    const std::size_t b = std::min(most, n_ - first);
    const double beta = first ? 1 : 0;
    const T* const x = x_.data() + first * d;
    const T* const rows = r + first * c_;
    analyse(stream, x, b, at.theta, count, z);
    project(stream, rows, b, at.theta, count, 0, g);
    const T* const ramp = at.ramp;
    each(
        stream, b * count, AGF_LAMBDA(std::size_t e) {
          leaf::pointwise(sigma, ramp ? ramp + e % count : nullptr, 1, 1, leaf::Jets{}, z + e, s1 + e, s2 + e);
        });
    each(
        stream, b * count * d, AGF_LAMBDA(std::size_t e) {
          const std::size_t l = e % d, i = e / d % b, at_sample = i * count + e / (d * b);
          sloped[e] = s1[at_sample] * x[i * d + l];
          if (weighted) weighted[e] = s2[at_sample] * g[at_sample] * x[i * d + l];
        });
    product<T>(stream, Op::transpose, Op::none, d, c_, b, scale, {sloped, d, b * d}, {rows, c_, 0}, beta,
               {wa, c_, d * c_}, count);
    if (weighted)
      product<T>(stream, Op::transpose, Op::none, d, d, b, scale, {weighted, d, b * d}, {x, d, 0}, beta, {ww, d, d * d},
                 count);
  }
}

template <typename T>
void DenseCuda<T>::own_hessians(Stream stream, Neurons at, const T* r, bool bent, T* out) const {
  const std::size_t count = at.count, d = d_, c = c_, m = m_;
  Room room(stream);
  T* const ww = bent ? room.take<T>(count * d * d) : nullptr;
  T* const wa = room.take<T>(count * d * c);
  curve_terms(stream, at, r, bent, ww, wa);
  each(
      stream, count * m * m, AGF_LAMBDA(std::size_t e) {
        const std::size_t j = e / (m * m), u = e / m % m, v = e % m;
        T value = T(0);
        if (u < d && v < d) {
          // Symmetric to the last bit, whatever the order of sums in a tile.
          const std::size_t high = u > v ? u : v, low = u > v ? v : u;
          if (ww) value = ww[(j * d + high) * d + low];
        } else if (u < d) {
          value = wa[(j * d + u) * c + v - d];
        } else if (v < d) {
          value = wa[(j * d + v) * c + u - d];
        }
        out[e] = value;
      });
}

// With C_jk = E[phi_j phi_k^T], phi_j = (sigma'(z_j) x, sigma(z_j)):
//   ww[j, k] = (a_j . a_k) C_jk[x, x],  w_j a_k: C_jk[x, 1] a_j^T,  aa[j, k] = C_jk[1, 1] I,  minus hess U_j where j =
//   k.
template <typename T>
void DenseCuda<T>::whole_hessian(Stream stream, Neurons at, const T* r, bool bent, T* out) const {
  const Nonlinearity sigma = nonlinearity_of(at);
  const std::size_t count = at.count, d = d_, c = c_, m = m_, e = d_ + 1, features = count * e, size = count * m;
  Room room(stream);
  T* const ww = bent ? room.take<T>(count * d * d) : nullptr;
  T* const wa = room.take<T>(count * d * c);
  T* const products = room.take<T>(features * features);
  T* const outer = room.take<T>(count * count);
  curve_terms(stream, at, r, bent, ww, wa);
  product<T>(stream, Op::none, Op::transpose, count, count, c, 1, {at.theta + d, m}, {at.theta + d, m}, 0,
             {outer, count});
  const std::size_t most = chunk(n_, count * (3 + e));
  T* const z = room.take<T>(most * count);
  T* const s1 = room.take<T>(most * count);
  T* const s2 = room.take<T>(most * count);
  T* const phi = room.take<T>(most * features);
  for (std::size_t first = 0; first < n_; first += most) {
    const std::size_t b = std::min(most, n_ - first);
    const T* const x = x_.data() + first * d;
    analyse(stream, x, b, at.theta, count, z);
    const T* const ramp = at.ramp;
    each(
        stream, b * count, AGF_LAMBDA(std::size_t i) {
          leaf::pointwise(sigma, ramp ? ramp + i % count : nullptr, 1, 1, leaf::Jets{}, z + i, s1 + i, s2 + i);
        });
    each(
        stream, b * features, AGF_LAMBDA(std::size_t i) {
          const std::size_t sample = i / features, j = i % features / e, l = i % e, of = sample * count + j;
          phi[i] = l < d ? s1[of] * x[sample * d + l] : z[of];
        });
    product<T>(stream, Op::transpose, Op::none, features, features, b, 1 / static_cast<double>(n_), {phi, features},
               {phi, features}, first ? 1 : 0, {products, features});
  }
  const T* const theta = at.theta;
  each(
      stream, size * size, AGF_LAMBDA(std::size_t i) {
        // The lower triangle, mirrored: symmetric to the last bit.
        std::size_t row = i / size, column = i % size;
        if (row < column) {
          const std::size_t swapped = row;
          row = column;
          column = swapped;
        }
        const std::size_t j = row / m, u = row % m, k = column / m, v = column % m;
        const T* const block = products + j * e * features + k * e;
        T value = T(0);
        if (u < d && v < d) {
          value = outer[j * count + k] * block[u * features + v];
          if (j == k && ww) value -= ww[(j * d + u) * d + v];
        } else if (u < d) {
          value = theta[j * m + v] * block[u * features + d];
          if (j == k) value -= wa[(j * d + u) * c + v - d];
        } else if (v < d) {
          value = theta[k * m + u] * block[d * features + v];
          if (j == k) value -= wa[(j * d + v) * c + u - d];
        } else if (u == v) {
          value = block[d * features + d];
        }
        out[i] = value;
      });
}

// |a| sqrt E sigma(z)^2
template <typename T>
void DenseCuda<T>::contributions(Stream stream, Neurons at, T* out) const {
  const Nonlinearity sigma = nonlinearity_of(at);
  const std::size_t most = chunk(n_, at.count), count = at.count, d = d_, c = c_, m = m_;
  Room room(stream);
  T* const z = room.take<T>(most * count);
  double* const squares = room.take<double>(count);
  double* const part = room.take<double>(count);
  clear(squares, count * sizeof(double), stream);
  for (std::size_t first = 0; first < n_; first += most) {
    const std::size_t b = std::min(most, n_ - first);
    analyse(stream, x_.data() + first * d_, b, at.theta, count, z);
    each(
        stream, b * count, AGF_LAMBDA(std::size_t e) {
          leaf::pointwise(sigma, static_cast<const T*>(nullptr), 1, 1, leaf::Value{}, z + e);
        });
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
std::unique_ptr<Signal> DenseCuda<T>::make_signal() const {
  const OnDevice on(device_);
  return std::make_unique<DenseSignal<T>>(n_ * c_, Stream{});
}

template <typename T>
double DenseCuda<T>::residual(const double* theta, std::size_t count, Signal& r, Shape shape) const {
  Call call(*this);
  copy(values<T>(r), y_.data(), n_ * c_ * sizeof(T), call.stream());
  if (count) forward(call.stream(), call.neurons(theta, count, shape), x_.data(), n_, T(-1), values<T>(r));
  return half_mean_square(call.stream(), values<T>(r), n_);
}

template <typename T>
void DenseCuda<T>::residual_derivative(const double* theta, const double* v, std::size_t count, Signal& dr,
                                       Shape shape) const {
  Call call(*this);
  const Neurons at = call.neurons(theta, count, shape);
  derivative(call.stream(), at, call.bring(v, count * m_), values<T>(dr));
  wait(call.stream());
}

template <typename T>
void DenseCuda<T>::utility(const double* theta, std::size_t count, const Signal& r, double* value, double* gradient,
                           Shape shape) const {
  if (count == 0) return;
  Call call(*this);
  const Neurons at = call.neurons(theta, count, shape);
  T* const values_out = value ? call.take(count) : nullptr;
  T* const gradient_out = gradient ? call.take(count * m_) : nullptr;
  slopes(call.stream(), at, values<T>(r), values_out, gradient_out);
  if (value) call.give(values_out, count, value);
  if (gradient) call.give(gradient_out, count * m_, gradient);
}

template <typename T>
void DenseCuda<T>::curvature_vector(const double* theta, const double* v, std::size_t count, const Signal& r,
                                    const Signal* dr, double* out, Shape shape) const {
  if (count == 0) return;
  Call call(*this);
  const Neurons at = call.neurons(theta, count, shape);
  T* const to = call.take(count * m_);
  curvature(call.stream(), at, call.bring(v, count * m_), values<T>(r), dr ? values<T>(*dr) : nullptr, 1, to);
  call.give(to, count * m_, out);
}

template <typename T>
void DenseCuda<T>::utility_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                                   Shape shape) const {
  if (count == 0) return;
  Call call(*this);
  const Neurons at = call.neurons(theta, count, shape);
  T* const to = call.take(count * m_ * m_);
  own_hessians(call.stream(), at, values<T>(r), curved(shape), to);
  call.give(to, count * m_ * m_, out);
}

template <typename T>
void DenseCuda<T>::loss_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                                Shape shape) const {
  if (count == 0) return;
  Call call(*this);
  const Neurons at = call.neurons(theta, count, shape);
  const std::size_t size = count * m_;
  T* const to = call.take(size * size);
  whole_hessian(call.stream(), at, values<T>(r), curved(shape), to);
  call.give(to, size * size, out);
}

template <typename T>
void DenseCuda<T>::contribution(const double* theta, std::size_t count, double* out) const {
  if (count == 0) return;
  Call call(*this);
  const Neurons at = call.neurons(theta, count, {});
  T* const to = call.take(count);
  contributions(call.stream(), at, to);
  call.give(to, count, out);
}

template <typename T>
std::unique_ptr<Problem> DenseCuda<T>::reduced(std::vector<double>& basis) const {
  if (d_ < 2 || d_ > most_reducible || !host().row_space) return nullptr;
  const OnDevice on(device_);
  const Stream stream;
  std::vector<T> x(n_ * d_);
  download(x.data(), x_.data(), x.size() * sizeof(T), stream);
  std::vector<double> wide(x.begin(), x.end());
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
  return std::make_unique<DenseCuda<T>>(device_, stream, to, n_, inputs, y_.data(), c_, false, sigma_, parameter_);
}

template <typename T>
std::unique_ptr<Problem> DenseCuda<T>::in_double() const {
  if constexpr (std::is_same_v<T, double>) {
    return nullptr;
  } else {
    const OnDevice on(device_);
    const Stream stream;
    Room room(stream);
    double* const x = room.take<double>(n_ * d_);
    double* const y = room.take<double>(n_ * c_);
    const T *const x_from = x_.data(), *const y_from = y_.data();
    each(stream, n_ * d_, AGF_LAMBDA(std::size_t i) { x[i] = static_cast<double>(x_from[i]); });
    each(stream, n_ * c_, AGF_LAMBDA(std::size_t i) { y[i] = static_cast<double>(y_from[i]); });
    auto twin = std::make_unique<DenseCuda<double>>(device_, stream, x, n_, d_, y, c_, false, sigma_, parameter_);
    twin->data_epsilon_ = data_epsilon_;
    return twin;
  }
}

// ----------------------------------------------------------------------------------------- arrays of the device

template <typename T>
double DenseCuda<T>::residual(Stream stream, const T* theta, std::size_t count, T* r) const {
  const OnDevice on(device_);
  copy(r, y_.data(), n_ * c_ * sizeof(T), stream);
  forward(stream, {theta, count, nullptr, false}, x_.data(), n_, T(-1), r);
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
  copy(own, y_.data(), n_ * c_ * sizeof(T), stream);
  forward(stream, at, x_.data(), n_, T(-1), own);
  slopes(stream, at, own, value, gradient);
}

template <typename T>
void DenseCuda<T>::hessian_vector(Stream stream, const T* theta, const T* v, std::size_t count, T* out) const {
  const OnDevice on(device_);
  const Neurons at{theta, count, nullptr, false};
  Room room(stream);
  T* const r = room.take<T>(n_ * c_);
  T* const dr = room.take<T>(n_ * c_);
  copy(r, y_.data(), n_ * c_ * sizeof(T), stream);
  forward(stream, at, x_.data(), n_, T(-1), r);
  derivative(stream, at, v, dr);
  curvature(stream, at, v, r, dr, -1, out);
}

template <typename T>
void DenseCuda<T>::hessian(Stream stream, const T* theta, std::size_t count, T* out) const {
  const OnDevice on(device_);
  const Neurons at{theta, count, nullptr, false};
  Room room(stream);
  T* const r = room.take<T>(n_ * c_);
  copy(r, y_.data(), n_ * c_ * sizeof(T), stream);
  forward(stream, at, x_.data(), n_, T(-1), r);
  whole_hessian(stream, at, r, curved({}), out);
}

template <typename T>
void DenseCuda<T>::predict(Stream stream, const T* theta, std::size_t count, const T* x, std::size_t rows, T* f) const {
  const OnDevice on(device_);
  clear(f, rows * c_ * sizeof(T), stream);
  forward(stream, {theta, count, nullptr, false}, x, rows, T(1), f);
}

template class DenseCuda<float>;
template class DenseCuda<double>;

}  // namespace agf::cuda
