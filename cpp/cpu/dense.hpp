// Dense two-layer networks on the CPU: f = sum_i a_i sigma(w_i x), theta_i = [w_i (d) | a_i (c)].
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <vector>

#include "agf/dense_model.hpp"
#include "cpu/aligned.hpp"
#include "cpu/dense_tile.hpp"

namespace agf::cpu {

// Data and sample-sized arrays are in T = float or double; sums that become one number (losses, utilities) are in
// double.
//
// Samples and neurons are cut in tiles that stay in cache: a product into the tile, a pointwise pass over it, a product
// out of it, and nothing as large as samples x neurons is ever stored. The cuts depend on the sizes alone and partial
// sums are added in a fixed order, so results are bitwise equal for any number of threads. Const methods may be called
// from several threads at once.
template <typename T>
class DenseCpu final : public DenseModel {
 public:
  // Copies x (n, d) and y (n, c), row-major.
  DenseCpu(const T* x, std::size_t n, std::size_t d, const T* y, std::size_t c, Sigma sigma, double parameter);

  double epsilon() const override;

  std::unique_ptr<Signal> make_signal() const override;
  double residual(const double* theta, std::size_t count, Signal& r, Shape shape = {}) const override;
  void residual_derivative(const double* theta, const double* v, std::size_t count, Signal& dr,
                           Shape shape = {}) const override;
  void utility(const double* theta, std::size_t count, const Signal& r, double* value, double* gradient,
               Shape shape = {}) const override;
  void curvature_vector(const double* theta, const double* v, std::size_t count, const Signal& r, const Signal* dr,
                        double* out, Shape shape = {}) const override;
  void utility_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                       Shape shape = {}) const override;
  void loss_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                    Shape shape = {}) const override;
  void contribution(const double* theta, std::size_t count, double* out) const override;
  std::unique_ptr<Problem> reduced(std::vector<double>& basis) const override;
  std::unique_ptr<Problem> in_double() const override;

  // The same leaves on arrays of T, with nothing converted: theta and v (count, m), r and dr (n, c).
  double residual(const T* theta, std::size_t count, T* r) const;
  double loss(const T* theta, std::size_t count) const;
  // r of all rows where it is null.
  void utility(const T* theta, std::size_t count, const T* r, T* value, T* gradient) const;
  // hess L v.
  void hessian_vector(const T* theta, const T* v, std::size_t count, T* out) const;
  // hess L, (count m) squared.
  void hessian(const T* theta, std::size_t count, T* out) const;
  // f at `rows` new inputs x (rows, d); f (rows, c).
  void predict(const T* theta, std::size_t count, const T* x, std::size_t rows, T* f) const;

 private:
  template <typename>
  friend class DenseCpu;

  using Inputs = dense::Inputs<T>;
  using Field = dense::Field<T>;
  using Block = dense::Block<T>;
  // Neurons in `blocks` blocks of `block`; samples in tiles of `rows`, `chunk` tiles to a chunk.
  struct Cut {
    std::size_t block, blocks, rows, tiles, chunk, chunks;
  };
  struct Panel;
  // A function on the samples that is written.
  struct Target {
    T* values;
    bool transposed;
  };
  struct Room {
    T* at;
    std::size_t stride;
  };

  Inputs inputs_of_samples() const;
  // What signals hold.
  Field field(const T* values) const { return {values, columns_, true}; }
  Cut cut(std::size_t count, double passes) const;
  Cut cut_samples(std::size_t count, std::size_t samples, const Inputs& inputs) const;
  Cut cut_finely(std::size_t count, std::size_t samples, const Inputs& inputs, double flops) const;

  template <typename P>
  double forward(const P* theta, std::size_t count, const Inputs& inputs, std::size_t samples, bool residual, Target to,
                 Shape shape) const;
  double residual_columns(const T* theta, std::size_t count, T* r) const;
  template <typename To>
  std::vector<To> inputs_in() const;
  template <typename To>
  std::vector<To> targets_in() const;
  Room room_for(Scratch& scratch, dense::Tile t, bool first, Target to) const;
  double settle(Room f, dense::Tile t, bool residual, bool first, Target to) const;
  template <typename P>
  void derivative(const P* theta, const P* v, std::size_t count, T* dr, Shape shape) const;
  template <typename P>
  void utility_of(const P* theta, std::size_t count, Field r, P* value, P* gradient, Shape shape) const;
  template <typename P>
  void curvature_of(const P* theta, const P* v, std::size_t count, Field r, const Field* dr, double sign, P* out,
                    Shape shape) const;
  template <typename P>
  void utility_hessian_of(const P* theta, std::size_t count, const T* r, P* out, Shape shape) const;
  template <typename P>
  void loss_hessian_of(const P* theta, std::size_t count, const T* r, P* out, Shape shape) const;
  void sum_chunks(const Cut& cut, std::size_t count, double flops, const auto& prepare, const auto& tile,
                  const auto& finish) const;
  template <typename P>
  Panel panel(Scratch& scratch, const P* theta, std::size_t first, std::size_t h, std::size_t rows, Shape shape) const;
  void fill(Panel& panel, dense::Tile t, Shape shape) const;
  void curve_terms(Panel& panel, const T* r, dense::Tile t, Shape shape, T* ww, T* wa) const;

  // Relative rounding of the data as they were given, which may be coarser than T.
  double data_epsilon_ = static_cast<double>(std::numeric_limits<T>::epsilon());
  // X (n, row_) and its transpose (d, columns_), or nothing where it is not kept; Y transposed, (c, columns_).
  std::size_t row_ = 0, columns_ = 0;
  Aligned<T> x_, transposed_, y_;
};

extern template class DenseCpu<float>;
extern template class DenseCpu<double>;

}  // namespace agf::cpu
