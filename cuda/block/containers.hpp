// The containers of the engines in a block: memory is the run's, and what is long is shared by the threads.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "block/crew.cuh"
#include "block/entries.hpp"
#include "block/systems.cuh"

namespace AGF_SPACE {

namespace cuda {

// One thread an element.
template <typename F>
struct Shared {
  static constexpr bool apart = true;
  std::size_t n;
  F f;
  AGF_DEVICE void operator()(const Team& team) const {
    for (std::size_t i = team.thread(); i < n; i += crew_width) f(i);
  }
};

// One number of many, in a fixed order: every thread's own, then theirs in groups, then those of the groups, which lie
// in shared memory behind all threads'.
inline constexpr unsigned join_group = crew_width >= 64 ? 8 : 2, join_groups = crew_width / join_group;
template <typename F, typename Join>
struct Reduced {
  std::size_t n;
  F f;
  Join join;
  double start = 0;
  AGF_DEVICE void operator()(const Team& team) const {
    double* const part = team.shared<double>();
    double mine = start;
    for (std::size_t i = team.thread(); i < n; i += crew_width) mine = join(mine, f(i));
    part[team.thread()] = mine;
    team.barrier();
    if (team.thread() >= join_groups) return;
    mine = part[team.thread()];
    for (unsigned q = 1; q < join_group; ++q) mine = join(mine, part[team.thread() + q * join_groups]);
    part[crew_width + team.thread()] = mine;
  }
};

// What comes of it, for the thread that steers.
template <typename Join>
AGF_CORE double joined(const Join& join) {
  const double* const part = crew().team.template shared<double>() + crew_width;
  double all = part[0];
  for (unsigned q = 1; q < join_groups; ++q) all = join(all, part[q]);
  return all;
}

template <typename F, typename Join>
AGF_CORE AGF_APART double reduce(std::size_t n, std::size_t work, const F& f, const Join& join, double start = 0) {
  if (n < 2 || n * work < 2 * worth_sharing) {
    double all = start;
    for (std::size_t i = 0; i < n; ++i) all = join(all, f(i));
    return all;
  }
  share(1, Reduced<F, Join>{n, f, join, start});
  return joined(join);
}

}  // namespace cuda

// See agf/containers.hpp.
template <typename F>
AGF_CORE AGF_APART void each(std::size_t n, std::size_t work, const F& f) {
  if (n < 2 || n * work < cuda::worth_sharing) {
    for (std::size_t i = 0; i < n; ++i) f(i);
  } else {
    cuda::share(1, cuda::Shared<F>{n, f});
  }
}

template <typename F>
AGF_CORE void each(std::size_t n, const F& f) {
  each(n, 1, f);
}

template <typename F>
AGF_CORE void entries(std::size_t rows, std::size_t length, const F& f) {
  // Half as wide, division takes a fraction of the time.
  const auto width = static_cast<unsigned>(length);
  each(rows * length, [=](std::size_t i) { f(static_cast<unsigned>(i) / width, i); });
}

template <typename F>
AGF_CORE double total(std::size_t n, std::size_t work, const F& f) {
  return cuda::reduce(n, work, f, [](double a, double b) { return a + b; });
}

template <typename F>
AGF_CORE double total(std::size_t n, const F& f) {
  return total(n, 1, f);
}

template <typename F>
AGF_CORE double largest(std::size_t n, std::size_t work, const F& f) {
  // std::max would drop what is not a number.
  return cuda::reduce(n, work, f, [](double a, double b) { return b <= a || a != a ? a : b; });
}

template <typename F>
AGF_CORE double largest(std::size_t n, const F& f) {
  return largest(n, 1, f);
}

template <typename F>
AGF_CORE bool every(std::size_t n, std::size_t work, const F& f) {
  return largest(n, work, [=](std::size_t i) { return f(i) ? 0.0 : 1.0; }) == 0;
}

template <typename F>
AGF_CORE bool every(std::size_t n, const F& f) {
  return every(n, 1, f);
}

// The part of std::vector that the engines use.
template <typename T>
class Array {
 public:
  using value_type = T;

  AGF_CORE Array() {}
  AGF_CORE explicit Array(std::size_t n) { resize(n); }
  AGF_CORE Array(std::size_t n, const T& value) { assign(n, value); }
  AGF_CORE Array(std::initializer_list<T> values) {
    reserve(values.size());
    for (const T& value : values) push_back(value);
  }
  AGF_CORE Array(const T* first, const T* last) { assign(first, last); }
  AGF_CORE Array(const Array& other) { assign(other.begin(), other.end()); }
  AGF_CORE Array(Array&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  AGF_CORE ~Array() { release(); }
  AGF_CORE Array& operator=(const Array& other) {
    if (this != &other) assign(other.begin(), other.end());
    return *this;
  }
  AGF_CORE Array& operator=(Array&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  AGF_CORE Array& operator=(std::initializer_list<T> values) {
    clear();
    for (const T& value : values) push_back(value);
    return *this;
  }

  AGF_CORE std::size_t size() const { return size_; }
  AGF_CORE bool empty() const { return size_ == 0; }
  AGF_CORE T* data() { return at_; }
  AGF_CORE const T* data() const { return at_; }
  AGF_CORE T* begin() { return at_; }
  AGF_CORE const T* begin() const { return at_; }
  AGF_CORE T* end() { return at_ + size_; }
  AGF_CORE const T* end() const { return at_ + size_; }
  AGF_CORE T& operator[](std::size_t i) { return at_[i]; }
  AGF_CORE const T& operator[](std::size_t i) const { return at_[i]; }
  AGF_CORE T& front() { return at_[0]; }
  AGF_CORE const T& front() const { return at_[0]; }
  AGF_CORE T& back() { return at_[size_ - 1]; }
  AGF_CORE const T& back() const { return at_[size_ - 1]; }

  AGF_CORE friend void swap(Array& a, Array& b) {
    Array kept(std::move(a));
    a = std::move(b);
    b = std::move(kept);
  }

  AGF_CORE void clear() { shrink(0); }
  AGF_CORE AGF_APART void reserve(std::size_t capacity) {
    if (capacity <= capacity_) return;
    T* const at = static_cast<T*>(cuda::take_memory(capacity * sizeof(T)));
    if constexpr (trivial) {
      transfer(size_, at_, at);
    } else {
      for (std::size_t i = 0; i < size_; ++i) {
        ::new (static_cast<void*>(at + i)) T(std::move(at_[i]));
        at_[i].~T();
      }
    }
    if (at_) cuda::give_memory(at_, capacity_ * sizeof(T));
    at_ = at;
    capacity_ = capacity;
  }
  AGF_CORE void resize(std::size_t n) { resize(n, T()); }
  AGF_CORE AGF_APART void resize(std::size_t n, const T& value) {
    if (n <= size_) return shrink(n);
    reserve(n);
    fill(at_ + size_, n - size_, value);
    size_ = n;
  }
  AGF_CORE AGF_APART void assign(std::size_t n, const T& value) {
    const T kept = value;
    clear();
    resize(n, kept);
  }
  AGF_CORE AGF_APART void assign(const T* first, const T* last) {
    const auto n = static_cast<std::size_t>(last - first);
    clear();
    reserve(n);
    place(n, first, at_);
    size_ = n;
  }
  AGF_CORE void push_back(const T& value) { push_back(T(value)); }
  AGF_CORE AGF_APART void push_back(T&& value) {
    if (size_ == capacity_) {
      T kept(std::move(value));
      reserve(size_ < 4 ? 4 : 2 * size_);
      ::new (static_cast<void*>(at_ + size_++)) T(std::move(kept));
    } else {
      ::new (static_cast<void*>(at_ + size_++)) T(std::move(value));
    }
  }
  // At the end only.
  AGF_CORE AGF_APART void insert(const T* where, const T* first, const T* last) {
    (void)where;
    const auto n = static_cast<std::size_t>(last - first);
    reserve(size_ + n);
    place(n, first, at_ + size_);
    size_ += n;
  }
  AGF_CORE AGF_APART void erase(const T* first, const T* last) {
    T* const to = at_ + (first - at_);
    T* const from = at_ + (last - at_);
    for (T *a = to, *b = from; b != end(); ++a, ++b) *a = std::move(*b);
    shrink(size_ - static_cast<std::size_t>(from - to));
  }

 private:
  static constexpr bool trivial = std::is_trivially_copyable_v<T>;

  AGF_CORE static void transfer(std::size_t n, const T* from, T* to) {
    each(n, [=](std::size_t i) { to[i] = from[i]; });
  }
  AGF_CORE static void place(std::size_t n, const T* from, T* to) {
    if constexpr (trivial) {
      transfer(n, from, to);
    } else {
      for (std::size_t i = 0; i < n; ++i) ::new (static_cast<void*>(to + i)) T(from[i]);
    }
  }
  AGF_CORE static void fill(T* to, std::size_t n, const T& value) {
    if constexpr (trivial) {
      const T kept = value;
      each(n, [=](std::size_t i) { to[i] = kept; });
    } else {
      for (std::size_t i = 0; i < n; ++i) ::new (static_cast<void*>(to + i)) T(value);
    }
  }
  AGF_CORE void shrink(std::size_t n) {
    if constexpr (!std::is_trivially_destructible_v<T>)
      for (std::size_t i = n; i < size_; ++i) at_[i].~T();
    size_ = n;
  }
  AGF_CORE AGF_APART void release() {
    shrink(0);
    if (at_) cuda::give_memory(at_, capacity_ * sizeof(T));
  }

  T* at_ = nullptr;
  std::size_t size_ = 0, capacity_ = 0;
};

// See agf/entries.hpp.
template <typename F>
AGF_CORE double plus_total(double start, std::size_t n, const F& f) {
  return start + total(n, f);
}

template <typename F>
AGF_CORE double least(std::size_t n, std::size_t work, const F& f) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  return cuda::reduce(n, work, f, [](double a, double b) { return b < a ? b : a; }, infinity);
}

template <typename F>
AGF_CORE AGF_APART void where(std::size_t n, const F& f, Array<std::size_t>& found) {
  found.clear();
  if (n < cuda::worth_sharing) {
    for (std::size_t i = 0; i < n; ++i)
      if (f(i)) found.push_back(i);
    return;
  }
  found.resize(n + 1);
  cuda::share(1, cuda::Where<F>{n, f, found.data()});
  found.resize(found[n]);
}

// The part of std::unique_ptr that the engines use. What it owns knows its size by itself.
template <typename T>
class Owned {
 public:
  AGF_CORE Owned() {}
  AGF_CORE Owned(T* at, std::size_t bytes) : at_(at), bytes_(bytes) {}
  AGF_CORE Owned(Owned&& other) noexcept { swap(other); }
  template <typename U>
  AGF_CORE Owned(Owned<U>&& other) noexcept : bytes_(other.bytes()) {
    at_ = other.release();
  }
  AGF_CORE Owned& operator=(Owned&& other) noexcept {
    swap(other);
    return *this;
  }
  AGF_CORE ~Owned() {
    if (!at_) return;
    at_->~T();
    cuda::give_memory(at_, bytes_);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  AGF_CORE T& operator*() const { return *at_; }
  AGF_CORE T* operator->() const { return at_; }
  AGF_CORE T* get() const { return at_; }
  AGF_CORE explicit operator bool() const { return at_ != nullptr; }
  AGF_CORE std::size_t bytes() const { return bytes_; }
  AGF_CORE T* release() { return std::exchange(at_, nullptr); }

 private:
  AGF_CORE void swap(Owned& other) {
    std::swap(at_, other.at_);
    std::swap(bytes_, other.bytes_);
  }
  AGF_CORE friend void swap(Owned& a, Owned& b) { a.swap(b); }

  T* at_ = nullptr;
  std::size_t bytes_ = 0;
};

template <typename T, typename... Arguments>
AGF_CORE Owned<T> make_owned(Arguments&&... arguments) {
  void* const at = cuda::take_memory(sizeof(T));
  return {::new (at) T(std::forward<Arguments>(arguments)...), sizeof(T)};
}

}  // namespace AGF_SPACE
