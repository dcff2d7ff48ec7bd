#include "directions.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "crossing.hpp"
#include "interrupt.hpp"
#include "linear.hpp"

namespace agf {

namespace {

constexpr double rounding = std::numeric_limits<double>::epsilon();
// A difference this much smaller than its terms is rounding that stands for zero.
constexpr double cancelled = 16 * rounding;
constexpr int most_sweeps = 60;
// Rows further than this from what the exact variables say (float32 directions are this rough) were changed.
constexpr double stale = 1e-5;

// a - b, zero where nothing but rounding is left.
Wide difference(Wide a, Wide b) {
  const Wide out = a - b;
  const Wide larger = smaller(a, b) ? b : a;
  return smaller(out, Wide::of(cancelled) * larger) ? Wide{} : out;
}

// sum_i w_i a_i, zero where nothing but rounding is left.
Wide combine(std::size_t n, const double* w, const Wide* a) {
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

// y += factor * x.
void add(std::size_t n, Wide factor, const Wide* x, Wide* y) {
  if (factor.zero()) return;
  for (std::size_t i = 0; i < n; ++i) y[i] = y[i] + factor * x[i];
}

void rotate(std::size_t n, Wide c, Wide s, Wide* x, Wide* y) {
  for (std::size_t i = 0; i < n; ++i) {
    const Wide before = x[i];
    x[i] = c * before - s * y[i];
    y[i] = s * before + c * y[i];
  }
}

// One-sided Jacobi: turns columns (each `size` long) until they are orthogonal, and `along` with them.
void jacobi(std::size_t count, std::size_t size, std::vector<Wide>& columns, std::size_t along_size,
            std::vector<Wide>& along) {
  const double small = rounding * std::sqrt(static_cast<double>(size));
  for (int sweep = 0; sweep < most_sweeps; ++sweep) {
    bool turned = false;
    for (std::size_t i = 0; i + 1 < count; ++i) {
      look_for_interruption();
      for (std::size_t j = i + 1; j < count; ++j) {
        Wide *x = &columns[i * size], *y = &columns[j * size];
        const Wide a = dot(size, x, x), b = dot(size, y, y), g = dot(size, x, y);
        if (g.zero() || !smaller(Wide::of(small) * sqrt(a) * sqrt(b), g)) continue;
        turned = true;
        const Wide zeta = (b - a) / (Wide::of(2) * g);
        const Wide root = sqrt(Wide::of(1) + zeta * zeta);
        const Wide size_of_zeta = zeta.mantissa < 0 ? -zeta : zeta;
        Wide t = Wide::of(1) / (size_of_zeta + root);
        if (zeta.mantissa < 0) t = -t;
        const Wide c = Wide::of(1) / sqrt(Wide::of(1) + t * t);
        rotate(size, c, c * t, x, y);
        rotate(along_size, c, c * t, &along[i * along_size], &along[j * along_size]);
      }
    }
    if (!turned) return;
  }
}

const Extra* find(const State& state, const char* name) {
  const auto at = state.extra.find(name);
  return at == state.extra.end() ? nullptr : &at->second;
}

bool has_shape(const Extra* extra, std::initializer_list<std::size_t> shape) {
  return extra && std::equal(extra->shape.begin(), extra->shape.end(), shape.begin(), shape.end());
}

void put(State& state, const char* name, std::vector<double> values, std::vector<std::size_t> shape) {
  state.extra[name] = Extra{std::move(values), std::move(shape)};
}

std::vector<Wide> merge(const Extra& mantissa, const Extra& exponent) {
  std::vector<Wide> out(mantissa.values.size());
  for (std::size_t e = 0; e < out.size(); ++e)
    out[e] = Wide::of(mantissa.values[e], static_cast<std::int64_t>(exponent.values[e]));
  return out;
}

void put_wide(State& state, const char* mantissa, const char* exponent, const std::vector<Wide>& values,
              std::vector<std::size_t> shape) {
  std::vector<double> m, e;
  for (const Wide& value : values) {
    m.push_back(value.mantissa);
    e.push_back(static_cast<double>(value.exponent));
  }
  put(state, mantissa, std::move(m), shape);
  put(state, exponent, std::move(e), std::move(shape));
}

}  // namespace

Directions Directions::of(const State& state, bool& known) {
  Directions out;
  const std::size_t m = out.params = state.params, h = out.neurons = state.count;
  known = false;
  if (const Extra* visible = find(state, "active_column")) {
    const Extra *frame = find(state, "frame_row"), *mantissa = find(state, "dormant_mantissa"),
                *exponent = find(state, "dormant_exponent"), *own = find(state, "neuron_mantissa"),
                *own_exponent = find(state, "neuron_exponent"), *learned = find(state, "directions_learned");
    const std::size_t k = visible->values.size() / m, f = mantissa ? mantissa->values.size() / m : 0;
    if (has_shape(visible, {k, m}) && has_shape(frame, {m, m}) && has_shape(mantissa, {f, m}) &&
        has_shape(exponent, {f, m}) && has_shape(own, {k + f, h}) && has_shape(own_exponent, {k + f, h}) && learned &&
        learned->values.size() == 1) {
      out.visible = visible->values;
      out.frame = frame->values;
      out.faint = merge(*mantissa, *exponent);
      const std::vector<Wide> neurons = merge(*own, *own_exponent);
      const auto split = neurons.begin() + static_cast<std::ptrdiff_t>(k * h);
      out.visible_neuron.assign(neurons.begin(), split);
      out.neuron.assign(split, neurons.end());
      out.learned = static_cast<int>(learned->values[0]);
      // Rows changed by someone else since are what counts.
      State rows = state;
      out.write(rows);
      known = true;
      for (std::size_t i = 0; i < h; ++i) {
        known = known && std::abs(rows.log_norm[i] - state.log_norm[i]) <= stale;
        for (std::size_t e = i * m; e < (i + 1) * m; ++e)
          known = known && std::abs(rows.direction[e] - state.direction[e]) <= stale;
      }
      if (known) return out;
      out = {};
      out.params = m;
      out.neurons = h;
    }
  }
  out.frame.assign(m * m, 0.0);
  for (std::size_t e = 0; e < m; ++e) out.frame[e * m + e] = 1;
  out.faint.resize(h * m);
  for (std::size_t i = 0; i < h; ++i) {
    const Wide length = Wide::exp(state.log_norm[i]);
    for (std::size_t e = 0; e < m; ++e) out.faint[i * m + e] = length * Wide::of(state.direction[i * m + e]);
  }
  out.orthogonalize();
  return out;
}

void Directions::write(State& state) const {
  const std::size_t m = params, k = visible_count(), f = count();
  // Neurons: theta_i = sum_j v_ij c_j.
  std::vector<Wide> rows(neurons * m);
  for (std::size_t j = 0; j < k; ++j) {
    std::vector<Wide> column(m);
    for (std::size_t e = 0; e < m; ++e) column[e] = Wide::of(visible[j * m + e]);
    for (std::size_t i = 0; i < neurons; ++i) add(m, visible_neuron[j * neurons + i], column.data(), &rows[i * m]);
  }
  std::vector<double> across(m * m);
  for (std::size_t l = 0; l < m; ++l)
    for (std::size_t e = 0; e < m; ++e) across[e * m + l] = frame[l * m + e];
  for (std::size_t j = 0; j < f; ++j) {
    std::vector<Wide> column(m);
    for (std::size_t e = 0; e < m; ++e) column[e] = combine(m, &across[e * m], &faint[j * m]);
    for (std::size_t i = 0; i < neurons; ++i) add(m, neuron[j * neurons + i], column.data(), &rows[i * m]);
  }
  for (std::size_t i = 0; i < neurons; ++i) {
    const Wide* row = &rows[i * m];
    const Wide length = sqrt(dot(m, row, row));
    // A neuron that was dropped as a copy of others has its share of theirs; none is zero but by underflow of zeros.
    if (length.zero()) continue;
    double square = 0;
    double* u = &state.direction[i * m];
    for (std::size_t e = 0; e < m; ++e) {
      u[e] = row[e].scaled(length.exponent);
      square += u[e] * u[e];
    }
    for (std::size_t e = 0; e < m; ++e) u[e] /= std::sqrt(square);
    state.log_norm[i] = length.log();
    state.active[i] = state.log_norm[i] >= 0;
  }
  put(state, "active_column", visible, {k, m});
  put(state, "frame_row", frame, {m, m});
  put_wide(state, "dormant_mantissa", "dormant_exponent", faint, {f, m});
  std::vector<Wide> all = visible_neuron;
  all.insert(all.end(), neuron.begin(), neuron.end());
  put_wide(state, "neuron_mantissa", "neuron_exponent", all, {k + f, neurons});
  put(state, "directions_learned", {static_cast<double>(learned)}, {1});
}

// X = L D R by Gaussian elimination with complete pivoting: D carries all scales, |L|, |R| <= 1 (Demmel, Drmac et al.,
// "Computing the singular value decomposition with high relative accuracy", 1999). R^T = Q T makes X Q = L (D T^T),
// with columns that differ in scale but not in much else: there one-sided Jacobi converges fast and keeps every scale.
void Directions::orthogonalize() {
  const std::size_t m = params, n = count();
  if (n == 0) return;
  // Nothing is kept of work that is interrupted.
  std::vector<Wide> work = faint, left, right, pivot;
  std::vector<char> row_used(m, 0), column_used(n, 0);
  for (std::size_t k = 0; k < std::min(m, n); ++k) {
    look_for_interruption();
    std::size_t row = 0, column = 0;
    Wide top;
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t l = 0; !column_used[j] && l < m; ++l)
        if (!row_used[l] && smaller(top, work[j * m + l])) {
          top = work[j * m + l];
          row = l;
          column = j;
        }
    if (top.zero()) break;
    std::vector<Wide> lower(m), upper(n);
    for (std::size_t l = 0; l < m; ++l)
      if (!row_used[l]) lower[l] = work[column * m + l] / top;
    for (std::size_t j = 0; j < n; ++j)
      if (!column_used[j]) upper[j] = work[j * m + row] / top;
    row_used[row] = column_used[column] = 1;
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t l = 0; !column_used[j] && l < m; ++l)
        if (!row_used[l]) work[j * m + l] = difference(work[j * m + l], lower[l] * work[j * m + row]);
    left.insert(left.end(), lower.begin(), lower.end());
    right.insert(right.end(), upper.begin(), upper.end());
    pivot.push_back(top);
  }
  const std::size_t rank = pivot.size();

  // R^T = Q T by Gram-Schmidt, twice over for orthogonality to rounding. Column j of X Q is
  // sum_{k >= j} T_jk D_k L_k.
  std::vector<Wide> columns(rank * m);
  for (std::size_t k = 0; k < rank; ++k) {
    look_for_interruption();
    Wide* q = &right[k * n];
    std::vector<Wide> part(k + 1);
    for (int pass = 0; pass < 2; ++pass)
      for (std::size_t j = 0; j < k; ++j) {
        const Wide along = dot(n, &right[j * n], q);
        part[j] = part[j] + along;
        add(n, -along, &right[j * n], q);
      }
    part[k] = sqrt(dot(n, q, q));
    for (std::size_t i = 0; i < n; ++i) q[i] = q[i] / part[k];
    for (std::size_t j = 0; j <= k; ++j) add(m, part[j] * pivot[k], &left[k * m], &columns[j * m]);
  }
  std::vector<Wide> turned;
  if (neuron.empty()) {
    turned = right;
  } else {
    turned.resize(rank * neurons);
    for (std::size_t k = 0; k < rank; ++k)
      for (std::size_t j = 0; j < n; ++j) add(neurons, right[k * n + j], &neuron[j * neurons], &turned[k * neurons]);
  }

  if (neurons <= 2 * rank) {
    jacobi(rank, m, columns, neurons, turned);
  } else {
    // Wide networks: the rotations by themselves first.
    std::vector<Wide> rotation(rank * rank), last(rank * neurons);
    for (std::size_t k = 0; k < rank; ++k) rotation[k * rank + k] = Wide::of(1);
    jacobi(rank, m, columns, rank, rotation);
    for (std::size_t k = 0; k < rank; ++k) {
      look_for_interruption();
      for (std::size_t j = 0; j < rank; ++j)
        add(neurons, rotation[k * rank + j], &turned[j * neurons], &last[k * neurons]);
    }
    turned = std::move(last);
  }

  std::vector<Wide> squares(rank);
  for (std::size_t k = 0; k < rank; ++k) squares[k] = dot(m, &columns[k * m], &columns[k * m]);
  std::vector<std::size_t> order(rank);
  for (std::size_t k = 0; k < rank; ++k) order[k] = k;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return smaller(squares[b], squares[a]); });
  faint.clear();
  neuron.clear();
  for (std::size_t k : order) {
    faint.insert(faint.end(), &columns[k * m], &columns[k * m] + m);
    neuron.insert(neuron.end(), &turned[k * neurons], &turned[k * neurons] + neurons);
  }
}

double Directions::log_norm(std::size_t j) const {
  return sqrt(dot(params, &faint[j * params], &faint[j * params])).log();
}

std::vector<double> Directions::direction(std::size_t j) const {
  const std::size_t m = params;
  const Wide length = sqrt(dot(m, &faint[j * m], &faint[j * m]));
  std::vector<double> out(m, 0.0);
  for (std::size_t l = 0; l < m; ++l) {
    const double part = faint[j * m + l].scaled(length.exponent);
    for (std::size_t e = 0; e < m && part != 0; ++e) out[e] += part * frame[l * m + e];
  }
  const double size = norm(m, out.data());
  for (double& e : out) e /= size;
  return out;
}

void Directions::show(std::size_t j, double log_norm) {
  std::vector<double> x = direction(j);
  for (double& e : x) e *= std::exp(log_norm);
  visible.insert(visible.end(), x.begin(), x.end());
  auto from = [](auto& values, std::size_t at) { return values.begin() + static_cast<std::ptrdiff_t>(at); };
  visible_neuron.insert(visible_neuron.end(), from(neuron, j * neurons), from(neuron, (j + 1) * neurons));
  neuron.erase(from(neuron, j * neurons), from(neuron, (j + 1) * neurons));
  faint.erase(from(faint, j * params), from(faint, (j + 1) * params));
}

void Directions::hide() {
  const std::size_t m = params;
  for (std::size_t k = 0; k < visible_count(); ++k)
    for (std::size_t l = 0; l < m; ++l) faint.push_back(Wide::of(agf::dot(m, &frame[l * m], &visible[k * m])));
  neuron.insert(neuron.end(), visible_neuron.begin(), visible_neuron.end());
  visible.clear();
  visible_neuron.clear();
}

void Directions::turn(const std::vector<double>& turn, std::vector<double> new_frame) {
  const std::size_t m = params;
  std::vector<Wide> column(m);
  for (std::size_t j = 0; j < count(); ++j) {
    for (std::size_t l = 0; l < m; ++l) column[l] = combine(m, &turn[l * m], &faint[j * m]);
    std::copy(column.begin(), column.end(), &faint[j * m]);
  }
  frame = std::move(new_frame);
}

void Directions::grow(const std::vector<double>& rate, double t) {
  for (std::size_t l = 0; l < params; ++l) {
    const Wide factor = Wide::exp(rate[l] * t);
    for (std::size_t j = 0; j < count(); ++j) faint[j * params + l] = faint[j * params + l] * factor;
  }
}

Growth::Growth(const Directions& directions, const std::vector<double>& rate, Backend& backend)
    : directions_(directions), rate_(rate), backend_(backend) {}

double Growth::at(double t, double& slope, std::vector<double>* all) const {
  const std::size_t m = directions_.params, n = directions_.count();
  const std::vector<Wide>& z = directions_.faint;
  std::vector<Wide> grown(z.size());
  std::int64_t top = std::numeric_limits<std::int64_t>::min();
  for (std::size_t l = 0; l < m; ++l) {
    const Wide factor = Wide::exp(rate_[l] * t);
    for (std::size_t j = 0; j < n; ++j) {
      const Wide x = grown[j * m + l] = z[j * m + l] * factor;
      if (!x.zero()) top = std::max(top, x.exponent);
    }
  }
  slope = 0;
  if (all) all->assign(n, -infinity);
  if (top == std::numeric_limits<std::int64_t>::min()) return -infinity;
  std::vector<double> x(z.size()), gram(n * n), values(n);
  for (std::size_t e = 0; e < x.size(); ++e) x[e] = grown[e].scaled(top);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j <= i; ++j) gram[i * n + j] = gram[j * n + i] = agf::dot(m, &x[i * m], &x[j * m]);
  backend_.eigen(n, gram.data(), values.data());
  const double shift = 0.6931471805599453094 * static_cast<double>(top);
  const double* v = &gram[(n - 1) * n];
  double weight = 0;
  for (std::size_t l = 0; l < m; ++l) {
    double part = 0;
    for (std::size_t j = 0; j < n; ++j) part += v[j] * x[j * m + l];
    slope += rate_[l] * part * part;
    weight += part * part;
  }
  slope /= weight;
  if (all)
    for (std::size_t j = 0; j < n; ++j)
      if (values[n - 1 - j] > 0) (*all)[j] = 0.5 * std::log(values[n - 1 - j]) + shift;
  // |X v|^2 rather than the eigenvalue: a vector's error enters squared.
  return 0.5 * std::log(weight) + shift;
}

double Growth::crossing(double level, double least) const {
  const std::size_t m = directions_.params;
  double high = infinity;
  // The largest singular value is above each single component.
  for (std::size_t j = 0; j < directions_.count(); ++j)
    for (std::size_t l = 0; l < m; ++l) {
      const Wide& x = directions_.faint[j * m + l];
      if (rate_[l] > least && !x.zero()) high = std::min(high, (level - x.log()) / rate_[l]);
    }
  return rising_crossing(high, level, [this](double t, double& slope) { return at(t, slope); });
}

}  // namespace agf
