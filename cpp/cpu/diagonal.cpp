#include "cpu/diagonal.hpp"

#include <numeric>

#include "agf/linear.hpp"

namespace agf::cpu {
namespace {

// prod_{k but l, m} u_k; l = m leaves one out.
template <typename T>
double product_without(const T* u, std::size_t depth, std::size_t l, std::size_t m) {
  double product = 1;
  for (std::size_t k = 0; k < depth; ++k)
    if (k != l && k != m) product *= static_cast<double>(u[k]);
  return product;
}

}  // namespace

template <typename T>
DiagonalCpu<T>::DiagonalCpu(const T* columns, const T* y, std::size_t n, std::size_t d, std::size_t depth)
    : design_(columns, n, d), y_(y, y + n), depth_(depth), all_(d) {
  std::iota(all_.begin(), all_.end(), std::size_t{0});
}

template <typename T>
std::vector<double> DiagonalCpu<T>::products(const T* theta) const {
  std::vector<double> beta(inputs());
  for (std::size_t i = 0; i < beta.size(); ++i) beta[i] = product_without(theta + i * depth_, depth_, depth_, depth_);
  return beta;
}

template <typename T>
std::vector<double> DiagonalCpu<T>::residual_of(const std::vector<double>& beta) const {
  std::vector<double> negative(beta.size()), r(y_);
  for (std::size_t i = 0; i < beta.size(); ++i) negative[i] = -beta[i];
  design_.combine(all_, negative.data(), r.data());
  return r;
}

template <typename T>
std::vector<double> DiagonalCpu<T>::correlation(const std::vector<double>& r) const {
  std::vector<double> g(inputs());
  design_.correlate(r.data(), g.data());
  for (double& x : g) x /= static_cast<double>(samples());
  return g;
}

template <typename T>
double DiagonalCpu<T>::residual(const T* theta, T* r) const {
  const std::vector<double> full = residual_of(products(theta));
  for (std::size_t i = 0; i < full.size(); ++i) r[i] = static_cast<T>(full[i]);
  return 0.5 * dot(full.size(), full.data(), full.data()) / static_cast<double>(full.size());
}

template <typename T>
double DiagonalCpu<T>::loss(const T* theta) const {
  const std::vector<double> r = residual_of(products(theta));
  return 0.5 * dot(r.size(), r.data(), r.data()) / static_cast<double>(r.size());
}

template <typename T>
void DiagonalCpu<T>::utility(const T* theta, const T* r, T* value, T* gradient) const {
  const std::vector<double> g = correlation(r ? std::vector<double>(r, r + samples()) : residual_of(products(theta)));
  for (std::size_t i = 0; i < inputs(); ++i) {
    const T* u = theta + i * depth_;
    if (value) value[i] = static_cast<T>(g[i] * product_without(u, depth_, depth_, depth_));
    if (!gradient) continue;
    for (std::size_t l = 0; l < depth_; ++l)
      gradient[i * depth_ + l] = static_cast<T>(g[i] * product_without(u, depth_, l, l));
  }
}

template <typename T>
void DiagonalCpu<T>::hessian_vector(const T* theta, const T* v, T* out) const {
  // L's gradient is -g_i dbeta_i/du: its derivative along v has the second derivatives of beta_i, and the change
  // -E[x_i sum_j x_j dbeta_j] of g_i.
  const std::vector<double> g = correlation(residual_of(products(theta)));
  std::vector<double> change(inputs(), 0.0), image(samples(), 0.0);
  for (std::size_t i = 0; i < inputs(); ++i)
    for (std::size_t l = 0; l < depth_; ++l)
      change[i] += product_without(theta + i * depth_, depth_, l, l) * static_cast<double>(v[i * depth_ + l]);
  design_.combine(all_, change.data(), image.data());
  const std::vector<double> pulled = correlation(image);
  for (std::size_t i = 0; i < inputs(); ++i) {
    const T* u = theta + i * depth_;
    for (std::size_t l = 0; l < depth_; ++l) {
      double sum = pulled[i] * product_without(u, depth_, l, l);
      for (std::size_t m = 0; m < depth_; ++m)
        if (m != l) sum -= g[i] * product_without(u, depth_, l, m) * static_cast<double>(v[i * depth_ + m]);
      out[i * depth_ + l] = static_cast<T>(sum);
    }
  }
}

template <typename T>
void DiagonalCpu<T>::predict(const T* theta, const T* x, std::size_t rows, T* f) const {
  const std::vector<double> beta = products(theta);
  for (std::size_t i = 0; i < rows; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < beta.size(); ++j) sum += static_cast<double>(x[i * beta.size() + j]) * beta[j];
    f[i] = static_cast<T>(sum);
  }
}

template class DiagonalCpu<float>;
template class DiagonalCpu<double>;

}  // namespace agf::cpu
