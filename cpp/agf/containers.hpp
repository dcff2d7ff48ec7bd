// The containers of the engines, and loops over what they hold.
#pragma once

#include <cstddef>

#include "config.hpp"

#if defined(AGF_BLOCK)
#include AGF_BLOCK  // names the header of those in a block
#else
#include <memory>
#include <utility>
#include <vector>
#endif

namespace AGF_SPACE {

#if !defined(AGF_BLOCK)

template <typename T>
using Array = std::vector<T>;
template <typename T>
using Owned = std::unique_ptr<T>;

template <typename T, typename... Arguments>
Owned<T> make_owned(Arguments&&... arguments) {
  return std::make_unique<T>(std::forward<Arguments>(arguments)...);
}

// f(0), ..., f(n - 1), each by itself and in any order: in a block the threads share them, so f holds numbers and
// pointers into arrays by value, and nothing of the thread that steers. The second number, where it is given: about how
// many operations each of them is, which says whether few of them are worth sharing.
template <typename F>
void each(std::size_t n, std::size_t, const F& f) {
  for (std::size_t i = 0; i < n; ++i) f(i);
}
template <typename F>
void each(std::size_t n, const F& f) {
  each(n, 1, f);
}

// The same over every entry of rows: f(row, entry), entry = row * length, ..., (row + 1) * length - 1.
template <typename F>
void entries(std::size_t rows, std::size_t length, const F& f) {
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t i = row * length; i < (row + 1) * length; ++i) f(row, i);
}

// sum_i f(i)
template <typename F>
double total(std::size_t n, std::size_t, const F& f) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += f(i);
  return sum;
}
template <typename F>
double total(std::size_t n, const F& f) {
  return total(n, 1, f);
}

// The largest of f(i) >= 0, or of 0 where there is none; not a number where one of them is.
template <typename F>
double largest(std::size_t n, std::size_t, const F& f) {
  double most = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double value = f(i);
    most = value <= most || most != most ? most : value;
  }
  return most;
}
template <typename F>
double largest(std::size_t n, const F& f) {
  return largest(n, 1, f);
}

// Whether f(i) holds for all i.
template <typename F>
bool every(std::size_t n, std::size_t, const F& f) {
  for (std::size_t i = 0; i < n; ++i)
    if (!f(i)) return false;
  return true;
}
template <typename F>
bool every(std::size_t n, const F& f) {
  return every(n, 1, f);
}

#endif

// Of one piece of work that is worth sharing by itself.
inline constexpr std::size_t long_work = 1000;

// As `each`, where a single f(i) is long enough to be worth sharing.
template <typename F>
AGF_CORE void each_task(std::size_t n, const F& f) {
  each(n, long_work, f);
}

}  // namespace AGF_SPACE
