// The leaves of models by moments on arrays of the device.
#include "moments.hpp"
#include "widen.cuh"

namespace AGF_SPACE::cuda {

template <typename T>
double MomentsCuda::residual(Stream stream, const T* theta, std::size_t count, T* r) const {
  const OnDevice on(device_);
  Room room(stream);
  double* const signal = wide_room(room, r, product_.size());
  double loss = 0;
  signal_of(stream, widened(room, theta, count * product_.params), count, signal, &loss);
  narrow(stream, signal, product_.size(), r);
  return loss;
}

template <typename T>
double MomentsCuda::loss(Stream stream, const T* theta, std::size_t count) const {
  const OnDevice on(device_);
  Room room(stream);
  double value = 0;
  signal_of(stream, widened(room, theta, count * product_.params), count, nullptr, &value);
  return value;
}

template <typename T>
void MomentsCuda::utility(Stream stream, const T* theta, std::size_t count, const T* r, T* value, T* gradient) const {
  const OnDevice on(device_);
  Room room(stream);
  const std::size_t size = count * product_.params;
  const double* const at = widened(room, theta, size);
  const double* signal = nullptr;
  if (r) {
    signal = widened(room, r, product_.size());
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
  const double* const at = widened(room, theta, size);
  const double* const along = widened(room, v, size);
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
  const double* const at = widened(room, theta, size);
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

}  // namespace AGF_SPACE::cuda
