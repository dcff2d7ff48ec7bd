#include "design.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "each.cuh"
#include "host.hpp"
#include "product.hpp"

namespace agf::cuda {
namespace {

// Threads that share a column, one after the other along it; columns of a block; and samples of one piece of a column,
// so that a few long columns keep a device busy too.
#if defined(AGF_NARROW)
constexpr unsigned lanes = 4, together = 2;
#else
constexpr unsigned lanes = 32, together = 8;
#endif
constexpr std::size_t piece = 4096;
// Threads that fill a device, among which the columns of a sum are shared where samples are fewer; and the columns that
// are worth a thread.
constexpr std::size_t enough_threads = std::size_t{1} << 18, least_columns = 32;
// Room of copies of columns for a product of matrices.
constexpr std::size_t wide_bytes = std::size_t{1} << 26;

// out[p, k] = x_k . r over piece p.
template <typename T>
struct Dots {
  static constexpr int width = lanes * together;
  // Columns of a block lie one further apart than their lanes: those who add them up do not meet in a bank.
  static constexpr unsigned apart_by = lanes + 1;
  static constexpr std::size_t shared_bytes = together * apart_by * sizeof(double);

  const T* x;
  std::size_t n, pieces;
  const std::size_t* which;
  std::size_t count;
  const double* r;
  double* out;

  AGF_DEVICE void operator()(const Team& team) const {
    double* const sum = team.shared<double>();
    const unsigned lane = team.thread() % lanes, place = team.thread() / lanes;
    const std::size_t p = team.block() % pieces, first = team.block() / pieces * together;
    double mine = 0;
    if (first + place < count) {
      const T* const column = x + (which ? which[first + place] : first + place) * n;
      const std::size_t last = (p + 1) * piece < n ? (p + 1) * piece : n;
#pragma unroll 4
      for (std::size_t i = p * piece + lane; i < last; i += lanes) {
        const double value = static_cast<double>(column[i]);
        mine += value * (r ? r[i] : value);
      }
    }
    sum[place * apart_by + lane] = mine;
    team.barrier();
    if (team.thread() >= together || first + team.thread() >= count) return;
    double whole = 0;
    for (unsigned l = 0; l < lanes; ++l) whole += sum[team.thread() * apart_by + l];
    out[p * count + first + team.thread()] = whole;
  }
};

// a b rounded, whatever is added to it: not the product of a fused addition.
#if defined(__CUDACC__)
AGF_DEVICE double rounded_product(double a, double b) { return __dmul_rn(a, b); }
#else
__attribute__((noinline)) double rounded_product(double a, double b) { return a * b; }
#endif

// high + low, as if in twice the precision (Dot2 of Ogita, Rump and Oishi, SIAM J. Sci. Comput. 26(6), 2005).
struct Extended {
  double high = 0, low = 0;

  AGF_DEVICE void add(double value, double rest) {
    const double sum = high + value;
    const double moved = sum - high;
    low += ((high - (sum - moved)) + (value - moved)) + rest;
    high = sum;
  }
  AGF_DEVICE void add_product(double a, double b) {
    const double product = rounded_product(a, b);
    add(product, ::fma(a, b, -product));
  }
};

// How many columns of a sum over `count` one thread takes.
std::size_t share(std::size_t count, std::size_t n) {
  const std::size_t parts = std::min(count / least_columns, enough_threads / n);
  return parts < 2 ? count : (count + parts - 1) / parts;
}

}  // namespace

template <typename T>
DesignCuda<T>::DesignCuda(int device, Stream stream, const T* columns, std::size_t n, std::size_t d, bool on_host)
    : device_(device), x_(columns), n_(n), d_(d) {
  if (!on_host) return;
  const OnDevice on(device);
  held_ = Held<T>(columns, n * d, stream);
  x_ = held_.data();
}

template <typename T>
DesignCuda<T>::DesignCuda(int device, Held<T>&& columns, std::size_t n, std::size_t d)
    : held_(std::move(columns)), device_(device), x_(held_.data()), n_(n), d_(d) {}

// ----------------------------------------------------------------------------------------- arrays of the device

template <typename T>
void DesignCuda<T>::correlate(Stream stream, Columns at, const double* r, double* out) const {
  const OnDevice on(device_);
  const std::size_t pieces = std::max<std::size_t>(1, (n_ + piece - 1) / piece), count = at.count;
  Room room(stream);
  double* const part = pieces > 1 ? room.take<double>(pieces * count) : out;
  launch(stream, (count + together - 1) / together * pieces, Dots<T>::width, Dots<T>::shared_bytes,
         Dots<T>{x_, n_, pieces, at.which, count, r, part});
  if (pieces == 1) return;
  each(
      stream, count, AGF_LAMBDA(std::size_t k) {
        double sum = 0;
        for (std::size_t p = 0; p < pieces; ++p) sum += part[p * count + k];
        out[k] = sum;
      });
}

template <typename T>
void DesignCuda<T>::combine(Stream stream, Columns at, const double* b, double* out) const {
  if (at.count == 0) return;
  const OnDevice on(device_);
  const std::size_t n = n_, most = share(at.count, n), parts = (at.count + most - 1) / most;
  const T* const x = x_;
  Room room(stream);
  double* const part = room.take<double>(parts * n);
  each(
      stream, parts * n, AGF_LAMBDA(std::size_t e) {
        const std::size_t i = e % n, first = e / n * most, last = first + most < at.count ? first + most : at.count;
        double sum = 0;
#pragma unroll 4
        for (std::size_t k = first; k < last; ++k)
          sum += b[k] * static_cast<double>(x[(at.which ? at.which[k] : k) * n + i]);
        part[e] = sum;
      });
  each(
      stream, n, AGF_LAMBDA(std::size_t i) {
        double sum = out[i];
        for (std::size_t p = 0; p < parts; ++p) sum += part[p * n + i];
        out[i] = sum;
      });
}

template <typename T>
void DesignCuda<T>::combine(Stream stream, Columns at, const double* b, double* high, double* low) const {
  if (at.count == 0) return;
  const OnDevice on(device_);
  const std::size_t n = n_, most = share(at.count, n), parts = (at.count + most - 1) / most;
  const T* const x = x_;
  Room room(stream);
  double* const upper = room.take<double>(parts * n);
  double* const lower = room.take<double>(parts * n);
  each(
      stream, parts * n, AGF_LAMBDA(std::size_t e) {
        const std::size_t i = e % n, first = e / n * most, last = first + most < at.count ? first + most : at.count;
        Extended sum;
#pragma unroll 4
        for (std::size_t k = first; k < last; ++k)
          sum.add_product(b[k], static_cast<double>(x[(at.which ? at.which[k] : k) * n + i]));
        upper[e] = sum.high;
        lower[e] = sum.low;
      });
  each(
      stream, n, AGF_LAMBDA(std::size_t i) {
        Extended sum{high[i], low[i]};
        for (std::size_t p = 0; p < parts; ++p) sum.add(upper[p * n + i], lower[p * n + i]);
        high[i] = sum.high;
        low[i] = sum.low;
      });
}

// ----------------------------------------------------------------------------------------------------------- Design

template <typename T>
void DesignCuda<T>::column(std::size_t j, double* out) const {
  const OnDevice on(device_);
  const Stream stream;
  std::vector<T> x(n_);
  download(x.data(), x_ + j * n_, n_ * sizeof(T), stream);
  std::copy(x.begin(), x.end(), out);
}

template <typename T>
void DesignCuda<T>::correlate(const double* r, double* out) const {
  const OnDevice on(device_);
  Room room{Stream{}};
  double* const products = room.take<double>(d_);
  correlate(room.stream(), {nullptr, d_}, room.take(r, n_), products);
  download(out, products, d_ * sizeof(double), room.stream());
}

template <typename T>
void DesignCuda<T>::correlate(const std::vector<std::size_t>& which, const double* r, double* out) const {
  if (which.empty()) return;
  const OnDevice on(device_);
  Room room{Stream{}};
  double* const products = room.take<double>(which.size());
  correlate(room.stream(), {room.take(which.data(), which.size()), which.size()}, room.take(r, n_), products);
  download(out, products, which.size() * sizeof(double), room.stream());
}

template <typename T>
void DesignCuda<T>::combine(const std::vector<std::size_t>& which, const double* b, double* out) const {
  if (which.empty()) return;
  const OnDevice on(device_);
  Room room{Stream{}};
  double* const sum = room.take(static_cast<const double*>(out), n_);
  combine(room.stream(), {room.take(which.data(), which.size()), which.size()}, room.take(b, which.size()), sum);
  download(out, sum, n_ * sizeof(double), room.stream());
}

template <typename T>
void DesignCuda<T>::combine(const std::vector<std::size_t>& which, const double* b, double* high, double* low) const {
  if (which.empty()) return;
  const OnDevice on(device_);
  Room room{Stream{}};
  double* const upper = room.take(static_cast<const double*>(high), n_);
  double* const lower = room.take(static_cast<const double*>(low), n_);
  combine(room.stream(), {room.take(which.data(), which.size()), which.size()}, room.take(b, which.size()), upper,
          lower);
  download(high, upper, n_ * sizeof(double), room.stream());
  download(low, lower, n_ * sizeof(double), room.stream());
}

template <typename T>
void DesignCuda<T>::outer(const std::vector<std::size_t>& which, const double* b, double* out) const {
  if (which.empty()) return;
  const OnDevice on(device_);
  Room room{Stream{}};
  const Stream stream = room.stream();
  const std::size_t n = n_, most = std::min(which.size(), std::max<std::size_t>(8, wide_bytes / (n * sizeof(double))));
  const T* const x = x_;
  const std::size_t* const chosen = room.take(which.data(), which.size());
  const double* const factors = room.take(b, which.size());
  double* const plain = room.take<double>(most * n);
  double* const scaled = room.take<double>(most * n);
  double* const sum = room.take(static_cast<const double*>(out), n * n);
  for (std::size_t first = 0; first < which.size(); first += most) {
    const std::size_t count = std::min(most, which.size() - first);
    each(
        stream, count * n, AGF_LAMBDA(std::size_t e) {
          const std::size_t k = first + e / n;
          plain[e] = static_cast<double>(x[chosen[k] * n + e % n]);
          scaled[e] = factors[k] * plain[e];
        });
    product<double>(stream, Op::transpose, Op::none, n, n, count, 1, {scaled, n}, {plain, n}, 1, {sum, n});
  }
  download(out, sum, n * n * sizeof(double), stream);
}

template <typename T>
void DesignCuda<T>::lengths(double* out) const {
  const OnDevice on(device_);
  Room room{Stream{}};
  double* const length = room.take<double>(d_);
  correlate(room.stream(), {nullptr, d_}, nullptr, length);
  each(room.stream(), d_, AGF_LAMBDA(std::size_t j) { length[j] = ::sqrt(length[j]); });
  download(out, length, d_ * sizeof(double), room.stream());
}

// Every entry is one sum over samples in the same order, of products that do not know their factors' order.
template <typename T>
std::unique_ptr<Design> DesignCuda<T>::gram() const {
  const OnDevice on(device_);
  const Stream stream;
  const std::size_t rows = (d_ + 7) / 8 * 8, n = n_, d = d_;
  Held<double> g(d * rows, stream);
  clear(g.data(), d * rows * sizeof(double), stream);
  if constexpr (sizeof(T) == sizeof(double)) {
    product<double>(stream, Op::none, Op::transpose, d, d, n, 1, {x_, n}, {x_, n}, 0, {g.data(), rows});
  } else {
    const std::size_t most = std::min(n, std::max<std::size_t>(64, wide_bytes / (d * sizeof(double))));
    const T* const x = x_;
    Room room(stream);
    double* const wide = room.take<double>(d * most);
    for (std::size_t first = 0; first < n; first += most) {
      const std::size_t count = std::min(most, n - first);
      each(
          stream, d * count,
          AGF_LAMBDA(std::size_t e) { wide[e] = static_cast<double>(x[e / count * n + first + e % count]); });
      product<double>(stream, Op::none, Op::transpose, d, d, count, 1, {wide, count}, {wide, count}, first ? 1 : 0,
                      {g.data(), rows});
    }
  }
  wait(stream);
  return std::make_unique<DesignCuda<double>>(device_, std::move(g), rows, d);
}

template <typename T>
const ColumnLoops& DesignCuda<T>::loops() const {
  return *host().columns;
}

template class DesignCuda<float>;
template class DesignCuda<double>;

}  // namespace agf::cuda
