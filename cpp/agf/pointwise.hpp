// The elementwise step between analysis and readout, over a tile: row j holds the samples of neuron j.
#pragma once

#include <stddef.h>

#include "agf/config.hpp"
#include "agf/sigma.hpp"

namespace agf {

// Which nonlinearity, and how it is read (see Shape in problem.hpp).
struct Nonlinearity {
  Sigma sigma;
  double parameter;  // slope of leaky_relu
  bool leading;
};

namespace AGF_LEAF {

// z <- sigma(z)
struct Value {
  template <typename S, typename T>
  AGF_HD void operator()(const S& sigma, size_t n, T* z) const {
    for (size_t i = 0; i < n; ++i) z[i] = sigma(z[i]).value;
  }
};

// (z, g) <- (sigma(z), sigma'(z) g)
struct Pair {
  template <typename S, typename T>
  AGF_HD void operator()(const S& sigma, size_t n, T* z, T* g) const {
    for (size_t i = 0; i < n; ++i) {
      const Jet<T> at = sigma(z[i]);
      g[i] *= at.slope;
      z[i] = at.value;
    }
  }
};

// (z, t, g, h) <- (sigma(z), sigma'(z) t, sigma''(z) t g + sigma'(z) h, unchanged)
struct Curve {
  template <typename S, typename T>
  AGF_HD void operator()(const S& sigma, size_t n, T* z, T* t, T* g, const T* h) const {
    for (size_t i = 0; i < n; ++i) {
      const Jet<T> at = sigma(z[i]);
      g[i] = at.bend * t[i] * g[i] + at.slope * h[i];
      t[i] *= at.slope;
      z[i] = at.value;
    }
  }
};

// (z, s1, s2) <- (sigma(z), sigma'(z), sigma''(z))
struct Jets {
  template <typename S, typename T>
  AGF_HD void operator()(const S& sigma, size_t n, T* z, T* s1, T* s2) const {
    for (size_t i = 0; i < n; ++i) {
      const Jet<T> at = sigma(z[i]);
      s1[i] = at.slope;
      s2[i] = at.bend;
      z[i] = at.value;
    }
  }
};

// Applies `loop` with the sigma of one kind to a tile of `rows` rows of n samples, contiguous; `ramp` is null or one
// half-width per row, 0 for none.
template <template <typename> class S, typename T, typename Loop, typename... Rows>
AGF_HD void over_tile(const Nonlinearity& f, const T* ramp, size_t rows, size_t n, Loop loop, Rows*... at) {
  const S<T> sigma(static_cast<T>(f.parameter));
  if constexpr (requires { sigma.lower(); }) {
    if (ramp) {
      for (size_t j = 0; j < rows; ++j) {
        if (ramp[j] > T(0)) {
          loop(Ramped<T>{sigma.lower(), ramp[j]}, n, (at + j * n)...);
        } else {
          loop(sigma, n, (at + j * n)...);
        }
      }
      return;
    }
  }
  if constexpr (requires { S<T>::leading(); }) {
    if (f.leading) {
      loop(S<T>::leading(), rows * n, at...);
      return;
    }
  }
  loop(sigma, rows * n, at...);
}

template <typename T, typename Loop, typename... Rows>
AGF_HD void pointwise(const Nonlinearity& f, const T* ramp, size_t rows, size_t n, Loop loop, Rows*... at) {
  switch (f.sigma) {
#define AGF_DENSE(name, leaf, degree, homogeneous, kinked, linear) \
  case Sigma::name:                                                \
    over_tile<leaf>(f, ramp, rows, n, loop, at...);                \
    break;
#include "agf/models.def"
#undef AGF_DENSE
  }
}

}  // namespace AGF_LEAF
}  // namespace agf
