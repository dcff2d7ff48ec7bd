#include "cpu/moments.hpp"

#include <algorithm>
#include <cmath>

#include "agf/interrupt.hpp"
#include "cpu/blas.hpp"
#include "cpu/pool.hpp"
#include "cpu/scratch.hpp"

namespace agf::cpu {

// The linear map G.
class Design {
 public:
  virtual ~Design() = default;

  virtual void forward(const double* p, double* f) const = 0;  // f = G[P]
  virtual void adjoint(const double* r, double* m) const = 0;  // M = G*[r], <M, P> = <r, G[P]>
  // The lower triangle of out_ef = <G[x_e y_e^T], G[x_f y_f^T]>, x (n, rows), y (n, columns).
  virtual void gram(std::size_t n, const double* x, const double* y, double* out) const = 0;
};

namespace {

using blas::Op;

// Neurons whose products with M are taken together.
constexpr std::size_t block = 128;

struct MomentSignal final : Signal {
  explicit MomentSignal(std::size_t size) : values(size) {}
  std::vector<double> values;
};

const double* values(const Signal& signal) { return static_cast<const MomentSignal&>(signal).values.data(); }
double* values(Signal& signal) { return static_cast<MomentSignal&>(signal).values.data(); }

class Grid final : public Design {
 public:
  Grid(const DesignSizes& sizes, std::vector<double> left, std::vector<double> right)
      : rows_(sizes.rows),
        columns_(sizes.columns),
        outer_(sizes.outer),
        inner_(sizes.inner),
        left_(std::move(left)),
        right_(std::move(right)) {}

  void forward(const double* p, double* f) const override {
    Scratch scratch;
    double* half = left_.empty() ? f : scratch.take<double>(rows_ * inner_);
    blas::gemm<double>(Op::none, Op::transpose, rows_, inner_, columns_, 1.0, p, columns_, right_.data(), columns_, 0.0,
                       half, inner_);
    if (left_.empty()) return;
    blas::gemm<double>(Op::none, Op::none, outer_, inner_, rows_, 1.0, left_.data(), rows_, half, inner_, 0.0, f,
                       inner_);
  }

  void adjoint(const double* r, double* m) const override {
    Scratch scratch;
    const double* half = r;
    if (!left_.empty()) {
      double* to = scratch.take<double>(rows_ * inner_);
      blas::gemm<double>(Op::transpose, Op::none, rows_, inner_, outer_, 1.0, left_.data(), rows_, r, inner_, 0.0, to,
                         inner_);
      half = to;
    }
    blas::gemm<double>(Op::none, Op::none, rows_, columns_, inner_, 1.0, half, inner_, right_.data(), columns_, 0.0, m,
                       columns_);
  }

  // (left x_e . left x_f) (right y_e . right y_f)
  void gram(std::size_t n, const double* x, const double* y, double* out) const override {
    Scratch scratch;
    const double* far = x;
    if (!left_.empty()) {
      double* to = scratch.take<double>(n * outer_);
      blas::gemm<double>(Op::none, Op::transpose, n, outer_, rows_, 1.0, x, rows_, left_.data(), rows_, 0.0, to,
                         outer_);
      far = to;
    }
    double* near = scratch.take<double>(n * inner_);
    blas::gemm<double>(Op::none, Op::transpose, n, inner_, columns_, 1.0, y, columns_, right_.data(), columns_, 0.0,
                       near, inner_);
    double* factor = scratch.take<double>(n * n);
    blas::syrk<double>(n, outer_, 1.0, far, outer_, 0.0, out, n);
    blas::syrk<double>(n, inner_, 1.0, near, inner_, 0.0, factor, n);
    for (std::size_t e = 0; e < n; ++e)
      for (std::size_t f = 0; f <= e; ++f) out[e * n + f] *= factor[e * n + f];
  }

 private:
  std::size_t rows_, columns_, outer_, inner_;
  std::vector<double> left_, right_;
};

class List final : public Design {
 public:
  List(const DesignSizes& sizes, std::vector<double> features)
      : rows_(sizes.rows),
        columns_(sizes.columns),
        size_(sizes.rows * sizes.columns),
        entries_(sizes.inner),
        features_(std::move(features)) {}

  void forward(const double* p, double* f) const override {
    blas::gemm<double>(Op::none, Op::none, entries_, 1, size_, 1.0, features_.data(), size_, p, 1, 0.0, f, 1);
  }
  void adjoint(const double* r, double* m) const override {
    blas::gemm<double>(Op::none, Op::none, 1, size_, entries_, 1.0, r, entries_, features_.data(), size_, 0.0, m,
                       size_);
  }

  void gram(std::size_t n, const double* x, const double* y, double* out) const override {
    Scratch scratch;
    const std::size_t k = entries_;
    double* images = scratch.take<double>(n * k);
    double* outer = scratch.take<double>(std::min(block, n) * size_);
    for (std::size_t first = 0; first < n; first += block) {
      look_for_interruption();
      const std::size_t h = std::min(block, n - first);
      for (std::size_t e = 0; e < h; ++e)
        for (std::size_t a = 0; a < rows_; ++a)
          for (std::size_t b = 0; b < columns_; ++b)
            outer[e * size_ + a * columns_ + b] = x[(first + e) * rows_ + a] * y[(first + e) * columns_ + b];
      blas::gemm<double>(Op::none, Op::transpose, h, k, size_, 1.0, outer, size_, features_.data(), size_, 0.0,
                         images + first * k, k);
    }
    blas::syrk<double>(n, k, 1.0, images, k, 0.0, out, n);
  }

 private:
  std::size_t rows_, columns_, size_, entries_;
  std::vector<double> features_;
};

// p (rows, columns) times each of `count` vectors that lie `stride` apart: out (count, rows).
void products(Op op, std::size_t count, std::size_t rows, std::size_t columns, const double* p, const double* vectors,
              std::size_t stride, double* out) {
  const bool across = op == Op::transpose;
  const std::size_t inner = across ? rows : columns, outer = across ? columns : rows;
  blas::gemm<double>(Op::none, across ? Op::none : Op::transpose, count, outer, inner, 1.0, vectors, stride, p, columns,
                     0.0, out, outer);
}

std::unique_ptr<const Design> make_design(const DesignSizes& sizes, PseudoSamples samples) {
  if (sizes.listed) return std::make_unique<const List>(sizes, std::move(samples.right));
  return std::make_unique<const Grid>(sizes, std::move(samples.left), std::move(samples.right));
}

}  // namespace

Moments::Moments(ProductLayout product, PseudoSamples samples, std::vector<double> target, double least)
    : MomentsModel(product, sizes_of(samples), least),
      design_(make_design(sizes_, std::move(samples))),
      target_(std::move(target)) {}
Moments::~Moments() = default;

void Moments::spread(const Signal& signal, double* out) const { std::copy_n(values(signal), product_.size(), out); }
void Moments::gather(const double* given, Signal& signal) const { std::copy_n(given, product_.size(), values(signal)); }

std::unique_ptr<Signal> Moments::make_signal() const { return std::make_unique<MomentSignal>(product_.size()); }

// p += sum_i left_i right_i^T; left (count, rows) is packed, right lies `stride` apart.
void Moments::add(std::size_t count, const double* left, const double* right, std::size_t stride, double* p) const {
  const std::size_t rows = product_.rows, columns = product_.columns;
  blas::gemm<double>(Op::transpose, Op::none, rows, columns, count, 1.0, left, rows, right, stride, 1.0, p, columns);
}

double Moments::residual(const double* theta, std::size_t count, Signal& r, Shape) const {
  const std::size_t rows = product_.rows, m = product_.params, entries = sizes_.entries();
  Scratch scratch;
  double* p = scratch.take<double>(product_.size());
  double* left = scratch.take<double>(std::min(block, count) * rows);
  double* rest = scratch.take<double>(entries);
  std::fill_n(p, product_.size(), 0.0);
  for (std::size_t first = 0; first < count; first += block) {
    const std::size_t h = std::min(block, count - first);
    for (std::size_t i = 0; i < h; ++i) {
      const double* x = theta + (first + i) * m;
      for (std::size_t a = 0; a < rows; ++a) left[i * rows + a] = product_.gain_of(x) * x[product_.left + a];
    }
    add(h, left, theta + first * m + product_.right, m, p);
  }
  design_->forward(p, rest);
  for (std::size_t e = 0; e < entries; ++e) rest[e] = target_[e] - rest[e];
  design_->adjoint(rest, values(r));
  return least_ + 0.5 * dot(entries, rest, rest);
}

// dP = sum_i (dg l + g dl) r^T + g l dr^T, dM = -G*[G[dP]].
void Moments::residual_derivative(const double* theta, const double* v, std::size_t count, Signal& dr, Shape) const {
  const std::size_t rows = product_.rows, m = product_.params, entries = sizes_.entries();
  Scratch scratch;
  double* p = scratch.take<double>(product_.size());
  double* left = scratch.take<double>(std::min(block, count) * rows);
  double* image = scratch.take<double>(entries);
  std::fill_n(p, product_.size(), 0.0);
  for (std::size_t first = 0; first < count; first += block) {
    const std::size_t h = std::min(block, count - first);
    const double *x = theta + first * m, *u = v + first * m;
    for (std::size_t i = 0; i < h; ++i)
      for (std::size_t a = 0; a < rows; ++a) {
        const std::size_t at = i * m + product_.left + a;
        left[i * rows + a] =
            product_.gain_of(x + i * m) * u[at] + (product_.gained ? u[i * m + product_.gain] * x[at] : 0.0);
      }
    add(h, left, x + product_.right, m, p);
    for (std::size_t i = 0; i < h; ++i)
      for (std::size_t a = 0; a < rows; ++a)
        left[i * rows + a] = product_.gain_of(x + i * m) * x[i * m + product_.left + a];
    add(h, left, u + product_.right, m, p);
  }
  design_->forward(p, image);
  for (std::size_t e = 0; e < entries; ++e) image[e] = -image[e];
  design_->adjoint(image, values(dr));
}

// U = g l^T M r,  grad_l = g M r,  grad_r = g M^T l,  grad_g = l^T M r.
void Moments::utility(const double* theta, std::size_t count, const Signal& r, double* value, double* gradient,
                      Shape) const {
  const std::size_t rows = product_.rows, columns = product_.columns, m = product_.params;
  const double* signal = values(r);
  pool::for_each((count + block - 1) / block, evaluation_flops(count), [&](std::size_t item) {
    const std::size_t first = item * block, h = std::min(block, count - first);
    const double* x = theta + first * m;
    Scratch scratch;
    double* ahead = scratch.take<double>(h * rows);
    double* back = scratch.take<double>(h * columns);
    products(Op::none, h, rows, columns, signal, x + product_.right, m, ahead);
    if (gradient) products(Op::transpose, h, rows, columns, signal, x + product_.left, m, back);
    for (std::size_t i = 0; i < h; ++i) {
      const double g = product_.gain_of(x + i * m);
      const double form = dot(rows, x + i * m + product_.left, ahead + i * rows);
      if (value) value[first + i] = g * form;
      if (!gradient) continue;
      double* out = gradient + (first + i) * m;
      for (std::size_t a = 0; a < rows; ++a) out[product_.left + a] = g * ahead[i * rows + a];
      for (std::size_t b = 0; b < columns; ++b) out[product_.right + b] = g * back[i * columns + b];
      if (product_.gained) out[product_.gain] = form;
    }
  });
}

// d grad_l = dg M r + g M dr,  d grad_r = dg M^T l + g M^T dl,  d grad_g = dl^T M r + l^T M dr.
void Moments::curvature_vector(const double* theta, const double* v, std::size_t count, const Signal& r,
                               const Signal* dr, double* out, Shape shape) const {
  const std::size_t rows = product_.rows, columns = product_.columns, m = product_.params;
  const double* signal = values(r);
  if (dr)
    utility(theta, count, *dr, nullptr, out, shape);
  else
    std::fill_n(out, count * m, 0.0);
  pool::for_each((count + block - 1) / block, 2 * evaluation_flops(count), [&](std::size_t item) {
    const std::size_t first = item * block, h = std::min(block, count - first);
    const double *x = theta + first * m, *u = v + first * m;
    Scratch scratch;
    double* ahead = scratch.take<double>(h * rows);
    double* along = scratch.take<double>(h * rows);
    double* back = scratch.take<double>(h * columns);
    double* across = scratch.take<double>(h * columns);
    products(Op::none, h, rows, columns, signal, x + product_.right, m, ahead);
    products(Op::none, h, rows, columns, signal, u + product_.right, m, along);
    products(Op::transpose, h, rows, columns, signal, x + product_.left, m, back);
    products(Op::transpose, h, rows, columns, signal, u + product_.left, m, across);
    for (std::size_t i = 0; i < h; ++i) {
      const double g = product_.gain_of(x + i * m), dg = product_.gained ? u[i * m + product_.gain] : 0.0;
      double* to = out + (first + i) * m;
      for (std::size_t a = 0; a < rows; ++a)
        to[product_.left + a] += dg * ahead[i * rows + a] + g * along[i * rows + a];
      for (std::size_t b = 0; b < columns; ++b)
        to[product_.right + b] += dg * back[i * columns + b] + g * across[i * columns + b];
      if (product_.gained)
        to[product_.gain] += dot(rows, u + i * m + product_.left, ahead + i * rows) +
                             dot(rows, x + i * m + product_.left, along + i * rows);
    }
  });
}

void Moments::utility_hessian(const double* theta, std::size_t count, const Signal& r, double* out, Shape) const {
  const std::size_t rows = product_.rows, columns = product_.columns, m = product_.params;
  const double* signal = values(r);
  pool::for_each(count, utility_hessian_flops(count), [&](std::size_t i) {
    const double *x = theta + i * m, *l = x + product_.left, *right = x + product_.right;
    double* to = out + i * m * m;
    std::fill_n(to, m * m, 0.0);
    const auto set = [&](std::size_t e, std::size_t f, double entry) { to[e * m + f] = to[f * m + e] = entry; };
    for (std::size_t a = 0; a < rows; ++a)
      for (std::size_t b = 0; b < columns; ++b)
        set(product_.left + a, product_.right + b, product_.gain_of(x) * signal[a * columns + b]);
    if (!product_.gained) return;
    for (std::size_t a = 0; a < rows; ++a)
      set(product_.gain, product_.left + a, dot(columns, signal + a * columns, right));
    for (std::size_t b = 0; b < columns; ++b) {
      double sum = 0;
      for (std::size_t a = 0; a < rows; ++a) sum += signal[a * columns + b] * l[a];
      set(product_.gain, product_.right + b, sum);
    }
  });
}

// <G[dp/dtheta_e], G[dp/dtheta_f]>, where every dp/dtheta_e = x_e y_e^T, less the curvature of each neuron's utility.
void Moments::loss_hessian(const double* theta, std::size_t count, const Signal& r, double* out, Shape shape) const {
  const std::size_t rows = product_.rows, columns = product_.columns, m = product_.params, n = count * m;
  if (count == 0) return;
  Scratch scratch;
  double* x = scratch.take<double>(n * rows);
  double* y = scratch.take<double>(n * columns);
  double* bent = scratch.take<double>(count * m * m);
  std::fill_n(x, n * rows, 0.0);
  std::fill_n(y, n * columns, 0.0);
  for (std::size_t i = 0; i < count; ++i) {
    const double *at = theta + i * m, *l = at + product_.left, *right = at + product_.right;
    for (std::size_t a = 0; a < rows; ++a) {
      const std::size_t e = i * m + product_.left + a;
      x[e * rows + a] = product_.gain_of(at);
      std::copy_n(right, columns, y + e * columns);
    }
    for (std::size_t b = 0; b < columns; ++b) {
      const std::size_t e = i * m + product_.right + b;
      for (std::size_t a = 0; a < rows; ++a) x[e * rows + a] = product_.gain_of(at) * l[a];
      y[e * columns + b] = 1;
    }
    if (!product_.gained) continue;
    const std::size_t e = i * m + product_.gain;
    std::copy_n(l, rows, x + e * rows);
    std::copy_n(right, columns, y + e * columns);
  }
  design_->gram(n, x, y, out);
  for (std::size_t e = 0; e < n; ++e)
    for (std::size_t f = 0; f < e; ++f) out[f * n + e] = out[e * n + f];
  utility_hessian(theta, count, r, bent, shape);
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t e = 0; e < m; ++e)
      for (std::size_t f = 0; f < m; ++f) out[(i * m + e) * n + i * m + f] -= bent[(i * m + e) * m + f];
}

void Moments::contribution(const double* theta, std::size_t count, double* out) const {
  for (std::size_t i = 0; i < count; ++i) {
    const double* x = theta + i * product_.params;
    double square = 0;
    design_->gram(1, x + product_.left, x + product_.right, &square);
    out[i] = std::abs(product_.gain_of(x)) * std::sqrt(square);
  }
}

}  // namespace agf::cpu
