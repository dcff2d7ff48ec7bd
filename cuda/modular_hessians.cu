// Hessians of modular addition: of each utility, and of the loss.
#include "each.cuh"
#include "modular_form.cuh"
#include "product.hpp"

namespace AGF_SPACE::cuda {
namespace {

// The pair (row, column), row >= column, with this number in the order (0, 0), (1, 0), (1, 1), (2, 0), ...
struct Pair {
  std::size_t row, column;
};
AGF_DEVICE Pair pair_of(std::size_t number) {
  std::size_t row = static_cast<std::size_t>((::sqrt(8.0 * static_cast<double>(number) + 1.0) - 1.0) / 2.0);
  while (row * (row + 1) / 2 > number) --row;
  while ((row + 1) * (row + 2) / 2 <= number) ++row;
  return {row, number - row * (row + 1) / 2};
}

}  // namespace

// hess U of each neuron by [A_s | B_s | w], weight = r w: by A_s A_t (2 / sqrt p) sum_a e_s e_t weight(a), by A_s B_t
// 2 weight_st, by A_s w (2 / sqrt p) sum_a e_s A r(a) + 2 sum_t B_t r_st, by w w nothing.
AGF_CORE void ModularCuda::own_curvatures(Stream stream, const double* theta, std::size_t count, const double* r,
                                          double* out) const {
  const std::size_t n = compact(), k = modes_, p = p_, all = rows();
  Room room(stream);
  const Analysis at = analyse(room, theta, count);
  double* const weight = room.take<double>(count * all);
  project(stream, theta + d_, count, r, 0, weight);
  double* const weighed = room.take<double>(count * p * k);
  double* const scaled = room.take<double>(count * p * k);
  const double* const waves = view_.waves;
  const double* const product_part = r + 2 * p * p;
  const double scale = 2 * root_;
  for (std::size_t side = 0; side < 2; ++side) {
    each(
        stream, count * p * k, AGF_LAMBDA(std::size_t e) {
          const std::size_t wave = e % (p * k), a = wave / k, i = e / (p * k);
          weighed[e] = scale * weight[i * all + side * p + a] * waves[wave];
          scaled[e] = scale * at.values[(side * count + i) * p + a] * waves[wave];
        });
    double* const own = out + side * k * n + side * k;
    product<double>(stream, Op::transpose, Op::none, k, k, p, 1, {waves, k, 0}, {weighed, k, p * k}, 0, {own, n, n * n},
                    count);
    double* const mixed = out + side * k * n + 2 * k;
    product<double>(stream, Op::transpose, Op::none, k, p, p, 1, {scaled, k, p * k}, {r + side * p * p, p, 0}, 0,
                    {mixed, n, n * n}, count);
    // For every s of its own, neurons by neurons' other modes.
    const Matrix<const double> components =
        side ? Matrix<const double>{product_part, k * p, p} : Matrix<const double>{product_part, p, k * p};
    product<double>(stream, Op::none, Op::none, count, p, k, 2, {at.modes + (1 - side) * count * k, k, 0}, components,
                    1, {mixed, n * n, n}, k);
  }
  each(
      stream, count * n * n, AGF_LAMBDA(std::size_t e) {
        const std::size_t i = e / (n * n), u = e / n % n, v = e % n;
        const std::size_t low = u < v ? u : v, high = u < v ? v : u;
        if (low >= 2 * k) {
          out[e] = 0;
        } else if (low < k && high >= k && high < 2 * k) {
          out[e] = 2 * weight[i * all + 2 * p + low * k + high - k];
        } else if (u > v) {
          out[e] = out[(i * n + low) * n + high];
        }
      });
}

// out = the same matrices by u, v and w.
AGF_CORE void ModularCuda::outward_blocks(Stream stream, const double* hessians, std::size_t number,
                                          double* out) const {
  const std::size_t n = compact(), k = modes_, p = p_, m = m_, d = d_;
  if (reduced_) {
    // One empty input between the modes and w.
    const double* const gain = view_.gain;
    each(
        stream, number * m * m, AGF_LAMBDA(std::size_t e) {
          const std::size_t q = e / (m * m), u = e / m % m, v = e % m;
          if (u == 2 * k || v == 2 * k) {
            out[e] = 0;
            return;
          }
          const double left = u < d ? gain[u % k] : 1.0, right = v < d ? gain[v % k] : 1.0;
          out[e] = left * right * hessians[(q * n + (u < d ? u : u - 1)) * n + (v < d ? v : v - 1)];
        });
    return;
  }
  const double* const map = view_.map;
  Room room(stream);
  // Rows of the compact form, columns of the other.
  double* const half = room.take<double>(number * n * m);
  for (std::size_t side = 0; side < 2; ++side)
    product<double>(stream, Op::none, Op::transpose, n, p, k, 1, {hessians + side * k, n, n * n}, {map, k, 0}, 0,
                    {half + side * p, m, n * m}, number);
  each(
      stream, number * n * p,
      AGF_LAMBDA(std::size_t e) { half[e / p * m + d + e % p] = hessians[e / p * n + 2 * k + e % p]; });
  for (std::size_t side = 0; side < 2; ++side)
    product<double>(stream, Op::none, Op::none, p, m, k, 1, {map, k, 0}, {half + side * k * m, m, n * m}, 0,
                    {out + side * p * m, m, m * m}, number);
  each(
      stream, number * p * m, AGF_LAMBDA(std::size_t e) {
        const std::size_t q = e / (p * m), at = e % (p * m);
        out[q * m * m + d * m + at] = half[(q * n + 2 * k) * m + at];
      });
}

AGF_CORE void ModularCuda::own_hessians(Stream stream, const double* theta, std::size_t count, const double* r,
                                        double* out) const {
  const std::size_t n = compact(), m = m_;
  const std::size_t most = items_at_once(count, n * (n + m) + rows() + 2 * p_ * modes_);
  for (std::size_t first = 0; first < count; first += most) {
    const std::size_t h = std::min(most, count - first);
    Room room(stream);
    double* const hessians = room.take<double>(h * n * n);
    own_curvatures(stream, theta + first * m, h, r, hessians);
    double* const to = out + first * m * m;
    outward_blocks(stream, hessians, h, to);
    // Symmetric to the last bit, whatever the order of sums in a tile.
    each(
        stream, h * m * m, AGF_LAMBDA(std::size_t e) {
          const std::size_t i = e / (m * m), u = e / m % m, v = e % m;
          if (u < v) to[e] = to[(i * m + v) * m + u];
        });
  }
}

// hess L = E[(df/dtheta)^T df/dtheta] - hess U of each neuron by itself. With primes for the right one of a pair, by
// [A_s | B_s | w] of each and by the moments of products of modes without mean:
//   by A_s A'_t  4 w.w' (E[e_s e_t A A'] + [s = t] E[B B']),   by A_s B'_t  4 w.w' (A_s B'_t + A'_s B_t),
//   by w A'_s    2 w' (E[A^2 A' e_s] + E[B^2] A'_s + 2 E[B B'] A_s),
//   by w w'      (E[A^2 A'^2] + E[B^2 B'^2] + E[A^2] E[B'^2] + E[B^2] E[A'^2] + 4 E[A A'] E[B B']) 1.
AGF_CORE void ModularCuda::whole_hessian(Stream stream, const double* theta, std::size_t count, const double* r,
                                         double* out) const {
  const std::size_t n = compact(), k = modes_, p = p_, m = m_, d = d_, pairs = count * (count + 1) / 2;
  const double period = static_cast<double>(p);
  const double* const waves = view_.waves;
  Room outer(stream);
  const Analysis at = analyse(outer, theta, count);
  double* const own = outer.take<double>(count * n * n);
  const std::size_t some = items_at_once(count, rows() + 2 * p * k);
  for (std::size_t first = 0; first < count; first += some)
    own_curvatures(stream, theta + first * m, std::min(some, count - first), r, own + first * n * n);
  // Of neurons with neurons: w.w', E[A A'] and E[B B'], E[A^2 A'^2] and E[B^2 B'^2].
  double* const outputs = outer.take<double>(count * count);
  double* const seconds = outer.take<double>(2 * count * count);
  double* const fourths = outer.take<double>(2 * count * count);
  double* const squares = outer.take<double>(2 * count * p);
  each(stream, 2 * count * p, AGF_LAMBDA(std::size_t e) { squares[e] = at.values[e] * at.values[e]; });
  product<double>(stream, Op::none, Op::transpose, count, count, p, 1, {theta + d, m}, {theta + d, m}, 0,
                  {outputs, count});
  product<double>(stream, Op::none, Op::transpose, count, count, k, 1, {at.modes, k, count * k},
                  {at.modes, k, count * k}, 0, {seconds, count, count * count}, 2);
  product<double>(stream, Op::none, Op::transpose, count, count, p, 1 / period, {squares, p, count * p},
                  {squares, p, count * p}, 0, {fourths, count, count * count}, 2);

  const std::size_t most = items_at_once(pairs, n * (n + m) + m * m + p * k + 4 * (p + k));
  Room room(stream);
  double* const hessians = room.take<double>(most * n * n);
  double* const blocks = room.take<double>(most * m * m);
  double* const weighed = room.take<double>(most * p * k);
  // E[A^2 A' e_s] and its mirror E[A'^2 A e_s], and so for b: (pairs, side, mirrored, K).
  double* const cubes = room.take<double>(most * 4 * p);
  double* const thirds = room.take<double>(most * 4 * k);
  for (std::size_t first = 0; first < pairs; first += most) {
    const std::size_t number = std::min(most, pairs - first);
    each(
        stream, number * 4 * p, AGF_LAMBDA(std::size_t e) {
          const Pair pair = pair_of(first + e / (4 * p));
          const std::size_t a = e % p, mirrored = e / p % 2, side = e / (2 * p) % 2;
          const double x = at.values[(side * count + pair.row) * p + a];
          const double y = at.values[(side * count + pair.column) * p + a];
          cubes[e] = x * y * (mirrored ? y : x) / period;
        });
    product<double>(stream, Op::none, Op::none, number * 4, k, p, 1, {cubes, p}, {waves, k}, 0, {thirds, k});
    for (std::size_t side = 0; side < 2; ++side) {
      each(
          stream, number * p * k, AGF_LAMBDA(std::size_t e) {
            const Pair pair = pair_of(first + e / (p * k));
            const std::size_t wave = e % (p * k), a = wave / k;
            const double x = at.values[(side * count + pair.row) * p + a];
            const double y = at.values[(side * count + pair.column) * p + a];
            weighed[e] = 4 * outputs[pair.row * count + pair.column] * x * y / period * waves[wave];
          });
      product<double>(stream, Op::transpose, Op::none, k, k, p, 1, {waves, k, 0}, {weighed, k, p * k}, 0,
                      {hessians + side * k * n + side * k, n, n * n}, number);
    }
    each(
        stream, number * n * n, AGF_LAMBDA(std::size_t e) {
          const std::size_t q = e / (n * n), u = e / n % n, v = e % n;
          const Pair pair = pair_of(first + q);
          const std::size_t i = pair.row, j = pair.column, cross = i * count + j;
          const double dots = 4 * outputs[cross];
          double value = 0;
          if (u < 2 * k && v < 2 * k) {
            const std::size_t left = u < k ? 0 : 1, right = v < k ? 0 : 1, s = u % k, t = v % k;
            if (left == right) {
              value = hessians[e];
              if (s == t) value += dots * seconds[(1 - left) * count * count + cross];
            } else {
              const double* const mine = at.modes + left * count * k + s;
              const double* const other = at.modes + right * count * k + t;
              value = dots * (mine[i * k] * other[j * k] + mine[j * k] * other[i * k]);
            }
          } else if (u < 2 * k || v < 2 * k) {
            // By w of one neuron, `from`, and a mode of the other, `by`, whose w is the factor.
            const std::size_t mirrored = u < 2 * k ? 1 : 0, mode = mirrored ? u : v,
                              output = (mirrored ? v : u) - 2 * k;
            const std::size_t side = mode < k ? 0 : 1, s = mode % k;
            const std::size_t from = mirrored ? j : i, by = mirrored ? i : j;
            const double* const mine = at.modes + side * count * k + s;
            const double* const others = seconds + (1 - side) * count * count;
            const double slope = others[from * count + from] * mine[by * k] + 2 * others[cross] * mine[from * k] +
                                 thirds[(q * 4 + side * 2 + mirrored) * k + s];
            value = 2 * slope * theta[by * m + d + output];
          } else if (u == v) {
            const double *const a = seconds, *const b = seconds + count * count;
            value = fourths[cross] + fourths[count * count + cross] + a[i * count + i] * b[j * count + j] +
                    b[i * count + i] * a[j * count + j] + 4 * a[cross] * b[cross];
          }
          hessians[e] = i == j ? value - own[(i * n + u) * n + v] : value;
        });
    outward_blocks(stream, hessians, number, blocks);
    const std::size_t stride = count * m;
    each(
        stream, number * m * m, AGF_LAMBDA(std::size_t e) {
          const Pair pair = pair_of(first + e / (m * m));
          const std::size_t u = e / m % m, v = e % m;
          if (pair.row == pair.column && u < v) return;
          // The lower triangle, mirrored: symmetric to the last bit.
          const std::size_t row = pair.row * m + u, column = pair.column * m + v;
          out[row * stride + column] = blocks[e];
          out[column * stride + row] = blocks[e];
        });
  }
}

}  // namespace AGF_SPACE::cuda
