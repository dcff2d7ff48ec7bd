// The step between analysis and readout: the elementwise loops of pointwise.hpp on numbers of each sample and neuron,
// as the product that makes the first of them goes on (product.cuh).
#pragma once

#include <stddef.h>

#include <utility>

#include "agf/pointwise.hpp"
#include "product.cuh"

namespace AGF_SPACE::cuda {

// One number of each sample and neuron, (rows, count): of . with + of_too . with_too at first, and what the step makes
// of it where it is `kept`. Rows of `of` follow one another, those of `with` are a neuron's parameters apart.
template <typename T>
struct Number {
  const T *of, *with;
  size_t length;  // 0: nothing yet
  const T *of_too, *with_too;
  T* at;
  bool kept = true;
  bool there = false;  // `at` holds it before the step

  AGF_DEVICE T dot(size_t sample, size_t neuron, size_t m) const {
    T sum = T(0);
    for (size_t l = 0; l < length; ++l) sum += of[sample * length + l] * with[neuron * m + l];
    if (of_too)
      for (size_t l = 0; l < length; ++l) sum += of_too[sample * length + l] * with_too[neuron * m + l];
    return sum;
  }
};

// Made by the step alone.
template <typename T>
AGF_CORE Number<T> later(T* at) {
  return {nullptr, nullptr, 0, nullptr, nullptr, at};
}
template <typename T>
AGF_CORE Number<T> unkept(Number<T> number) {
  number.kept = false;
  return number;
}

// The step at one sample and neuron.
template <typename T, typename Loop, typename... Numbers>
#if defined(AGF_BLOCK)
AGF_CORE AGF_APART
#else
AGF_HD
#endif
    void bend(Nonlinearity sigma, const T* ramp, Loop loop, Numbers*... numbers) {
  leaf::pointwise(sigma, ramp, 1, 1, loop, numbers...);
}

// Loop on `numbers` of them, of which a product makes the first.
template <typename T, typename Loop, size_t numbers>
struct Bent {
  // Weights of a neuron that a thread holds for all its samples, for the dots beside the product: of one Number, or of
  // three with two dots at most. Longer ones are products of their own.
  static constexpr bool alone = numbers <= 2;
  static constexpr size_t short_dot = alone ? 12 : 4;

  Nonlinearity sigma;
  const T* ramp;
  size_t count, m;
  Number<T> number[numbers];

  struct Column {
    const Bent& all;
    size_t j;
    T width;
    T with[numbers][short_dot], with_too[numbers][alone ? 1 : short_dot];

    AGF_DEVICE void operator()(size_t i, T sum) const {
      T value[numbers];
      value[0] = sum;
#pragma unroll
      for (size_t q = 1; q < numbers; ++q) value[q] = begin(q, i);
      all.step(i, j, width, value, std::make_index_sequence<numbers>{});
    }
    AGF_DEVICE T begin(size_t q, size_t i) const {
      const Number<T>& of = all.number[q];
      if (of.there) return of.at[i * all.count + j];
      T sum = T(0);
#pragma unroll
      for (size_t l = 0; l < short_dot; ++l)
        if (l < of.length) sum += of.of[i * of.length + l] * with[q][l];
      if constexpr (!alone) {
#pragma unroll
        for (size_t l = 0; l < short_dot; ++l)
          if (of.of_too && l < of.length) sum += of.of_too[i * of.length + l] * with_too[q][l];
      }
      return sum;
    }
  };

  AGF_CORE bool is_short(size_t q) const { return number[q].length <= short_dot && !(alone && number[q].of_too); }
  AGF_DEVICE Column of(size_t, size_t j) const {
    Column column{*this, j, ramp ? ramp[j] : T(0), {}, {}};
#pragma unroll
    for (size_t q = 1; q < numbers; ++q) {
      const Number<T>& of = number[q];
#pragma unroll
      for (size_t l = 0; l < short_dot; ++l) {
        const bool has = !of.there && l < of.length;
        column.with[q][l] = has ? of.with[j * m + l] : T(0);
        if constexpr (!alone) column.with_too[q][l] = has && of.of_too ? of.with_too[j * m + l] : T(0);
      }
    }
    return column;
  }

#if defined(AGF_BLOCK)
  // The first by a dot as well, and dots of any length.
  AGF_CORE void make(size_t i, size_t j) const {
    T value[numbers];
    for (size_t q = 0; q < numbers; ++q) value[q] = number[q].dot(i, j, m);
    step(i, j, ramp ? ramp[j] : T(0), value, std::make_index_sequence<numbers>{});
  }
#endif

  template <size_t... q>
  AGF_DEVICE void step(size_t i, size_t j, T width, T* value, std::index_sequence<q...>) const {
    bend(sigma, ramp ? &width : nullptr, Loop{}, (value + q)...);
    const size_t e = i * count + j;
#pragma unroll
    for (size_t k = 0; k < numbers; ++k)
      if (number[k].kept) number[k].at[e] = value[k];
  }
};

}  // namespace AGF_SPACE::cuda
