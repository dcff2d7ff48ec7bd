// The leaves of a problem that computes in double, on arrays of float or double.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "agf/problem.hpp"

namespace agf::bind {

// P's spread(signal, array) writes a residual as an array of `size` numbers, and gather(array, signal) reads it.
template <typename P>
class InDouble {
 public:
  InDouble(std::shared_ptr<const P> problem, std::size_t size) : problem_(std::move(problem)), size_(size) {}

  const P& problem() const { return *problem_; }

  template <typename T>
  double loss(const T* theta, std::size_t count) const {
    const In<T> at(theta, entries(count));
    const auto r = problem_->make_signal();
    return problem_->residual(at.data(), count, *r);
  }

  template <typename T>
  void residual(const T* theta, std::size_t count, T* out) const {
    const In<T> at(theta, entries(count));
    Out<T> values(out, size_);
    problem_->spread(*signal_of(at.data(), count), values.data());
    values.give();
  }

  // r of all rows where it is null; either output may be null.
  template <typename T>
  void utility(const T* theta, std::size_t count, const T* r, T* value, T* gradient) const {
    const In<T> at(theta, entries(count)), given(r, size_);
    Out<T> values(value, count), gradients(gradient, entries(count));
    const auto signal = signal_of(at.data(), count, given.data());
    problem_->utility(at.data(), count, *signal, values.data(), gradients.data());
    values.give();
    gradients.give();
  }

  // hess L v, minus the derivative along v of grad U(theta; r), at fixed r and through r.
  template <typename T>
  void hessian_vector(const T* theta, const T* v, std::size_t count, T* out) const {
    const In<T> at(theta, entries(count)), along(v, entries(count));
    Out<T> values(out, entries(count));
    const auto r = signal_of(at.data(), count), dr = problem_->make_signal();
    problem_->residual_derivative(at.data(), along.data(), count, *dr);
    problem_->curvature_vector(at.data(), along.data(), count, *r, dr.get(), values.data());
    for (std::size_t e = 0; e < entries(count); ++e) values.data()[e] = -values.data()[e];
    values.give();
  }

  template <typename T>
  void hessian(const T* theta, std::size_t count, T* out) const {
    const In<T> at(theta, entries(count));
    Out<T> values(out, entries(count) * entries(count));
    problem_->loss_hessian(at.data(), count, *signal_of(at.data(), count), values.data());
    values.give();
  }

 private:
  // Numbers in double, the array's own where it has them; null where that is.
  template <typename T>
  class In {
   public:
    In(const T* array, std::size_t size) : array_(array) {
      if constexpr (!std::is_same_v<T, double>) {
        if (array) copy_.assign(array, array + size);
      }
    }
    const double* data() const {
      if constexpr (std::is_same_v<T, double>)
        return array_;
      else
        return array_ ? copy_.data() : nullptr;
    }

   private:
    const T* array_;
    std::vector<double> copy_;
  };

  template <typename T>
  class Out {
   public:
    Out(T* array, std::size_t size) : array_(array) {
      if constexpr (!std::is_same_v<T, double>) copy_.resize(array ? size : 0);
    }
    double* data() {
      if constexpr (std::is_same_v<T, double>)
        return array_;
      else
        return array_ ? copy_.data() : nullptr;
    }
    void give() {
      for (std::size_t i = 0; i < copy_.size(); ++i) array_[i] = static_cast<T>(copy_[i]);
    }

   private:
    T* array_;
    std::vector<double> copy_;
  };

  std::size_t entries(std::size_t count) const { return count * problem_->params(); }

  // The given residual, or that of the rows themselves.
  std::unique_ptr<Signal> signal_of(const double* at, std::size_t count, const double* given = nullptr) const {
    auto r = problem_->make_signal();
    if (given) {
      problem_->gather(given, *r);
    } else {
      problem_->residual(at, count, *r);
    }
    return r;
  }

  std::shared_ptr<const P> problem_;
  std::size_t size_;
};

}  // namespace agf::bind
