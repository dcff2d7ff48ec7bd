#include "diagonal.hpp"

#include "agf/diagonal_leaf.hpp"
#include "each.cuh"

namespace agf::cuda {

template <typename T>
DiagonalCuda<T>::DiagonalCuda(int device, Stream stream, const T* columns, const T* y, std::size_t n, std::size_t d,
                              std::size_t depth, bool columns_on_host)
    : design_(device, stream, columns, n, d, columns_on_host), depth_(depth) {
  const OnDevice on(device);
  std::vector<T> values(n);
  // Waits for what was queued before, such as the caller's work on the columns: runs have streams of their own.
  download(values.data(), y, n * sizeof(T), stream);
  target_.assign(values.begin(), values.end());
  // Given back on a stream that is there as long as the thread is, which the caller's may not be.
  y_ = Held<double>(target_.data(), n, Stream{});
}

// r = y - X beta
template <typename T>
void DiagonalCuda<T>::residual_of(Stream stream, const T* theta, double* r) const {
  const std::size_t depth = depth_;
  Room room(stream);
  double* const negative = room.take<double>(inputs());
  each(stream, inputs(), AGF_LAMBDA(std::size_t i) { negative[i] = -leaf::coefficient(theta + i * depth, depth); });
  copy(r, y_.data(), samples() * sizeof(double), stream);
  design_.combine(stream, {nullptr, inputs()}, negative, r);
}

// g_i = E[x_i r]
template <typename T>
void DiagonalCuda<T>::correlation(Stream stream, const double* r, double* g) const {
  const double n = static_cast<double>(samples());
  design_.correlate(stream, {nullptr, inputs()}, r, g);
  each(stream, inputs(), AGF_LAMBDA(std::size_t i) { g[i] /= n; });
}

template <typename T>
double DiagonalCuda<T>::half_mean_square(Stream stream, const double* r) const {
  const double sum = total(stream, samples(), AGF_LAMBDA(std::size_t i) { return r[i] * r[i]; });
  return 0.5 * sum / static_cast<double>(samples());
}

template <typename T>
double DiagonalCuda<T>::residual(Stream stream, const T* theta, T* r) const {
  const OnDevice on(device());
  Room room(stream);
  double* const full = room.take<double>(samples());
  residual_of(stream, theta, full);
  each(stream, samples(), AGF_LAMBDA(std::size_t i) { r[i] = static_cast<T>(full[i]); });
  return half_mean_square(stream, full);
}

template <typename T>
double DiagonalCuda<T>::loss(Stream stream, const T* theta) const {
  const OnDevice on(device());
  Room room(stream);
  double* const r = room.take<double>(samples());
  residual_of(stream, theta, r);
  return half_mean_square(stream, r);
}

template <typename T>
void DiagonalCuda<T>::utility(Stream stream, const T* theta, const T* r, T* value, T* gradient) const {
  const OnDevice on(device());
  const std::size_t depth = depth_;
  Room room(stream);
  double* const full = room.take<double>(samples());
  double* const g = room.take<double>(inputs());
  if (r) {
    each(stream, samples(), AGF_LAMBDA(std::size_t i) { full[i] = static_cast<double>(r[i]); });
  } else {
    residual_of(stream, theta, full);
  }
  correlation(stream, full, g);
  if (value) {
    each(
        stream, inputs(),
        AGF_LAMBDA(std::size_t i) { value[i] = static_cast<T>(g[i] * leaf::coefficient(theta + i * depth, depth)); });
  }
  if (gradient) {
    each(
        stream, inputs(), AGF_LAMBDA(std::size_t i) {
          const T* const u = theta + i * depth;
          for (std::size_t l = 0; l < depth; ++l)
            gradient[i * depth + l] = static_cast<T>(g[i] * leaf::coefficient_slope(u, depth, l));
        });
  }
}

template <typename T>
void DiagonalCuda<T>::hessian_vector(Stream stream, const T* theta, const T* v, T* out) const {
  const OnDevice on(device());
  const std::size_t depth = depth_;
  Room room(stream);
  double* const r = room.take<double>(samples());
  double* const g = room.take<double>(inputs());
  double* const change = room.take<double>(inputs());
  double* const image = room.take<double>(samples());
  double* const pulled = room.take<double>(inputs());
  residual_of(stream, theta, r);
  correlation(stream, r, g);
  each(
      stream, inputs(),
      AGF_LAMBDA(std::size_t i) { change[i] = leaf::coefficient_change(theta + i * depth, v + i * depth, depth); });
  clear(image, samples() * sizeof(double), stream);
  design_.combine(stream, {nullptr, inputs()}, change, image);
  correlation(stream, image, pulled);
  each(
      stream, inputs(), AGF_LAMBDA(std::size_t i) {
        const T *const u = theta + i * depth, *const along = v + i * depth;
        for (std::size_t l = 0; l < depth; ++l)
          out[i * depth + l] = static_cast<T>(leaf::hessian_vector_entry(u, along, depth, l, g[i], pulled[i]));
      });
}

template <typename T>
void DiagonalCuda<T>::predict(Stream stream, const T* theta, const T* x, std::size_t rows, T* f) const {
  const OnDevice on(device());
  const std::size_t depth = depth_, d = inputs();
  Room room(stream);
  double* const beta = room.take<double>(d);
  double* const sum = room.take<double>(rows);
  each(stream, d, AGF_LAMBDA(std::size_t i) { beta[i] = leaf::coefficient(theta + i * depth, depth); });
  sums(
      stream, rows, d, AGF_LAMBDA(std::size_t i, std::size_t j) { return static_cast<double>(x[i * d + j]) * beta[j]; },
      sum);
  each(stream, rows, AGF_LAMBDA(std::size_t i) { f[i] = static_cast<T>(sum[i]); });
}

template class DiagonalCuda<float>;
template class DiagonalCuda<double>;

}  // namespace agf::cuda
