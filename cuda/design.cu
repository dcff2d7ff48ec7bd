#include "design.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "call.hpp"
#include "each.cuh"
#include "product.hpp"

#if defined(AGF_BLOCK)
#include "block/columns.cuh"
#include "block/few.cuh"
#else
#include "host.hpp"
#include "widen.cuh"
#endif

namespace AGF_SPACE::cuda {
namespace {

// Threads that share a column, one after the other along it; columns of a block at a time, and how many times before
// their sums are added up; and samples of one piece of a column, so that a few long columns keep a device busy too.
#if defined(AGF_BLOCK)
AGF_TABLE unsigned lanes = crew_width < 8 ? 2 : 8, together = crew_width / lanes, rounds = 32;
#elif defined(AGF_NARROW)
constexpr unsigned lanes = 4, together = 2, rounds = 1;
#else
constexpr unsigned lanes = 32, together = 8, rounds = 1;
#endif
AGF_TABLE std::size_t piece = 4096;
// Threads that fill a device, or a block, among which the columns of a sum are shared where samples are fewer; the
// columns that are worth a thread; and room of copies of columns for a product of matrices.
#if defined(AGF_BLOCK)
AGF_TABLE std::size_t enough_threads = crew_width, least_columns = 8;
AGF_TABLE std::size_t wide_bytes = std::size_t{1} << 18;
#else
constexpr std::size_t enough_threads = std::size_t{1} << 18, least_columns = 32;
constexpr std::size_t wide_bytes = std::size_t{1} << 26;
#endif

// out[p, k] = x_k . r over piece p.
template <typename T>
struct Dots {
  static constexpr int width = lanes * together;
  static constexpr unsigned columns = rounds * together;
  // Columns of a block lie one further apart than their lanes: those who add them up do not meet in a bank.
  static constexpr unsigned apart_by = lanes + 1;
  static constexpr std::size_t shared_bytes = columns * apart_by * sizeof(double);

  const T* x;
  std::size_t n, pieces;
  const std::size_t* which;
  std::size_t count;
  const double* r;
  double* out;

  AGF_DEVICE void operator()(const Team& team) const {
    double* const sum = team.shared<double>();
    const unsigned lane = team.thread() % lanes, place = team.thread() / lanes;
    const std::size_t p = team.block() % pieces, first = team.block() / pieces * columns;
    const std::size_t last = (p + 1) * piece < n ? (p + 1) * piece : n;
    for (unsigned c = place; c < columns && first + c < count; c += together) {
      const T* const column = x + (which ? which[first + c] : first + c) * n;
      double mine = 0;
#pragma unroll 4
      for (std::size_t i = p * piece + lane; i < last; i += lanes) {
        const double value = static_cast<double>(column[i]);
        mine += value * (r ? r[i] : value);
      }
      sum[c * apart_by + lane] = mine;
    }
    team.barrier();
    for (unsigned c = team.thread(); c < columns && first + c < count; c += width) {
      double whole = 0;
      for (unsigned l = 0; l < lanes; ++l) whole += sum[c * apart_by + l];
      out[p * count + first + c] = whole;
    }
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
AGF_CORE inline std::size_t columns_of_one(std::size_t count, std::size_t n) {
  const std::size_t parts = std::min(count / least_columns, enough_threads / n);
  return parts < 2 ? count : (count + parts - 1) / parts;
}

}  // namespace

#if !defined(AGF_BLOCK)
template <typename T>
DesignCuda<T>::DesignCuda(int device, Stream stream, const T* columns, std::size_t n, std::size_t d, bool on_host)
    : device_(device), x_(columns), n_(n), d_(d) {
  if (!on_host) return;
  const OnDevice on(device);
  held_ = Held<T>(columns, n * d, stream);
  x_ = held_.data();
}

template <typename T>
const double* DesignCuda<T>::in_double(Room& room) const {
  return widened(room, x_, n_ * d_);
}
#endif

template <typename T>
AGF_CORE DesignCuda<T>::DesignCuda(int device, Held<T>&& columns, std::size_t n, std::size_t d)
    : held_(std::move(columns)), device_(device), x_(held_.data()), n_(n), d_(d) {}

// ----------------------------------------------------------------------------------------- arrays of the device

template <typename T>
AGF_CORE AGF_APART void DesignCuda<T>::correlate(Stream stream, Columns at, const double* r, double* out) const {
  const OnDevice on(device_);
  const std::size_t pieces = std::max<std::size_t>(1, (n_ + piece - 1) / piece), count = at.count;
  Room room(stream);
  double* const part = pieces > 1 ? room.template take<double>(pieces * count) : out;
  const Dots<T> dots{x_, n_, pieces, at.which, count, r, part};
  const std::size_t blocks = (count + Dots<T>::columns - 1) / Dots<T>::columns * pieces;
#if defined(AGF_BLOCK)
  static_assert(Dots<T>::width == crew_width && Dots<T>::shared_bytes <= most_shared);
  share(blocks, dots);
#else
  launch(stream, blocks, Dots<T>::width, Dots<T>::shared_bytes, dots);
#endif
  if (pieces == 1) return;
  each(
      stream, count, AGF_LAMBDA(std::size_t k) {
        double sum = 0;
        for (std::size_t p = 0; p < pieces; ++p) sum += part[p * count + k];
        out[k] = sum;
      });
}

template <typename T>
AGF_CORE AGF_APART void DesignCuda<T>::combine(Stream stream, Columns at, const double* b, double* out) const {
  if (at.count == 0) return;
  const OnDevice on(device_);
  const std::size_t n = n_;
  const T* const x = x_;
#if defined(AGF_BLOCK)
  (void)stream;
  long_sums(
      n, at.count,
      [=](std::size_t i, std::size_t k) { return b[k] * static_cast<double>(x[(at.which ? at.which[k] : k) * n + i]); },
      [=](std::size_t i, double sum) { out[i] += sum; });
#else
  const std::size_t most = columns_of_one(at.count, n), parts = (at.count + most - 1) / most;
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
#endif
}

template <typename T>
AGF_CORE AGF_APART void DesignCuda<T>::combine(Stream stream, Columns at, const double* b, double* high,
                                               double* low) const {
  if (at.count == 0) return;
  const OnDevice on(device_);
  const std::size_t n = n_, most = columns_of_one(at.count, n), parts = (at.count + most - 1) / most;
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
AGF_CORE void DesignCuda<T>::column(std::size_t j, double* out) const {
#if defined(AGF_BLOCK)
  copy(out, x_ + j * n_, n_ * sizeof(T), Stream{});
#else
  const OnDevice on(device_);
  const Stream stream;
  std::vector<T> x(n_);
  download(x.data(), x_ + j * n_, n_ * sizeof(T), stream);
  std::copy(x.begin(), x.end(), out);
#endif
}

template <typename T>
AGF_CORE void DesignCuda<T>::correlate(const double* r, double* out) const {
  Call<double> call(device_);
  const double* const with = call.bring(r, n_);
  correlate(call.stream(), Columns{nullptr, d_}, with, call.place(out, d_));
  call.give();
}

template <typename T>
AGF_CORE void DesignCuda<T>::correlate(const Array<std::size_t>& which, const double* r, double* out) const {
  if (which.empty()) return;
  Call<double> call(device_);
  const Columns at{call.bring(which.data(), which.size()), which.size()};
  const double* const with = call.bring(r, n_);
  correlate(call.stream(), at, with, call.place(out, which.size()));
  call.give();
}

template <typename T>
AGF_CORE void DesignCuda<T>::combine(const Array<std::size_t>& which, const double* b, double* out) const {
  if (which.empty()) return;
  Call<double> call(device_);
  const Columns at{call.bring(which.data(), which.size()), which.size()};
  const double* const by = call.bring(b, which.size());
  combine(call.stream(), at, by, call.change(out, n_));
  call.give();
}

template <typename T>
AGF_CORE void DesignCuda<T>::combine(const Array<std::size_t>& which, const double* b, double* high,
                                     double* low) const {
  if (which.empty()) return;
  Call<double> call(device_);
  const Columns at{call.bring(which.data(), which.size()), which.size()};
  const double* const by = call.bring(b, which.size());
  double* const upper = call.change(high, n_);
  combine(call.stream(), at, by, upper, call.change(low, n_));
  call.give();
}

template <typename T>
AGF_CORE AGF_APART void DesignCuda<T>::outer(const Array<std::size_t>& which, const double* b, double* out) const {
  if (which.empty()) return;
  Call<double> call(device_);
  const Stream stream = call.stream();
  const std::size_t n = n_, most = std::min(which.size(), std::max<std::size_t>(8, wide_bytes / (n * sizeof(double))));
  const T* const x = x_;
  const std::size_t* const chosen = call.bring(which.data(), which.size());
  const double* const factors = call.bring(b, which.size());
  double* const plain = call.take(most * n);
  double* const scaled = call.take(most * n);
  double* const sum = call.change(out, n * n);
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
  call.give();
}

template <typename T>
AGF_CORE AGF_APART void DesignCuda<T>::lengths(double* out) const {
  Call<double> call(device_);
  double* const length = call.place(out, d_);
  correlate(call.stream(), Columns{nullptr, d_}, nullptr, length);
  each(call.stream(), d_, AGF_LAMBDA(std::size_t j) { length[j] = ::sqrt(length[j]); });
  call.give();
}

// Every entry is one sum over samples in the same order, of products that do not know their factors' order.
template <typename T>
AGF_CORE AGF_APART Owned<Design> DesignCuda<T>::gram() const {
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
  return make_owned<DesignCuda<double>>(device_, std::move(g), rows, d);
}

template <typename T>
AGF_CORE const ColumnLoops& DesignCuda<T>::loops() const {
#if defined(AGF_BLOCK)
  return loops_;
#else
  return *host().columns;
#endif
}

#if !defined(AGF_BLOCK)
template class DesignCuda<float>;
template class DesignCuda<double>;
#endif

}  // namespace AGF_SPACE::cuda
