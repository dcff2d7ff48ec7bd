#include "directions.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "crossing.hpp"
#include "entries.hpp"
#include "interrupt.hpp"
#include "linear.hpp"

namespace AGF_SPACE {

namespace {

AGF_TABLE double rounding = std::numeric_limits<double>::epsilon();
// A difference this much smaller than its terms is rounding that stands for zero.
AGF_TABLE double cancelled = 16 * rounding;
AGF_TABLE int most_sweeps = 60;
// Rows further than this from what the exact variables say (float32 directions are this rough) were changed.
AGF_TABLE double changed_row = 1e-5;

// a - b, zero where nothing but rounding is left.
AGF_CORE Wide difference(Wide a, Wide b) {
  const Wide out = a - b;
  const Wide larger = smaller(a, b) ? b : a;
  return smaller(out, Wide::of(cancelled) * larger) ? Wide{} : out;
}

// sum_i w_i a_i, zero where nothing but rounding is left.
AGF_CORE Wide combine(std::size_t n, const double* w, const Wide* a) {
  std::int64_t top = std::numeric_limits<std::int64_t>::min();
  for (std::size_t i = 0; i < n; ++i)
    if (w[i] != 0 && !a[i].zero()) top = std::max(top, a[i].exponent);
  double sum = 0, largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (w[i] == 0) continue;
    const double term = w[i] * a[i].scaled(top);
    sum += term;
    largest = std::max(largest, std::abs(term));
  }
  if (largest > 0) return std::abs(sum) > cancelled * largest ? Wide::of(sum, top) : Wide{};
  // Weights so small that the largest terms underflowed.
  Wide wide;
  for (std::size_t i = 0; i < n; ++i) wide = wide + Wide::of(w[i]) * a[i];
  return wide;
}

// What turns columns x and y until they are orthogonal; none where they are.
struct Rotation {
  Wide c, s;
  bool turns = false;

  AGF_CORE static Rotation of(std::size_t n, const Wide* x, const Wide* y) {
    const double small = rounding * std::sqrt(static_cast<double>(n));
    const Wide a = dot(n, x, x), b = dot(n, y, y), g = dot(n, x, y);
    if (g.zero() || !smaller(Wide::of(small) * sqrt(a) * sqrt(b), g)) return {};
    const Wide zeta = (b - a) / (Wide::of(2) * g);
    const Wide root = sqrt(Wide::of(1) + zeta * zeta);
    const Wide size_of_zeta = zeta.mantissa < 0 ? -zeta : zeta;
    Wide t = Wide::of(1) / (size_of_zeta + root);
    if (zeta.mantissa < 0) t = -t;
    const Wide c = Wide::of(1) / sqrt(Wide::of(1) + t * t);
    return {c, c * t, true};
  }

  AGF_CORE void turn(Wide& x, Wide& y) const {
    const Wide before = x;
    x = c * before - s * y;
    y = s * before + c * y;
  }
};

// One-sided Jacobi: turns columns (each `size` long) until they are orthogonal, and `along` with them.
AGF_CORE void jacobi(std::size_t count, std::size_t size, Array<Wide>& columns, std::size_t along_size,
                     Array<Wide>& along) {
  if (count < 2) return;
  Array<Rotation> rotations(count / 2);
  Array<char> turned(count / 2);
  Wide *const column = columns.data(), *const beside = along.data();
  Rotation* const rotation = rotations.data();
  char* const any = turned.data();
  for (int sweep = 0; sweep < most_sweeps; ++sweep) {
    each(turned.size(), [=](std::size_t p) { any[p] = 0; });
    // All pairs i < j row by row; but pairs of one sum i + j have no column in common, and whatever comes before any of
    // them in that order has a smaller one: so they go together.
    for (std::size_t sum = 1; sum + 2 < 2 * count; ++sum) {
      if (sum % 2 == 1) look_for_interruption();
      const std::size_t first = sum < count ? 0 : sum - count + 1, pairs = (sum + 1) / 2 - first;
      each_task(pairs, [=](std::size_t p) {
        const std::size_t i = first + p, j = sum - i;
        rotation[p] = Rotation::of(size, column + i * size, column + j * size);
        if (rotation[p].turns) any[p] = 1;
      });
      each_entry(pairs, size + along_size, [=](std::size_t p, std::size_t e) {
        if (!rotation[p].turns) return;
        const std::size_t i = first + p, j = sum - i;
        if (e < size)
          rotation[p].turn(column[i * size + e], column[j * size + e]);
        else
          rotation[p].turn(beside[i * along_size + e - size], beside[j * along_size + e - size]);
      });
    }
    if (largest(turned.size(), [=](std::size_t p) { return static_cast<double>(any[p]); }) == 0) return;
  }
}

AGF_CORE double largest_difference(const Array<double>& a, const Array<double>& b) {
  const double *const x = a.data(), *const y = b.data();
  return largest(a.size(), [=](std::size_t e) { return std::abs(x[e] - y[e]); });
}

AGF_CORE bool has_shape(const Extra* extra, std::initializer_list<std::size_t> shape) {
  return extra && std::equal(extra->shape.begin(), extra->shape.end(), shape.begin(), shape.end());
}

AGF_CORE Array<Wide> merge(const Extra& mantissa, const Extra& exponent) {
  Array<Wide> out(mantissa.values.size());
  const double *const m = mantissa.values.data(), *const k = exponent.values.data();
  Wide* const to = out.data();
  each(out.size(), [=](std::size_t e) { to[e] = Wide::of(m[e], static_cast<std::int64_t>(k[e])); });
  return out;
}

AGF_CORE void put_wide(State& state, const char* mantissa, const char* exponent, const Array<Wide>& values,
                       Array<std::size_t> shape) {
  Array<double> m(values.size()), e(values.size());
  const Wide* const from = values.data();
  double *const to = m.data(), *const beside = e.data();
  each(values.size(), [=](std::size_t i) {
    to[i] = from[i].mantissa;
    beside[i] = static_cast<double>(from[i].exponent);
  });
  state.extra.put(mantissa, std::move(m), shape);
  state.extra.put(exponent, std::move(e), std::move(shape));
}

}  // namespace

AGF_CORE Directions Directions::of(const State& state, bool& known) {
  Directions out;
  const std::size_t m = out.params = state.params, h = out.neurons = state.count;
  known = false;
  if (const Extra* visible = state.extra.find("active_column")) {
    const Extra *frame = state.extra.find("frame_row"), *mantissa = state.extra.find("dormant_mantissa"),
                *exponent = state.extra.find("dormant_exponent"), *own = state.extra.find("neuron_mantissa"),
                *own_exponent = state.extra.find("neuron_exponent"), *learned = state.extra.find("directions_learned");
    const std::size_t k = visible->values.size() / m, f = mantissa ? mantissa->values.size() / m : 0;
    if (has_shape(visible, {k, m}) && has_shape(frame, {m, m}) && has_shape(mantissa, {f, m}) &&
        has_shape(exponent, {f, m}) && has_shape(own, {k + f, h}) && has_shape(own_exponent, {k + f, h}) && learned &&
        learned->values.size() == 1) {
      out.visible = visible->values;
      out.frame = frame->values;
      out.faint = merge(*mantissa, *exponent);
      const Array<Wide> neurons = merge(*own, *own_exponent);
      const auto split = neurons.begin() + static_cast<std::ptrdiff_t>(k * h);
      out.visible_neuron.assign(neurons.begin(), split);
      out.neuron.assign(split, neurons.end());
      out.learned = static_cast<int>(learned->values[0]);
      // Rows changed by someone else since are what counts.
      State rows = state;
      out.write(rows);
      known = largest_difference(rows.log_norm, state.log_norm) <= changed_row &&
              largest_difference(rows.direction, state.direction) <= changed_row;
      if (known) return out;
      out = {};
      out.params = m;
      out.neurons = h;
    }
  }
  out.frame.assign(m * m, 0.0);
  for (std::size_t e = 0; e < m; ++e) out.frame[e * m + e] = 1;
  out.faint.resize(h * m);
  const double *const log_norm = state.log_norm.data(), *const direction = state.direction.data();
  Wide* const faint = out.faint.data();
  each_task(h, [=](std::size_t i) {
    const Wide length = Wide::exp(log_norm[i]);
    for (std::size_t e = 0; e < m; ++e) faint[i * m + e] = length * Wide::of(direction[i * m + e]);
  });
  out.orthogonalize();
  return out;
}

AGF_CORE void Directions::write(State& state) const {
  const std::size_t m = params, k = visible_count(), f = count();
  // Neurons: theta_i = sum_j v_ij c_j.
  const std::size_t h = neurons;
  Array<Wide> rows(h * m), columns((k + f) * m);
  Wide *const row_of = rows.data(), *const column = columns.data();
  const double* const seen = visible.data();
  each(k * m, [=](std::size_t e) { column[e] = Wide::of(seen[e]); });
  Array<double> across(m * m);
  double* const weights = across.data();
  const double* const axes = frame.data();
  const Wide* const part = faint.data();
  each_entry(m, m, [=](std::size_t l, std::size_t e) { weights[e * m + l] = axes[l * m + e]; });
  each_entry(
      f, m, [=](std::size_t j, std::size_t e) { column[(k + j) * m + e] = combine(m, weights + e * m, part + j * m); });
  const Wide *const of_seen = visible_neuron.data(), *const of_faint = neuron.data();
  add_product(h, k, m, [=](std::size_t i, std::size_t j) { return of_seen[j * h + i]; }, column, row_of);
  add_product(h, f, m, [=](std::size_t i, std::size_t j) { return of_faint[j * h + i]; }, column + k * m, row_of);
  double *const direction = state.direction.data(), *const log_norm = state.log_norm.data();
  unsigned char* const active = state.active.data();
  each_task(h, [=](std::size_t i) {
    const Wide* row = row_of + i * m;
    const Wide length = sqrt(dot(m, row, row));
    // A neuron that was dropped as a copy of others has its share of theirs; none is zero but by underflow of zeros.
    if (length.zero()) return;
    double square = 0;
    double* u = direction + i * m;
    for (std::size_t e = 0; e < m; ++e) {
      u[e] = row[e].scaled(length.exponent);
      square += u[e] * u[e];
    }
    for (std::size_t e = 0; e < m; ++e) u[e] /= std::sqrt(square);
    log_norm[i] = length.log();
    active[i] = log_norm[i] >= 0;
  });
  state.extra.put("active_column", visible, {k, m});
  state.extra.put("frame_row", frame, {m, m});
  put_wide(state, "dormant_mantissa", "dormant_exponent", faint, {f, m});
  Array<Wide> all = visible_neuron;
  all.insert(all.end(), neuron.begin(), neuron.end());
  put_wide(state, "neuron_mantissa", "neuron_exponent", all, {k + f, neurons});
  state.extra.put("directions_learned", {static_cast<double>(learned)}, {1});
}

// X = L D R by Gaussian elimination with complete pivoting: D carries all scales, |L|, |R| <= 1 (Demmel, Drmac et al.,
// "Computing the singular value decomposition with high relative accuracy", 1999). R^T = Q T makes X Q = L (D T^T),
// with columns that differ in scale but not in much else: there one-sided Jacobi converges fast and keeps every scale.
AGF_CORE void Directions::orthogonalize() {
  const std::size_t m = params, n = count(), h = neurons;
  if (n == 0) return;
  // Nothing is kept of work that is interrupted.
  const std::size_t most = std::min(m, n);
  Array<Wide> work = faint, left(most * m), right(most * n), pivot, largest_of(n);
  Array<std::size_t> row_of(n);  // of the largest in each column
  Array<char> row_used(m, 0), column_used(n, 0);
  Wide *const entry = work.data(), *const largest = largest_of.data();
  std::size_t* const place = row_of.data();
  char *const used = row_used.data(), *const done = column_used.data();
  std::size_t row = 0, column = 0;
  for (std::size_t k = 0; k < most; ++k) {
    look_for_interruption();
    // What the last pivot eliminates, and the largest of what is left.
    const Wide* const lower = k > 0 ? &left[(k - 1) * m] : nullptr;
    each_task(n, [=](std::size_t j) {
      if (done[j]) return;
      Wide top;
      for (std::size_t l = 0; l < m; ++l) {
        if (used[l]) continue;
        Wide& x = entry[j * m + l];
        if (lower) x = difference(x, lower[l] * entry[j * m + row]);
        if (!smaller(top, x)) continue;
        top = x;
        place[j] = l;
      }
      largest[j] = top;
    });
    Wide top;
    for (std::size_t j = 0; j < n; ++j)
      if (!done[j] && smaller(top, largest[j])) {
        top = largest[j];
        row = place[j];
        column = j;
      }
    if (top.zero()) break;
    Wide *const below = &left[k * m], *const beside = &right[k * n];
    each(m + n, [=](std::size_t e) {
      if (e < m && !used[e]) below[e] = entry[column * m + e] / top;
      if (e >= m && !done[e - m]) beside[e - m] = entry[(e - m) * m + row] / top;
    });
    used[row] = done[column] = 1;
    pivot.push_back(top);
  }
  const std::size_t rank = pivot.size();

  // R^T = Q T by Gram-Schmidt, twice over for orthogonality to rounding. Column j of X Q is
  // sum_{k >= j} T_jk D_k L_k.
  Array<Wide> part(rank * rank), columns(rank * m);
  Wide *const parts = part.data(), *const q = right.data();
  for (std::size_t k = 0; k < rank; ++k) {
    look_for_interruption();
    Wide *const mine = q + k * n, *const along = parts + k * rank;
    // The second time, after all before it have been taken out once.
#if defined(AGF_BLOCK)
    // All at once: what is left of them is rounding.
    Array<Wide> again(k);
    Wide* const left_over = again.data();
    each_task(k, [=](std::size_t j) {
      left_over[j] = dot(n, q + j * n, mine);
      along[j] = along[j] + left_over[j];
    });
    add_product(1, k, n, [=](std::size_t, std::size_t j) { return -left_over[j]; }, q, mine);
#else
    for (std::size_t j = 0; j < k; ++j) {
      const Wide left_over = dot(n, q + j * n, mine);
      along[j] = along[j] + left_over;
      if (!left_over.zero()) add_row(n, -left_over, q + j * n, mine);
    }
#endif
    const Wide length = along[k] = sqrt(dot(n, mine, mine));
    each(n, [=](std::size_t i) { mine[i] = mine[i] / length; });
    // Out of all after it, the first time.
    each_task(rank - k - 1, [=](std::size_t p) {
      const std::size_t later = k + 1 + p;
      Wide* const other = q + later * n;
      const Wide shared = dot(n, mine, other);
      parts[later * rank + k] = shared;
      if (!shared.zero()) add_row(n, -shared, mine, other);
    });
  }
  const Wide* const scale = pivot.data();
  add_product(
      rank, rank, m, [=](std::size_t j, std::size_t k) { return k < j ? Wide{} : parts[k * rank + j] * scale[k]; },
      left.data(), columns.data());
  Array<Wide> turned;
  if (neuron.empty()) {
    right.resize(rank * n);
    turned = std::move(right);
  } else {
    turned.resize(rank * h);
    add_product(rank, n, h, [=](std::size_t k, std::size_t j) { return q[k * n + j]; }, neuron.data(), turned.data());
  }

  if (h <= 2 * rank) {
    jacobi(rank, m, columns, h, turned);
  } else {
    // Wide networks: the rotations by themselves first.
    Array<Wide> rotation(rank * rank), last(rank * h);
    for (std::size_t k = 0; k < rank; ++k) rotation[k * rank + k] = Wide::of(1);
    jacobi(rank, m, columns, rank, rotation);
    const Wide* const by = rotation.data();
    for (std::size_t k = 0; k < rank; ++k) {
      look_for_interruption();
      add_product(
          1, rank, h, [=](std::size_t, std::size_t j) { return by[k * rank + j]; }, turned.data(), &last[k * h]);
    }
    turned = std::move(last);
  }

  Array<Wide> squares(rank);
  Wide* const square = squares.data();
  const Wide* const old = columns.data();
  each_task(rank, [=](std::size_t k) { square[k] = dot(m, old + k * m, old + k * m); });
  Array<std::size_t> order(rank);
  for (std::size_t k = 0; k < rank; ++k) order[k] = k;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return smaller(squares[b], squares[a]) || (!smaller(squares[a], squares[b]) && a < b);
  });
  faint.resize(rank * m);
  neuron.resize(rank * h);
  const std::size_t* const from = order.data();
  const Wide* const old_neuron = turned.data();
  Wide *const new_faint = faint.data(), *const new_neuron = neuron.data();
  each_entry(rank, m + h, [=](std::size_t k, std::size_t e) {
    if (e < m)
      new_faint[k * m + e] = old[from[k] * m + e];
    else
      new_neuron[k * h + e - m] = old_neuron[from[k] * h + e - m];
  });
}

AGF_CORE double Directions::log_norm(std::size_t j) const {
  return sqrt(dot(params, &faint[j * params], &faint[j * params])).log();
}

AGF_CORE Array<double> Directions::direction(std::size_t j) const {
  const std::size_t m = params;
  const Wide* const column = &faint[j * m];
  const std::int64_t shift = sqrt(dot(m, column, column)).exponent;
  Array<double> out(m, 0.0);
  double* const to = out.data();
  add_product(1, m, m, [=](std::size_t, std::size_t l) { return column[l].scaled(shift); }, frame.data(), to);
  const double size = norm(m, to);
  each(m, [=](std::size_t e) { to[e] /= size; });
  return out;
}

AGF_CORE void Directions::show(std::size_t j, double log_norm) {
  Array<double> x = direction(j);
  const double length = std::exp(log_norm);
  double* const entry = x.data();
  each(params, [=](std::size_t e) { entry[e] *= length; });
  visible.insert(visible.end(), x.begin(), x.end());
  const auto from = neuron.begin() + static_cast<std::ptrdiff_t>(j * neurons);
  visible_neuron.insert(visible_neuron.end(), from, from + static_cast<std::ptrdiff_t>(neurons));
  cut(neuron, j * neurons, neurons);
  cut(faint, j * params, params);
}

AGF_CORE void Directions::hide() {
  const std::size_t m = params, k = visible_count(), f = count();
  faint.resize((f + k) * m);
  const double *const axes = frame.data(), *const seen = visible.data();
  Wide* const to = faint.data() + f * m;
  each_entry(k, m,
             [=](std::size_t j, std::size_t l) { to[j * m + l] = Wide::of(agf::dot(m, axes + l * m, seen + j * m)); });
  neuron.insert(neuron.end(), visible_neuron.begin(), visible_neuron.end());
  visible.clear();
  visible_neuron.clear();
}

AGF_CORE void Directions::turn(const Array<double>& turn, Array<double> new_frame) {
  const std::size_t m = params;
  Array<Wide> turned(faint.size());
  const double* const by = turn.data();
  const Wide* const from = faint.data();
  Wide* const to = turned.data();
  each_entry(count(), m, [=](std::size_t j, std::size_t l) { to[j * m + l] = combine(m, by + l * m, from + j * m); });
  faint = std::move(turned);
  frame = std::move(new_frame);
}

AGF_CORE void Directions::grow(const Array<double>& rate, double t) {
  const std::size_t m = params, n = count();
  const double* const rates = rate.data();
  Wide* const column = faint.data();
  each_task(m, [=](std::size_t l) {
    const Wide factor = Wide::exp(rates[l] * t);
    for (std::size_t j = 0; j < n; ++j) column[j * m + l] = column[j * m + l] * factor;
  });
}

AGF_CORE Growth::Growth(const Directions& directions, const Array<double>& rate, Backend& backend)
    : directions_(directions), rate_(rate), backend_(backend) {}

AGF_CORE double Growth::at(double t, double& slope, Array<double>* all) const {
  const std::size_t m = directions_.params, n = directions_.count();
  const std::size_t size = m * n;
  grown_.resize(size);
  top_.resize(m);
  const double* const rate = rate_.data();
  const Wide* const z = directions_.faint.data();
  Wide* const grown = grown_.data();
  std::int64_t* const tops = top_.data();
  constexpr std::int64_t none = std::numeric_limits<std::int64_t>::min();
  each_task(m, [=](std::size_t l) {
    const Wide factor = Wide::exp(rate[l] * t);
    std::int64_t highest = none;
    for (std::size_t j = 0; j < n; ++j) {
      const Wide x = grown[j * m + l] = z[j * m + l] * factor;
      if (!x.zero()) highest = std::max(highest, x.exponent);
    }
    tops[l] = highest;
  });
  std::int64_t top = none;
  for (std::size_t l = 0; l < m; ++l) top = std::max(top, tops[l]);
  slope = 0;
  if (all) all->assign(n, -infinity);
  if (top == none) return -infinity;
  x_.resize(size);
  gram_.resize(n * n);
  values_.resize(n);
  part_.resize(m);
  double *const x = x_.data(), *const gram = gram_.data(), *const part = part_.data();
  each(size, [=](std::size_t e) { x[e] = grown[e].scaled(top); });
  each_below(
      n, [=](std::size_t i, std::size_t j) { gram[i * n + j] = gram[j * n + i] = agf::dot(m, x + i * m, x + j * m); });
  backend_.eigen(n, gram, values_.data());
  const double shift = 0.6931471805599453094 * static_cast<double>(top);
  const double* const v = gram + (n - 1) * n;
  each_task(m, [=](std::size_t l) {
    part[l] = 0;
    for (std::size_t j = 0; j < n; ++j) part[l] += v[j] * x[j * m + l];
  });
  double weight = 0;
  for (std::size_t l = 0; l < m; ++l) {
    slope += rate[l] * part[l] * part[l];
    weight += part[l] * part[l];
  }
  slope /= weight;
  if (all)
    for (std::size_t j = 0; j < n; ++j)
      if (values_[n - 1 - j] > 0) (*all)[j] = 0.5 * std::log(values_[n - 1 - j]) + shift;
  // |X v|^2 rather than the eigenvalue: a vector's error enters squared.
  return 0.5 * std::log(weight) + shift;
}

AGF_CORE double Growth::crossing(double level, double least) const {
  const std::size_t m = directions_.params, n = directions_.count();
  Array<double> bounds(n);
  double* const bound = bounds.data();
  const double* const rate = rate_.data();
  const Wide* const column = directions_.faint.data();
  // The largest singular value is above each single component.
  each_task(n, [=](std::size_t j) {
    bound[j] = infinity;
    for (std::size_t l = 0; l < m; ++l) {
      const Wide x = column[j * m + l];
      if (rate[l] > least && !x.zero()) bound[j] = std::min(bound[j], (level - x.log()) / rate[l]);
    }
  });
  double high = infinity;
  for (const double one : bounds) high = std::min(high, one);
  return rising_crossing(high, level, [this](double t, double& slope) { return at(t, slope); });
}

}  // namespace AGF_SPACE
