#include "cpu/diagonal.hpp"

#include <numeric>

#include "agf/diagonal_leaf.hpp"
#include "agf/linear.hpp"

namespace agf::cpu {

template <typename T>
DiagonalCpu<T>::DiagonalCpu(const T* columns, const T* y, std::size_t n, std::size_t d, std::size_t depth)
    : design_(columns, n, d), y_(y, y + n), depth_(depth), all_(d) {
  std::iota(all_.begin(), all_.end(), std::size_t{0});
}

template <typename T>
std::vector<double> DiagonalCpu<T>::products(const T* theta) const {
  std::vector<double> beta(inputs());
  for (std::size_t i = 0; i < beta.size(); ++i) beta[i] = leaf::coefficient(theta + i * depth_, depth_);
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
    if (value) value[i] = static_cast<T>(g[i] * leaf::coefficient(u, depth_));
    if (!gradient) continue;
    for (std::size_t l = 0; l < depth_; ++l)
      gradient[i * depth_ + l] = static_cast<T>(g[i] * leaf::coefficient_slope(u, depth_, l));
  }
}

template <typename T>
void DiagonalCpu<T>::hessian_vector(const T* theta, const T* v, T* out) const {
  const std::vector<double> g = correlation(residual_of(products(theta)));
  std::vector<double> change(inputs()), image(samples(), 0.0);
  for (std::size_t i = 0; i < inputs(); ++i)
    change[i] = leaf::coefficient_change(theta + i * depth_, v + i * depth_, depth_);
  design_.combine(all_, change.data(), image.data());
  const std::vector<double> pulled = correlation(image);
  for (std::size_t i = 0; i < inputs(); ++i)
    for (std::size_t l = 0; l < depth_; ++l)
      out[i * depth_ + l] =
          static_cast<T>(leaf::hessian_vector_entry(theta + i * depth_, v + i * depth_, depth_, l, g[i], pulled[i]));
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
