#include "cpu/moments.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "agf/interrupt.hpp"
#include "agf/linear.hpp"
#include "cpu/blas.hpp"
#include "cpu/pool.hpp"
#include "cpu/scratch.hpp"

namespace agf::cpu {
namespace {

using blas::Op;

// Neurons whose products with M are taken together.
constexpr std::size_t block = 128;

struct MomentSignal final : Signal {
  explicit MomentSignal(std::size_t size) : values(size) {}
  std::vector<double> values;
};

class Grid final : public Design {
 public:
  Grid(std::size_t rows, std::size_t columns, std::vector<double> left, std::vector<double> right)
      : rows_(rows),
        columns_(columns),
        outer_(left.empty() ? rows : left.size() / rows),
        inner_(right.size() / columns),
        left_(std::move(left)),
        right_(std::move(right)) {}

  std::size_t entries() const override { return outer_ * inner_; }

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

  double scale() const override {
    const double right = norm(right_.size(), right_.data());
    return left_.empty() ? right : norm(left_.size(), left_.data()) * right;
  }
  double flops() const override {
    const auto inner = static_cast<double>(inner_), rows = static_cast<double>(rows_);
    return 2 * rows * inner * (static_cast<double>(columns_) + (left_.empty() ? 0 : static_cast<double>(outer_)));
  }
  double gram_flops(std::size_t n) const override {
    const auto count = static_cast<double>(n);
    return count * count * static_cast<double>(outer_ + inner_);
  }

 private:
  std::size_t rows_, columns_, outer_, inner_;
  std::vector<double> left_, right_;
};

class List final : public Design {
 public:
  List(std::size_t rows, std::size_t columns, std::vector<double> features)
      : rows_(rows), columns_(columns), size_(rows * columns), features_(std::move(features)) {}

  std::size_t entries() const override { return features_.size() / size_; }

  void forward(const double* p, double* f) const override {
    blas::gemm<double>(Op::none, Op::none, entries(), 1, size_, 1.0, features_.data(), size_, p, 1, 0.0, f, 1);
  }
  void adjoint(const double* r, double* m) const override {
    blas::gemm<double>(Op::none, Op::none, 1, size_, entries(), 1.0, r, entries(), features_.data(), size_, 0.0, m,
                       size_);
  }

  void gram(std::size_t n, const double* x, const double* y, double* out) const override {
    Scratch scratch;
    const std::size_t k = entries();
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

  double scale() const override { return norm(features_.size(), features_.data()); }
  double flops() const override { return 2 * static_cast<double>(features_.size()); }
  double gram_flops(std::size_t n) const override {
    const auto count = static_cast<double>(n);
    return count * flops() + count * count * static_cast<double>(entries());
  }

 private:
  std::size_t rows_, columns_, size_;
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

}  // namespace

Product Product::bilinear(std::size_t inputs, std::size_t outputs) {
  return {outputs, inputs, inputs, 0, 0, inputs + outputs, false};
}
Product Product::trilinear(std::size_t dimension) {
  return {dimension, dimension, 1, 1 + dimension, 0, 1 + 2 * dimension, true};
}

std::unique_ptr<const Design> grid_design(std::size_t rows, std::size_t columns, std::vector<double> left,
                                          std::vector<double> right) {
  return std::make_unique<const Grid>(rows, columns, std::move(left), std::move(right));
}
std::unique_ptr<const Design> list_design(std::size_t rows, std::size_t columns, std::vector<double> features) {
  return std::make_unique<const List>(rows, columns, std::move(features));
}

Moments::Moments(Product product, std::unique_ptr<const Design> design, std::vector<double> target, double least)
    : product_(product), design_(std::move(design)), target_(std::move(target)), least_(least) {}

const double* Moments::values(const Signal& signal) { return static_cast<const MomentSignal&>(signal).values.data(); }
double* Moments::values(Signal& signal) { return static_cast<MomentSignal&>(signal).values.data(); }

// input_scale^{kappa - 1} bounds the contribution of a unit neuron.
double Moments::input_scale() const { return std::pow(design_->scale(), 1 / (kappa() - 1)); }
double Moments::epsilon() const { return std::numeric_limits<double>::epsilon() / 2; }

std::unique_ptr<Signal> Moments::make_signal() const { return std::make_unique<MomentSignal>(size()); }

// p += sum_i left_i right_i^T; left (count, rows) is packed, right lies `stride` apart.
void Moments::add(std::size_t count, const double* left, const double* right, std::size_t stride, double* p) const {
  const std::size_t rows = product_.rows, columns = product_.columns;
  blas::gemm<double>(Op::transpose, Op::none, rows, columns, count, 1.0, left, rows, right, stride, 1.0, p, columns);
}

double Moments::residual(const double* theta, std::size_t count, Signal& r, Shape) const {
  const std::size_t rows = product_.rows, m = product_.params, entries = design_->entries();
  Scratch scratch;
  double* p = scratch.take<double>(size());
  double* left = scratch.take<double>(std::min(block, count) * rows);
  double* rest = scratch.take<double>(entries);
  std::fill_n(p, size(), 0.0);
  for (std::size_t first = 0; first < count; first += block) {
    const std::size_t h = std::min(block, count - first);
    for (std::size_t i = 0; i < h; ++i) {
      const double* x = theta + (first + i) * m;
      for (std::size_t a = 0; a < rows; ++a) left[i * rows + a] = gain(x) * x[product_.left + a];
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
  const std::size_t rows = product_.rows, m = product_.params, entries = design_->entries();
  Scratch scratch;
  double* p = scratch.take<double>(size());
  double* left = scratch.take<double>(std::min(block, count) * rows);
  double* image = scratch.take<double>(entries);
  std::fill_n(p, size(), 0.0);
  for (std::size_t first = 0; first < count; first += block) {
    const std::size_t h = std::min(block, count - first);
    const double *x = theta + first * m, *u = v + first * m;
    for (std::size_t i = 0; i < h; ++i)
      for (std::size_t a = 0; a < rows; ++a) {
        const std::size_t at = i * m + product_.left + a;
        left[i * rows + a] = gain(x + i * m) * u[at] + (product_.gained ? u[i * m + product_.gain] * x[at] : 0.0);
      }
    add(h, left, x + product_.right, m, p);
    for (std::size_t i = 0; i < h; ++i)
      for (std::size_t a = 0; a < rows; ++a) left[i * rows + a] = gain(x + i * m) * x[i * m + product_.left + a];
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
      const double g = gain(x + i * m);
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
      const double g = gain(x + i * m), dg = product_.gained ? u[i * m + product_.gain] : 0.0;
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
        set(product_.left + a, product_.right + b, gain(x) * signal[a * columns + b]);
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
      x[e * rows + a] = gain(at);
      std::copy_n(right, columns, y + e * columns);
    }
    for (std::size_t b = 0; b < columns; ++b) {
      const std::size_t e = i * m + product_.right + b;
      for (std::size_t a = 0; a < rows; ++a) x[e * rows + a] = gain(at) * l[a];
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
    out[i] = std::abs(gain(x)) * std::sqrt(square);
  }
}

// |l|^2 - |r|^2; with a gain g^2 - |l|^2 and g^2 - |r|^2.
bool Moments::conserved(const double* theta, std::size_t count, double* out) const {
  for (std::size_t i = 0; i < count; ++i) {
    const double* x = theta + i * product_.params;
    const double left = dot(product_.rows, x + product_.left, x + product_.left);
    const double right = dot(product_.columns, x + product_.right, x + product_.right);
    if (product_.gained) {
      const double square = gain(x) * gain(x);
      out[2 * i] = square - left;
      out[2 * i + 1] = square - right;
    } else {
      out[i] = left - right;
    }
  }
  return true;
}

// l <- s l, r <- t r, g <- g / (s t), where s t = 1 with no gain: Newton in the logarithms from so close by needs two
// or three steps.
void Moments::rebalance(double* theta, std::size_t count, const double* balance, double* scale) const {
  constexpr int most = 8;
  for (std::size_t i = 0; i < count; ++i) {
    double* x = theta + i * product_.params;
    const double left = dot(product_.rows, x + product_.left, x + product_.left);
    const double right = dot(product_.columns, x + product_.right, x + product_.right);
    double log_left = 0, log_right = 0;
    if (product_.gained) {
      const double square = gain(x) * gain(x);
      for (int k = 0; k < most; ++k) {
        const double g = square * std::exp(-2 * (log_left + log_right));
        const double a = left * std::exp(2 * log_left), b = right * std::exp(2 * log_right);
        const double first = 0.5 * (g - a - balance[2 * i]), second = 0.5 * (g - b - balance[2 * i + 1]);
        const double determinant = g * (a + b) + a * b;
        log_left += ((g + b) * first - g * second) / determinant;
        log_right += ((g + a) * second - g * first) / determinant;
      }
    } else {
      for (int k = 0; k < most; ++k) {
        const double a = left * std::exp(-2 * log_right), b = right * std::exp(2 * log_right);
        log_right += (a - b - balance[i]) / (2 * (a + b));
      }
      log_left = -log_right;
    }
    // A neuron that has all but lost one of its factors has no balance to speak of.
    if (!(std::abs(log_left) < 0.5 && std::abs(log_right) < 0.5)) log_left = log_right = 0;
    const double s = std::exp(log_left), t = std::exp(log_right);
    scale[i] = s;
    for (std::size_t a = 0; a < product_.rows; ++a) x[product_.left + a] *= s;
    for (std::size_t b = 0; b < product_.columns; ++b) x[product_.right + b] *= t;
    if (product_.gained) x[product_.gain] /= s * t;
  }
}

double Moments::evaluation_flops(std::size_t count) const {
  return 6.0 * static_cast<double>(size()) * static_cast<double>(count) + 2 * design_->flops();
}
double Moments::utility_hessian_flops(std::size_t count) const {
  const auto m = static_cast<double>(product_.params);
  return static_cast<double>(count) * (4.0 * static_cast<double>(size()) + m * m);
}
double Moments::loss_hessian_flops(std::size_t count) const {
  const std::size_t n = count * product_.params;
  return design_->gram_flops(n) + 4.0 * static_cast<double>(n) * static_cast<double>(n) + utility_hessian_flops(count);
}

}  // namespace agf::cpu
