#include "cpu/dense.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <utility>

#include "agf/interrupt.hpp"
#include "cpu/blas.hpp"
#include "cpu/isa.hpp"
#include "cpu/pool.hpp"
#include "cpu/scratch.hpp"

namespace agf::cpu {
namespace {

using blas::Op;
using dense::block_of;
using dense::Columns;
using dense::divide_up;
using dense::round_up;
using dense::take_tile;
using dense::Tile;
using dense::tile_at;
using dense::unit;

// Transposed, (c, columns).
template <typename T>
struct DenseSignal final : Signal {
  explicit DenseSignal(std::size_t size) : values(size) {}
  Aligned<T> values;
};

template <typename T>
const T* values(const Signal& signal) {
  return static_cast<const DenseSignal<T>&>(signal).values.data();
}
template <typename T>
T* values(Signal& signal) {
  return static_cast<DenseSignal<T>&>(signal).values.data();
}

// total = the sum of `chunks` rows that lie `stride` apart, of numbers `step` apart.
template <typename T>
void add_up(const T* parts, std::size_t stride, std::size_t chunks, std::size_t width, std::size_t step,
            double* total) {
  for (std::size_t k = 0; k < width; ++k) total[k] = static_cast<double>(parts[k * step]);
  for (std::size_t q = 1; q < chunks; ++q) {
    const T* part = parts + q * stride;
    if (step == 1) {
      loops<T>().add(width, part, total);
    } else {
      for (std::size_t k = 0; k < width; ++k) total[k] += static_cast<double>(part[k * step]);
    }
  }
}

}  // namespace

template <typename T>
DenseCpu<T>::DenseCpu(const T* x, std::size_t n, std::size_t d, const T* y, std::size_t c, Sigma sigma,
                      double parameter)
    : DenseModel(n, d, c, sigma, parameter), row_(d), columns_(round_up(n, unit<T>)) {
  input_scale_ = std::sqrt(loops<T>().sum_squares(n * d, x) / static_cast<double>(n));
  // Rows a power of two apart would share cache sets.
  constexpr std::size_t conflict = 256;
  if (columns_ % conflict == 0) columns_ += unit<T>;
  // With X^T beside X any number of neurons fills the vectors. With many inputs the neurons do, and reading one copy
  // where two were kept counts for more.
  constexpr std::size_t most_inputs = 256, most_bytes = std::size_t{1} << 26;
  const bool keep = d <= most_inputs && n * d * sizeof(T) <= most_bytes;
  if (!keep && row_ > most_inputs) {
    row_ = round_up(d, unit<T>);
    if (row_ % conflict == 0) row_ += unit<T>;
  }
  // A vector that starts in the last row may end past it.
  x_.assign(n * row_ + unit<T>, T(0));
  for (std::size_t i = 0; i < n; ++i) std::copy_n(x + i * d, d, x_.data() + i * row_);
  if (keep) {
    transposed_.assign(d * columns_, T(0));
    loops<T>().transpose(n, d, x, d, transposed_.data(), columns_);
  }
  y_.assign(c * columns_, T(0));
  loops<T>().transpose(n, c, y, c, y_.data(), columns_);
}
template <typename T>
double DenseCpu<T>::epsilon() const {
  return std::numeric_limits<T>::epsilon() / 2;
}

template <typename T>
auto DenseCpu<T>::inputs_of_samples() const -> Inputs {
  return {x_.data(), row_, transposed_.empty() ? nullptr : transposed_.data(), columns_, true};
}

// ----------------------------------------------------------------------------------------------------------- cuts

template <typename T>
auto DenseCpu<T>::cut_samples(std::size_t count, std::size_t samples, const Inputs& inputs) const -> Cut {
  Cut p{};
  // Two arrays of block x rows, the rows of X and what belongs to the neurons stay in L2, in either layout.
  constexpr std::size_t most_packed = std::size_t{1} << 23;
  p.block = dense::piece(count, std::clamp<std::size_t>(most_packed / (m_ * sizeof(T)), 16, 64), 16);
  p.blocks = divide_up(count, p.block);
  std::size_t most = std::clamp<std::size_t>(std::size_t{3 << 15} / d_, 16, 512);
  if (inputs.transposed) {
    const std::size_t tile = (std::size_t{1} << 17) / sizeof(T);
    most = std::clamp<std::size_t>(std::min(tile / p.block, tile / d_), 256, 2048);
  }
  p.rows = dense::piece(samples, most, unit<T>);
  p.tiles = divide_up(samples, p.rows);
  p.chunk = p.chunks = 1;
  return p;
}

// `passes`: floating-point operations per sample, neuron and parameter.
template <typename T>
auto DenseCpu<T>::cut(std::size_t count, double passes) const -> Cut {
  Cut p = cut_samples(count, n_, inputs_of_samples());
  // As many pieces of work as would keep many cores busy, none too small to be worth handing over or to be worth its
  // partial sums, and those in bounded memory.
  constexpr std::size_t most_partial = std::size_t{1} << 24, least_rows = 256;
  const double flops = passes * static_cast<double>(n_) * static_cast<double>(count) * static_cast<double>(m_);
  const auto pieces = static_cast<std::size_t>(std::min(64.0, flops / 4e6));
  const std::size_t room = std::max<std::size_t>(1, most_partial / std::max<std::size_t>(1, count * m_ * sizeof(T)));
  const std::size_t most = std::min({p.tiles, room, std::max<std::size_t>(1, n_ / least_rows)});
  const std::size_t chunks = std::clamp<std::size_t>(divide_up(pieces, p.blocks), 1, most);
  p.chunk = divide_up(p.tiles, chunks);
  p.chunks = divide_up(p.tiles, p.chunk);
  return p;
}

// Tiles for a pass whose samples are independent: many enough to be shared.
template <typename T>
auto DenseCpu<T>::cut_finely(std::size_t count, std::size_t samples, const Inputs& inputs, double flops) const -> Cut {
  Cut p = cut_samples(count, samples, inputs);
  if (flops > pool::worth_sharing) {
    p.rows = std::min(p.rows, std::max<std::size_t>(64, round_up(divide_up(samples, 16), unit<T>)));
    p.tiles = divide_up(samples, p.rows);
  }
  return p;
}

// --------------------------------------------------------------------------------------------------------- leaves

// Where the tile of a sum over neurons, (c, t.length), is formed: in its place if that is transposed and empty.
template <typename T>
auto DenseCpu<T>::room_for(Scratch& scratch, Tile t, bool first, Target to) const -> Room {
  if (first && to.transposed) return {to.values + t.row, columns_};
  return {scratch.take<T>(c_ * t.length), t.length};
}

// Turns the sum over the first neurons, or over further ones, into what is asked for and puts it into its place;
// returns the sum of squares there.
template <typename T>
double DenseCpu<T>::settle(Room f, Tile t, bool residual, bool first, Target to) const {
  double squares = 0;
  if (first) {
    for (std::size_t o = 0; o < c_; ++o) {
      T* at = f.at + o * f.stride;
      squares += residual ? loops<T>().difference(t.b, y_.data() + o * columns_ + t.row, at, at)
                          : loops<T>().sum_squares(t.b, at);
      if (to.transposed) std::fill(at + t.b, at + t.length, T(0));
    }
    if (!to.transposed) loops<T>().transpose(c_, t.b, f.at, f.stride, to.values + t.row * c_, c_);
    return squares;
  }
  const T sign = residual ? T(-1) : T(1);
  for (std::size_t o = 0; o < c_; ++o) {
    for (std::size_t i = 0; i < t.b; ++i) {
      T& out = to.values[to.transposed ? o * columns_ + t.row + i : (t.row + i) * c_ + o];
      out += sign * f.at[o * f.stride + i];
      squares += static_cast<double>(out) * static_cast<double>(out);
    }
  }
  return squares;
}

// sum_i f_i, or y - sum_i f_i where the residual is asked for; returns 1/2 E|.|^2 of what is written.
template <typename T>
template <typename P>
double DenseCpu<T>::forward(const P* theta, std::size_t count, const Inputs& inputs, std::size_t samples, bool residual,
                            Target to, Shape shape) const {
  const double flops = 2.0 * static_cast<double>(samples) * static_cast<double>(count) * static_cast<double>(m_) + 1.0;
  const Cut p = cut_finely(count, samples, inputs, flops);
  const Nonlinearity sigma = nonlinearity(shape);
  // Neurons whose copies, where copies are needed, have room at once.
  constexpr std::size_t most_packed = std::size_t{1} << 23;
  const std::size_t group = std::max<std::size_t>(1, most_packed / (p.block * m_ * sizeof(T))) * p.block;
  Scratch outer;
  double* squares = outer.take<double>(p.tiles);
  for (std::size_t begin = 0; begin == 0 || begin < count; begin += group) {
    const std::size_t end = std::min(count, begin + group);
    Scratch shared;
    Block* blocks = shared.take<Block>(divide_up(end - begin, p.block));
    std::size_t held = 0;
    for (std::size_t first = begin; first < end; first += p.block) {
      const double* ramp = shape.ramp ? shape.ramp + first : nullptr;
      new (blocks + held++)
          Block(block_of<T>(shared, theta + first * m_, ramp, std::min(p.block, end - first), d_, c_, inputs, false));
    }
    pool::for_each(p.tiles, flops, [&](std::size_t index) {
      const Tile t = tile_at<T>(index, p.rows, samples);
      Scratch scratch;
      const Room f = room_for(scratch, t, begin == 0, to);
      for (std::size_t o = 0; held == 0 && o < c_; ++o) std::fill_n(f.at + o * f.stride, t.length, T(0));
      for (std::size_t k = 0; k < held; ++k) {
        if (flops > pool::worth_sharing) look_for_interruption();
        const Block& block = blocks[k];
        Scratch inner;
        T* z = take_tile(inner, block, t);
        analyse(block, inputs, t, z);
        loops<T>().value(sigma, block.ramp, row_count(block, t), row_length(block, t), z);
        readout(block, t, z, k > 0, f.at, f.stride);
      }
      squares[index] = settle(f, t, residual, begin == 0, to);
    });
  }
  double sum = 0;
  for (std::size_t tile = 0; tile < p.tiles; ++tile) sum += squares[tile];
  return 0.5 * sum / static_cast<double>(samples);
}

// dr = -sum_i [ sigma(z_i) v_a + sigma'(z_i) (v_w x) a ], transposed
template <typename T>
template <typename P>
void DenseCpu<T>::derivative(const P* theta, const P* v, std::size_t count, T* dr, Shape shape) const {
  const double flops = 4.0 * static_cast<double>(n_) * static_cast<double>(count) * static_cast<double>(m_) + 1.0;
  const Inputs inputs = inputs_of_samples();
  const Cut p = cut_finely(count, n_, inputs, flops);
  const Nonlinearity sigma = nonlinearity(shape);
  constexpr std::size_t most_packed = std::size_t{1} << 22;
  const std::size_t group = std::max<std::size_t>(1, most_packed / (p.block * m_ * sizeof(T))) * p.block;
  struct Pair {
    Block at, along;
  };
  for (std::size_t begin = 0; begin == 0 || begin < count; begin += group) {
    const std::size_t end = std::min(count, begin + group);
    Scratch shared;
    Pair* blocks = shared.take<Pair>(divide_up(end - begin, p.block));
    std::size_t held = 0;
    for (std::size_t first = begin; first < end; first += p.block) {
      const std::size_t h = std::min(p.block, end - first);
      const double* ramp = shape.ramp ? shape.ramp + first : nullptr;
      new (blocks + held++) Pair{block_of<T>(shared, theta + first * m_, ramp, h, d_, c_, inputs, false),
                                 block_of<T>(shared, v + first * m_, ramp, h, d_, c_, inputs, false)};
    }
    pool::for_each(p.tiles, flops, [&](std::size_t index) {
      const Tile tile = tile_at<T>(index, p.rows, n_);
      Scratch scratch;
      const Room f = room_for(scratch, tile, begin == 0, Target{dr, true});
      for (std::size_t o = 0; held == 0 && o < c_; ++o) std::fill_n(f.at + o * f.stride, tile.length, T(0));
      for (std::size_t k = 0; k < held; ++k) {
        if (flops > pool::worth_sharing) look_for_interruption();
        const auto& [at, along] = blocks[k];
        Scratch inner;
        T* z = take_tile(inner, at, tile);
        T* t = take_tile(inner, at, tile);
        analyse(at, inputs, tile, z);
        analyse(along, inputs, tile, t);
        loops<T>().pair(sigma, at.ramp, row_count(at, tile), row_length(at, tile), z, t);
        readout(along, tile, z, k > 0, f.at, f.stride);
        readout(at, tile, t, true, f.at, f.stride);
      }
      for (std::size_t o = 0; o < c_; ++o) {
        const T* from = f.at + o * f.stride;
        T* out = dr + o * columns_ + tile.row;
        for (std::size_t i = 0; i < tile.b; ++i) out[i] = (begin ? out[i] : T(0)) - from[i];
        std::fill(out + tile.b, out + tile.length, T(0));
      }
    });
  }
}

// Sums over samples. prepare(scratch, first, h) makes what a block of neurons needs, with its Block first in it;
// tile(held, t, add, sums) sets sums, or adds to it, the part of one tile; finish(held, first, j, sums, stride, chunks)
// receives `chunks` partial sums of a block, `stride` apart, for its neuron j, the `first` + j-th of all.
template <typename T>
void DenseCpu<T>::sum_chunks(const Cut& p, std::size_t count, double flops, const auto& prepare, const auto& tile,
                             const auto& finish) const {
  using Held = decltype(prepare(std::declval<Scratch&>(), count, count));
  const std::size_t room = dense::sums_size<T>(p.block, d_, c_);
  const auto size = [&](std::size_t block) { return std::min(p.block, count - block * p.block); };
  const auto sum = [&](const Held& held, std::size_t chunk, T* sums) {
    const std::size_t begin = chunk * p.chunk, end = std::min(p.tiles, begin + p.chunk);
    for (std::size_t k = begin; k < end; ++k) {
      if (flops > pool::worth_sharing) look_for_interruption();
      tile(held, tile_at<T>(k, p.rows, n_), k > begin, sums);
    }
  };
  if (p.chunks == 1) {
    pool::for_each(p.blocks, flops, [&](std::size_t block) {
      Scratch scratch;
      const std::size_t first = block * p.block;
      const Held held = prepare(scratch, first, size(block));
      T* sums = scratch.take<T>(room);
      sum(held, 0, sums);
      for (std::size_t j = 0; j < size(block); ++j) finish(held, first, j, sums, 0, 1);
    });
    return;
  }
  Scratch outer;
  T* partial = outer.take<T>(p.chunks * p.blocks * room);
  Held* blocks = outer.take<Held>(p.blocks);
  for (std::size_t k = 0; k < p.blocks; ++k) new (blocks + k) Held(prepare(outer, k * p.block, size(k)));
  pool::for_each(p.blocks * p.chunks, flops,
                 [&](std::size_t item) { sum(blocks[item % p.blocks], item / p.blocks, partial + item * room); });
  // A few neurons of one block each: blocks are multiples of a group where there are several.
  constexpr std::size_t group = 8;
  const double reads = static_cast<double>(p.chunks * count * m_);
  pool::for_each(divide_up(count, group), 4 * reads, [&](std::size_t item) {
    const std::size_t block = item * group / p.block, first = block * p.block;
    const std::size_t begin = item * group - first, end = std::min(begin + group, size(block));
    for (std::size_t j = begin; j < end; ++j) {
      finish(blocks[block], first, j, partial + block * room, p.blocks * room, p.chunks);
    }
  });
}

// U = E sigma(z) g = a . E[sigma(z) r],  g = a . r;  grad_a U = E[sigma(z) r];  grad_w U = E[sigma'(z) g x]
template <typename T>
template <typename P>
void DenseCpu<T>::utility_of(const P* theta, std::size_t count, Field r, P* value, P* gradient, Shape shape) const {
  if (count == 0) return;
  const Nonlinearity sigma = nonlinearity(shape);
  const Inputs inputs = inputs_of_samples();
  const auto prepare = [&](Scratch& scratch, std::size_t first, std::size_t h) {
    const double* ramp = shape.ramp ? shape.ramp + first : nullptr;
    return block_of<T>(scratch, theta + first * m_, ramp, h, d_, c_, inputs, false);
  };
  const auto tile = [&](const Block& block, Tile t, bool add, T* sums) {
    Scratch scratch;
    const Columns<T> columns = columns_of(scratch, r, c_, t);
    T* z = take_tile(scratch, block, t);
    analyse(block, inputs, t, z);
    if (gradient) {
      T* g = take_tile(scratch, block, t);
      project(block, columns, t, false, g);
      loops<T>().pair(sigma, block.ramp, row_count(block, t), row_length(block, t), z, g);
      collect_inputs(block, inputs, t, g, add, sums);
    } else {
      loops<T>().value(sigma, block.ramp, row_count(block, t), row_length(block, t), z);
    }
    collect_outputs(block, columns, t, z, add, sums + sums_of_inputs(block));
  };
  const double scale = 1.0 / static_cast<double>(n_);
  const auto finish = [&](const Block& block, std::size_t first, std::size_t j, const T* parts, std::size_t stride,
                          std::size_t chunks) {
    Scratch scratch;
    double* total = scratch.take<double>(m_);
    const auto [at, step] = outputs_of(block, parts, j);
    add_up(at, stride, chunks, c_, step, total + d_);
    if (gradient) {
      add_up(inputs_of(block, parts, j), stride, chunks, d_, 1, total);
      P* to = gradient + (first + j) * m_;
      for (std::size_t k = 0; k < m_; ++k) to[k] = static_cast<P>(scale * total[k]);
    }
    if (value) {
      const P* a = theta + (first + j) * m_ + d_;
      double sum = 0;
      for (std::size_t o = 0; o < c_; ++o) sum += static_cast<double>(a[o]) * total[d_ + o];
      value[first + j] = static_cast<P>(scale * sum);
    }
  };
  sum_chunks(cut(count, gradient ? 4 : 2), count, evaluation_flops(count), prepare, tile, finish);
}

// hess U v:  w: E[(sigma'' t g + sigma' (v_a . r)) x],  a: E[sigma' t r],  t = v_w . x,  g = a . r;
// with dr, plus grad U(.; dr):  w: E[sigma' (a . dr) x],  a: E[sigma dr].
template <typename T>
template <typename P>
void DenseCpu<T>::curvature_of(const P* theta, const P* v, std::size_t count, Field r, const Field* dr, double sign,
                               P* out, Shape shape) const {
  if (count == 0) return;
  const Nonlinearity sigma = nonlinearity(shape);
  const Inputs inputs = inputs_of_samples();
  struct Pair {
    Block at, along;
  };
  const auto prepare = [&](Scratch& scratch, std::size_t first, std::size_t h) {
    const double* ramp = shape.ramp ? shape.ramp + first : nullptr;
    return Pair{block_of<T>(scratch, theta + first * m_, ramp, h, d_, c_, inputs, false),
                block_of<T>(scratch, v + first * m_, ramp, h, d_, c_, inputs, false)};
  };
  const auto tile = [&](const Pair& pair, Tile at, bool add, T* sums) {
    const Block& block = pair.at;
    Scratch scratch;
    const Columns<T> columns = columns_of(scratch, r, c_, at);
    T* z = take_tile(scratch, block, at);
    T* t = take_tile(scratch, block, at);
    T* g = take_tile(scratch, block, at);
    T* k = take_tile(scratch, block, at);
    analyse(block, inputs, at, z);
    analyse(pair.along, inputs, at, t);
    project(block, columns, at, false, g);
    project(pair.along, columns, at, false, k);
    Columns<T> change{};
    if (dr) {
      change = columns_of(scratch, *dr, c_, at);
      project(block, change, at, true, k);
    }
    loops<T>().curve(sigma, block.ramp, row_count(block, at), row_length(block, at), z, t, g, k);
    collect_inputs(block, inputs, at, g, add, sums);
    collect_outputs(block, columns, at, t, add, sums + sums_of_inputs(block));
    if (dr) collect_outputs(block, change, at, z, true, sums + sums_of_inputs(block));
  };
  const double scale = sign / static_cast<double>(n_);
  const auto finish = [&](const Pair& pair, std::size_t first, std::size_t j, const T* parts, std::size_t stride,
                          std::size_t chunks) {
    Scratch scratch;
    double* total = scratch.take<double>(m_);
    const auto [at, step] = outputs_of(pair.at, parts, j);
    add_up(inputs_of(pair.at, parts, j), stride, chunks, d_, 1, total);
    add_up(at, stride, chunks, c_, step, total + d_);
    P* to = out + (first + j) * m_;
    for (std::size_t k = 0; k < m_; ++k) to[k] = static_cast<P>(scale * total[k]);
  };
  sum_chunks(cut(count, 6), count, 2 * evaluation_flops(count), prepare, tile, finish);
}

// -------------------------------------------------------------------------------------------------------- Problem

template <typename T>
std::unique_ptr<Signal> DenseCpu<T>::make_signal() const {
  return std::make_unique<DenseSignal<T>>(c_ * columns_);
}

template <typename T>
double DenseCpu<T>::residual(const double* theta, std::size_t count, Signal& r, Shape shape) const {
  return forward(theta, count, inputs_of_samples(), n_, true, {values<T>(r), true}, shape);
}

template <typename T>
void DenseCpu<T>::residual_derivative(const double* theta, const double* v, std::size_t count, Signal& dr,
                                      Shape shape) const {
  derivative(theta, v, count, values<T>(dr), shape);
}

template <typename T>
void DenseCpu<T>::utility(const double* theta, std::size_t count, const Signal& r, double* value, double* gradient,
                          Shape shape) const {
  utility_of(theta, count, field(values<T>(r)), value, gradient, shape);
}

template <typename T>
void DenseCpu<T>::curvature_vector(const double* theta, const double* v, std::size_t count, const Signal& r,
                                   const Signal* dr, double* out, Shape shape) const {
  const Field change = dr ? field(values<T>(*dr)) : Field{};
  curvature_of(theta, v, count, field(values<T>(r)), dr ? &change : nullptr, 1.0, out, shape);
}

template <typename T>
void DenseCpu<T>::utility_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                                  Shape shape) const {
  if (count) utility_hessian_of(theta, count, values<T>(r), out, shape);
}

template <typename T>
void DenseCpu<T>::loss_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                               Shape shape) const {
  loss_hessian_of(theta, count, values<T>(r), out, shape);
}

// |a| sqrt E sigma(z)^2
template <typename T>
void DenseCpu<T>::contribution(const double* theta, std::size_t count, double* out) const {
  if (count == 0) return;
  const Inputs inputs = inputs_of_samples();
  const Cut p = cut_samples(count, n_, inputs);
  const Nonlinearity sigma = nonlinearity({});
  pool::for_each(p.blocks, evaluation_flops(count) / 2, [&](std::size_t item) {
    const std::size_t first = item * p.block, h = std::min(p.block, count - first);
    Scratch scratch;
    const Block block = block_of<T>(scratch, theta + first * m_, nullptr, h, d_, c_, inputs, true);
    T* z = scratch.take<T>(h * round_up(p.rows, unit<T>));
    double* squares = scratch.take<double>(h);
    std::fill_n(squares, h, 0.0);
    for (std::size_t k = 0; k < p.tiles; ++k) {
      const Tile t = tile_at<T>(k, p.rows, n_);
      analyse(block, inputs, t, z);
      loops<T>().value(sigma, nullptr, h, t.length, z);
      for (std::size_t j = 0; j < h; ++j) squares[j] += loops<T>().sum_squares(t.b, z + j * t.length);
    }
    for (std::size_t j = 0; j < h; ++j) {
      const double* a = theta + (first + j) * m_ + d_;
      const double norm = loops<double>().sum_squares(c_, a);
      out[first + j] = std::sqrt(norm) * std::sqrt(squares[j] / static_cast<double>(n_));
    }
  });
}

template <typename T>
template <typename To>
std::vector<To> DenseCpu<T>::inputs_in() const {
  std::vector<To> x(n_ * d_);
  for (std::size_t i = 0; i < n_; ++i) {
    for (std::size_t j = 0; j < d_; ++j) x[i * d_ + j] = static_cast<To>(x_[i * row_ + j]);
  }
  return x;
}

template <typename T>
template <typename To>
std::vector<To> DenseCpu<T>::targets_in() const {
  std::vector<To> y(n_ * c_);
  for (std::size_t i = 0; i < n_; ++i) {
    for (std::size_t o = 0; o < c_; ++o) y[i * c_ + o] = static_cast<To>(y_[o * columns_ + i]);
  }
  return y;
}

template <typename T>
std::unique_ptr<Problem> DenseCpu<T>::reduced(std::vector<double>& basis) const {
  if (d_ < 2 || d_ > most_reducible) return nullptr;
  const double tolerance = static_cast<double>(std::max(n_, d_)) * data_epsilon_;
  std::vector<double> copy = inputs_in<double>();
  basis.resize(d_ * d_);
  const std::size_t rank = blas::row_space(n_, d_, copy.data(), tolerance, basis.data());
  if (!worth_reducing(rank, d_)) {
    basis.clear();
    return nullptr;
  }
  basis.resize(d_ * rank);
  const std::size_t inputs = rank + 1;
  copy = inputs_in<double>();
  std::vector<double> product(n_ * inputs, 0.0);
  if (rank) {
    blas::gemm<double>(Op::none, Op::none, n_, rank, d_, 1.0, copy.data(), d_, basis.data(), rank, 0.0, product.data(),
                       inputs);
  }
  const std::vector<T> x(product.begin(), product.end()), y = targets_in<T>();
  return std::make_unique<DenseCpu<T>>(x.data(), n_, inputs, y.data(), c_, sigma_, parameter_);
}

template <typename T>
std::unique_ptr<Problem> DenseCpu<T>::in_double() const {
  if constexpr (std::is_same_v<T, double>) {
    return nullptr;
  } else {
    const std::vector<double> x = inputs_in<double>(), y = targets_in<double>();
    auto twin = std::make_unique<DenseCpu<double>>(x.data(), n_, d_, y.data(), c_, sigma_, parameter_);
    twin->data_epsilon_ = data_epsilon_;
    return twin;
  }
}

// ---------------------------------------------------------------------------------------------------- arrays of T

template <typename T>
double DenseCpu<T>::residual(const T* theta, std::size_t count, T* r) const {
  return forward(theta, count, inputs_of_samples(), n_, true, {r, false}, {});
}

template <typename T>
double DenseCpu<T>::loss(const T* theta, std::size_t count) const {
  Scratch scratch;
  return residual_columns(theta, count, scratch.take<T>(c_ * columns_));
}

template <typename T>
double DenseCpu<T>::residual_columns(const T* theta, std::size_t count, T* r) const {
  return forward(theta, count, inputs_of_samples(), n_, true, {r, true}, {});
}

template <typename T>
void DenseCpu<T>::utility(const T* theta, std::size_t count, const T* r, T* value, T* gradient) const {
  Scratch scratch;
  // Once here, or once again for every block of neurons.
  constexpr std::size_t most_bytes = std::size_t{1} << 22;
  const std::size_t size = c_ * columns_;
  if (r && size * sizeof(T) > most_bytes) return utility_of(theta, count, {r, c_, false}, value, gradient, {});
  T* own = scratch.take<T>(size);
  if (r) {
    loops<T>().transpose(n_, c_, r, c_, own, columns_);
    for (std::size_t o = 0; o < c_; ++o) std::fill(own + o * columns_ + n_, own + (o + 1) * columns_, T(0));
  } else {
    residual_columns(theta, count, own);
  }
  utility_of(theta, count, field(own), value, gradient, {});
}

template <typename T>
void DenseCpu<T>::hessian_vector(const T* theta, const T* v, std::size_t count, T* out) const {
  Scratch scratch;
  T* r = scratch.take<T>(c_ * columns_);
  T* dr = scratch.take<T>(c_ * columns_);
  residual_columns(theta, count, r);
  derivative(theta, v, count, dr, {});
  const Field change = field(dr);
  curvature_of(theta, v, count, field(r), &change, -1.0, out, {});
}

template <typename T>
void DenseCpu<T>::hessian(const T* theta, std::size_t count, T* out) const {
  Scratch scratch;
  T* r = scratch.take<T>(c_ * columns_);
  residual_columns(theta, count, r);
  loss_hessian_of(theta, count, r, out, {});
}

template <typename T>
void DenseCpu<T>::predict(const T* theta, std::size_t count, const T* x, std::size_t rows, T* f) const {
  if (rows) forward(theta, count, Inputs{x, d_, nullptr, 0, false}, rows, false, {f, false}, {});
}

template class DenseCpu<float>;
template class DenseCpu<double>;

}  // namespace agf::cpu
