// The leaves of problems with any number of neurons, on arrays of Python, wherever they are.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "bind/arrays.hpp"
#include "bind/kernel.hpp"

namespace agf::bind {

// In place of a scalar type: float or double, call by call as theta is.
struct Either {};

// What arguments are expected to be.
struct Layout {
  std::string blocks;         // of a row of parameters, in words
  std::size_t rows, columns;  // of a residual
  std::string residual;       // in words
};

// `On` computes the leaves on arrays of T and makes place `Place`, whose call<T>(theta) holds the arrays of one call
// and runs a leaf on them, with arguments of its own before the leaf's where it has some, such as a stream.
template <typename On, typename T, typename Place>
class Leaves : public Kernel {
 public:
  Leaves(std::shared_ptr<const Problem> p, std::shared_ptr<const On> on, Layout layout)
      : Kernel(std::move(p)), on_(std::move(on)), layout_(std::move(layout)), place_(*on_) {}

  double loss(const pybind11::object& theta) const {
    return begin(theta, [&](auto& call, const auto* at, std::size_t count) {
      double value = 0;
      call.leaf([&](auto... where) { value = on_->loss(where..., at, count); });
      return value;
    });
  }

  pybind11::object residual(const pybind11::object& theta) const {
    return begin(theta, [&](auto& call, const auto* at, std::size_t count) {
      auto* const r = call.result({rows(), columns()});
      call.leaf([&](auto... where) { on_->residual(where..., at, count, r); });
      return call.take();
    });
  }

  pybind11::object utility(const pybind11::object& theta, const pybind11::object& residual) const {
    return evaluate(theta, residual, true, false);
  }
  pybind11::object utility_gradient(const pybind11::object& theta, const pybind11::object& residual) const {
    return evaluate(theta, residual, false, true);
  }
  pybind11::object utility_and_gradient(const pybind11::object& theta, const pybind11::object& residual) const {
    return evaluate(theta, residual, true, true);
  }

  pybind11::object hessian_vector(const pybind11::object& theta, const pybind11::object& v) const {
    return begin(theta, [&](auto& call, const auto* at, std::size_t count) {
      const auto height = static_cast<pybind11::ssize_t>(count);
      const auto* const along = neurons(call, v, "v", height);
      auto* const out = call.result({height, params()});
      call.leaf([&](auto... where) { on_->hessian_vector(where..., at, along, count, out); });
      return call.take();
    });
  }

  pybind11::object hessian(const pybind11::object& theta) const {
    return begin(theta, [&](auto& call, const auto* at, std::size_t count) {
      const pybind11::ssize_t size = static_cast<pybind11::ssize_t>(count) * params();
      auto* const out = call.result({size, size});
      call.leaf([&](auto... where) { on_->hessian(where..., at, count, out); });
      return call.take();
    });
  }

 protected:
  const On& on() const { return *on_; }

  // work(call, numbers of theta, its neurons)
  template <typename Work>
  auto begin(const pybind11::object& theta, const Work& work) const {
    const auto typed = [&]<typename U>(U) {
      auto call = place_.template call<U>(theta);
      const U* const at = neurons(call, theta, "theta", -1);
      return work(call, at, call.count());
    };
    if constexpr (std::is_same_v<T, Either>) {
      return is_single(theta) ? typed(float{}) : typed(double{});
    } else {
      return typed(T{});
    }
  }

 private:
  // What is neither float32 nor float64 is refused where it is read.
  static bool is_single(const pybind11::object& theta) {
    if (pybind11::isinstance<pybind11::array>(theta)) return pybind11::isinstance<pybind11::array_t<float>>(theta);
    return pybind11::hasattr(theta, "dtype") && std::string(pybind11::str(theta.attr("dtype"))) == "float32";
  }

  pybind11::ssize_t rows() const { return static_cast<pybind11::ssize_t>(layout_.rows); }
  pybind11::ssize_t columns() const { return static_cast<pybind11::ssize_t>(layout_.columns); }
  pybind11::ssize_t params() const { return static_cast<pybind11::ssize_t>(problem->params()); }

  template <typename Call>
  auto neurons(Call& call, const pybind11::object& object, const char* name, pybind11::ssize_t count) const {
    return call.matrix(object, name, count, params(),
                       expected_text(count, params(), "one row " + layout_.blocks + " per neuron"));
  }

  pybind11::object evaluate(const pybind11::object& theta, const pybind11::object& residual, bool with_value,
                            bool with_gradient) const {
    return begin(theta, [&]<typename U>(auto& call, const U* at, std::size_t count) -> pybind11::object {
      const U* const r = residual.is_none() ? nullptr
                                            : call.matrix(residual, "residual", rows(), columns(),
                                                          expected_text(rows(), columns(), layout_.residual));
      const auto height = static_cast<pybind11::ssize_t>(count);
      U* const value = with_value ? call.result({height}) : nullptr;
      U* const gradient = with_gradient ? call.result({height, params()}) : nullptr;
      call.leaf([&](auto... where) { on_->utility(where..., at, count, r, value, gradient); });
      pybind11::object first = call.take();
      if (!(with_value && with_gradient)) return first;
      return pybind11::make_tuple(std::move(first), call.take());
    });
  }

  std::shared_ptr<const On> on_;
  Layout layout_;
  Place place_;
};

// Those of two-layer networks on samples, which new samples can be given to.
template <typename On, typename T, typename Place>
class DenseLeaves : public Leaves<On, T, Place> {
 public:
  explicit DenseLeaves(std::shared_ptr<const On> on) : Leaves<On, T, Place>(on, on, layout(*on)) {}

  pybind11::object predict(const pybind11::object& theta, const pybind11::object& x) const {
    return this->begin(theta, [&](auto& call, const T* at, std::size_t count) {
      const auto d = static_cast<pybind11::ssize_t>(inputs());
      const T* data = call.matrix(x, "X_new", -1, d, "(k, " + std::to_string(d) + "): one row of inputs per sample");
      const std::size_t k = call.count();
      T* f = call.result({static_cast<pybind11::ssize_t>(k), static_cast<pybind11::ssize_t>(this->on().outputs())});
      call.leaf([&](auto... where) { this->on().predict(where..., at, count, data, k, f); });
      return call.take();
    });
  }

  std::size_t inputs() const { return this->on().inputs(); }

 private:
  static Layout layout(const On& on) {
    return {"[w (" + std::to_string(on.inputs()) + ") | a (" + std::to_string(on.outputs()) + ")]", on.samples(),
            on.outputs(), "the shape of Y"};
  }
};

// The class in Python, with the leaves by their names.
template <typename K, typename Base = Kernel>
pybind11::class_<K, Base> bind_leaves(pybind11::module_& m, const char* name) {
  const auto theta = pybind11::arg("theta");
  const auto residual = pybind11::arg("residual") = pybind11::none();
  pybind11::class_<K, Base> leaves(m, name);
  leaves.def("loss", &K::loss, theta)
      .def("residual", &K::residual, theta)
      .def("utility", &K::utility, theta, residual)
      .def("utility_gradient", &K::utility_gradient, theta, residual)
      .def("utility_and_gradient", &K::utility_and_gradient, theta, residual)
      .def("hessian_vector", &K::hessian_vector, theta, pybind11::arg("v"));
  if constexpr (requires { &K::hessian; }) leaves.def("hessian", &K::hessian, theta);
  return leaves;
}

template <typename K, typename T>
void bind_dense_leaves(pybind11::module_& m, const char* name) {
  bind_leaves<K>(m, name)
      .def("predict", &K::predict, pybind11::arg("theta"), pybind11::arg("X_new"))
      .def_property_readonly("n_inputs", &K::inputs)
      .def_property_readonly("dtype", [](const K&) { return pybind11::dtype::of<T>(); });
}

}  // namespace agf::bind
