// The products of a block of neurons with a tile of samples, from which the leaves of dense networks are made.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "cpu/isa.hpp"
#include "cpu/scratch.hpp"

namespace agf::cpu::dense {

// Rows are padded to whole vectors of the widest instruction set, whichever runs, so that layouts do not depend on it.
template <typename T>
inline constexpr std::size_t unit = 64 / sizeof(T);

inline std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }
inline std::size_t round_up(std::size_t a, std::size_t b) { return divide_up(a, b) * b; }

// The length of equal pieces of at most `most` (or a little more, for the rounding), a multiple of `step` when cut at
// all.
inline std::size_t piece(std::size_t total, std::size_t most, std::size_t step) {
  if (total <= most) return std::max<std::size_t>(total, 1);
  return round_up(divide_up(total, divide_up(total, most)), step);
}

// The same numbers in T: as they are, or copied to scratch.
template <typename T, typename P>
const T* in(Scratch& scratch, const P* from, std::size_t size) {
  if constexpr (std::is_same_v<T, P>) {
    return from;
  } else {
    T* to = scratch.take<T>(size);
    for (std::size_t i = 0; i < size; ++i) to[i] = static_cast<T>(from[i]);
    return to;
  }
}

// Samples of inputs x (samples, d), rows `stride` apart; `transposed` (d, columns), zero from the last sample on, is
// null where it is not kept. `padded`: a vector's length past the end of x may be read.
template <typename T>
struct Inputs {
  const T* x;
  std::size_t stride;
  const T* transposed;
  std::size_t columns;
  bool padded;
};

// A function on the samples, such as a residual: (samples, c), or transposed, (c, stride), zero from the last sample
// on.
template <typename T>
struct Field {
  const T* values;
  std::size_t stride;
  bool transposed;
};

// A tile of one of the arrays (h, b) that the leaves work on. Vectors lie along the samples, which takes any number of
// neurons, or, where only X itself is kept and neurons fill the vectors, along the neurons: then rows are samples.
// Padding holds zeros before sigma is applied, and meets zeros in every sum over it.
template <typename T>
struct Block {
  std::size_t h;        // neurons
  std::size_t d, c, m;  // sizes of the problem
  bool along_neurons;
  std::size_t padded;  // h in whole vectors
  const T* theta;      // (h, m)
  const T* w;          // along neurons: (d, padded), the transpose; along samples without X^T: (h, d in whole vectors)
  const T* a;          // along neurons: (c, padded), the transpose
  const T* ramp;       // (h), or null
};

// Samples [row, row + b); `length` is b in whole vectors.
struct Tile {
  std::size_t row, b, length;
};

template <typename T>
Tile tile_at(std::size_t index, std::size_t rows, std::size_t samples) {
  const std::size_t row = index * rows, b = std::min(rows, samples - row);
  return {row, b, round_up(b, unit<T>)};
}

// `rows`: a row per neuron is needed, as it is for a ramp.
template <typename T>
bool along_neurons(const Inputs<T>& inputs, std::size_t h, bool rows) {
  if (inputs.transposed || rows) return false;
  // What is left of a last vector must not cost more than sums across vectors would.
  return !inputs.padded || 6 * h >= 5 * round_up(h, unit<T>);
}

// theta (h, d + c) and ramp (h) or null.
template <typename T, typename P>
Block<T> block_of(Scratch& scratch, const P* theta, const double* ramp, std::size_t h, std::size_t d, std::size_t c,
                  const Inputs<T>& inputs, bool rows) {
  Block<T> p{};
  p.h = h;
  p.d = d;
  p.c = c;
  p.m = d + c;
  p.along_neurons = along_neurons(inputs, h, rows || ramp);
  p.padded = round_up(h, unit<T>);
  p.theta = in<T>(scratch, theta, h * p.m);
  p.ramp = ramp ? in<T>(scratch, ramp, h) : nullptr;
  if (p.along_neurons) {
    T* columns = scratch.take<T>(p.m * p.padded);
    loops<T>().transpose(h, p.m, p.theta, p.m, columns, p.padded);
    for (std::size_t k = 0; k < p.m; ++k) std::fill(columns + k * p.padded + h, columns + (k + 1) * p.padded, T(0));
    p.w = columns;
    p.a = columns + d * p.padded;
  } else if (!inputs.transposed) {
    const std::size_t length = round_up(d, unit<T>);
    T* copies = scratch.take<T>(h * length);
    for (std::size_t j = 0; j < h; ++j) {
      std::copy_n(p.theta + j * p.m, d, copies + j * length);
      std::fill(copies + j * length + d, copies + (j + 1) * length, T(0));
    }
    p.w = copies;
  }
  return p;
}

// Numbers in a tile of (h, b), and how many of them lie in a row.
template <typename T>
std::size_t row_length(const Block<T>& p, Tile t) {
  return p.along_neurons ? p.padded : t.length;
}
template <typename T>
std::size_t row_count(const Block<T>& p, Tile t) {
  return p.along_neurons ? t.b : p.h;
}
template <typename T>
T* take_tile(Scratch& scratch, const Block<T>& p, Tile t) {
  return scratch.take<T>(row_length(p, t) * row_count(p, t));
}

// The tile of a function on the samples, transposed: (c, stride) with zeros up to t.length.
template <typename T>
struct Columns {
  const T* at;
  std::size_t stride;
};

template <typename T>
Columns<T> columns_of(Scratch& scratch, const Field<T>& r, std::size_t c, Tile t) {
  if (r.transposed) return {r.values + t.row, r.stride};
  T* to = scratch.take<T>(c * t.length);
  loops<T>().transpose(t.b, c, r.values + t.row * r.stride, r.stride, to, t.length);
  if (t.b < t.length) {
    for (std::size_t o = 0; o < c; ++o) std::fill(to + o * t.length + t.b, to + (o + 1) * t.length, T(0));
  }
  return {to, t.length};
}

// z = w x
template <typename T>
void analyse(const Block<T>& p, const Inputs<T>& inputs, Tile t, T* z) {
  if (p.along_neurons) {
    // Rows of W^T that stay in cache while the samples pass.
    constexpr std::size_t depth = 1024;
    for (std::size_t k = 0; k < p.d; k += depth) {
      loops<T>().outer(t.b, p.padded, std::min(depth, p.d - k), inputs.x + t.row * inputs.stride + k, inputs.stride,
                       p.w + k * p.padded, p.padded, k > 0, z, p.padded);
    }
  } else if (inputs.transposed) {
    loops<T>().outer(p.h, t.length, p.d, p.theta, p.m, inputs.transposed + t.row, inputs.columns, false, z, t.length);
  } else {
    loops<T>().dots(p.h, t.b, p.d, p.w, round_up(p.d, unit<T>), inputs.x + t.row * inputs.stride, inputs.stride, false,
                    z, t.length);
    if (t.b < t.length) {
      for (std::size_t j = 0; j < p.h; ++j) std::fill(z + j * t.length + t.b, z + (j + 1) * t.length, T(0));
    }
  }
}

// g = a . r, or g + a . r
template <typename T>
void project(const Block<T>& p, Columns<T> r, Tile t, bool add, T* g) {
  if (p.along_neurons) {
    loops<T>().outer_columns(t.b, p.padded, p.c, r.at, r.stride, p.a, p.padded, add, g, p.padded);
  } else {
    loops<T>().outer(p.h, t.length, p.c, p.theta + p.d, p.m, r.at, r.stride, add, g, t.length);
  }
}

// Sums over samples of a block: by inputs (h, inputs), then by outputs, (h, c) or, along neurons, (c, padded).
template <typename T>
std::size_t sums_by_inputs(std::size_t d) {
  return round_up(d, unit<T>);
}
// Room that suffices for a block of at most h neurons in either order.
template <typename T>
std::size_t sums_size(std::size_t h, std::size_t d, std::size_t c) {
  return round_up(h * sums_by_inputs<T>(d) + round_up(h, unit<T>) * c, unit<T>);
}

// Where in them those by outputs begin, and those of one neuron, with the distance between its outputs.
template <typename T>
std::size_t sums_of_inputs(const Block<T>& p) {
  return p.h * sums_by_inputs<T>(p.d);
}
template <typename T>
const T* inputs_of(const Block<T>& p, const T* sums, std::size_t j) {
  return sums + j * sums_by_inputs<T>(p.d);
}
template <typename T>
struct Spaced {
  const T* at;
  std::size_t step;
};
template <typename T>
Spaced<T> outputs_of(const Block<T>& p, const T* sums, std::size_t j) {
  const T* at = sums + sums_of_inputs(p);
  return p.along_neurons ? Spaced<T>{at + j, p.padded} : Spaced<T>{at + j * p.c, 1};
}

// sums by inputs <- p x over the tile, or added to it
template <typename T>
void collect_inputs(const Block<T>& p, const Inputs<T>& inputs, Tile t, const T* factor, bool add, T* sums) {
  const std::size_t width = sums_by_inputs<T>(p.d);
  const T* x = inputs.x + t.row * inputs.stride;
  if (p.along_neurons) {
    loops<T>().outer_columns(p.h, p.d, t.b, factor, p.padded, x, inputs.stride, add, sums, width);
    return;
  }
  // A last vector of inputs that would be mostly padding is summed across vectors instead.
  std::size_t whole = p.d;
  if (inputs.transposed && p.d % unit<T> < 3 * unit<T> / 4) whole -= p.d % unit<T>;
  if (whole) loops<T>().outer(p.h, whole, t.b, factor, t.length, x, inputs.stride, add, sums, width);
  if (whole < p.d) {
    loops<T>().dots(p.h, p.d - whole, t.b, factor, t.length, inputs.transposed + whole * inputs.columns + t.row,
                    inputs.columns, add, sums + whole, width);
  }
}

// sums by outputs <- s r over the tile, or added to it
template <typename T>
void collect_outputs(const Block<T>& p, Columns<T> r, Tile t, const T* factor, bool add, T* sums) {
  if (p.along_neurons) {
    loops<T>().outer(p.c, p.h, t.b, r.at, r.stride, factor, p.padded, add, sums, p.padded);
  } else {
    loops<T>().dots(p.h, p.c, t.b, factor, t.length, r.at, r.stride, add, sums, p.c);
  }
}

// f (c, t.length), rows `stride` apart, <- sum over the block of a s, or added to it
template <typename T>
void readout(const Block<T>& p, Tile t, const T* factor, bool add, T* f, std::size_t stride) {
  if (p.along_neurons) {
    loops<T>().dots(p.c, t.b, p.h, p.a, p.padded, factor, p.padded, add, f, stride);
  } else {
    loops<T>().outer_columns(p.c, t.length, p.h, p.theta + p.d, p.m, factor, t.length, add, f, stride);
  }
}

}  // namespace agf::cpu::dense
