// The leaves of modular addition on arrays of the device, with residuals on all pairs (a, b).
#include <type_traits>

#include "each.cuh"
#include "modular_form.cuh"
#include "product.hpp"
#include "widen.cuh"

namespace AGF_SPACE::cuda {

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

}  // namespace AGF_SPACE::cuda
