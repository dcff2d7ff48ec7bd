// A model bound to data on one device, at the grain of whole sets of neurons.
//
// Everything the phases need rests on  -dL/dtheta_i = grad U(theta_i; r),  U(theta; r) = E<f(x; theta), r(x)>,
// r = y - sum_i f(x; theta_i),  L = 1/2 E|r|^2  (E: mean over samples).
// Parameters are double here whatever the scalar type of the data: (count, params) row-major, one row per neuron.
#pragma once

#include <cstddef>

#include "containers.hpp"

namespace AGF_SPACE {

// A function on the samples (a residual): storage is the problem's own, in its scalar type.
class Signal {
 public:
  AGF_CORE virtual ~Signal() = default;
};

// How the nonlinearity is read.
struct Shape {
  // The leading homogeneous term of sigma at 0 in place of sigma.
  bool leading = false;
  // Per neuron, half-width of a ramp that replaces the step of sigma' at a kink (sigma' linear on [-w, w], sigma its
  // integral): makes the flow of a kinked sigma smooth for implicit integration. Null: sigma itself.
  const double* ramp = nullptr;
};

class Carrier;

class Problem {
 public:
  AGF_CORE virtual ~Problem() = default;

  AGF_CORE virtual std::size_t params() const = 0;   // m
  AGF_CORE virtual std::size_t outputs() const = 0;  // c
  AGF_CORE virtual std::size_t samples() const = 0;  // n
  AGF_CORE virtual double kappa() const = 0;         // degree of the leading term of f in theta
  AGF_CORE virtual bool homogeneous() const = 0;     // sigma is its own leading term
  AGF_CORE virtual bool kinked() const = 0;          // sigma' has a step at 0
  AGF_CORE virtual double input_scale() const = 0;   // sqrt E|x|^2
  AGF_CORE virtual double epsilon() const = 0;       // unit roundoff of the scalar type

  AGF_CORE virtual Owned<Signal> make_signal() const = 0;

  // r = y - sum_i f_i; returns L = 1/2 E|r|^2. count = 0 gives r = y.
  AGF_CORE virtual double residual(const double* theta, std::size_t count, Signal& r, Shape shape = {}) const = 0;
  // dr = -sum_i (df_i/dtheta_i) v_i, the derivative of the residual along v.
  AGF_CORE virtual void residual_derivative(const double* theta, const double* v, std::size_t count, Signal& dr,
                                            Shape shape = {}) const = 0;
  // U (count) and grad U (count, params); either may be null.
  AGF_CORE virtual void utility(const double* theta, std::size_t count, const Signal& r, double* value,
                                double* gradient, Shape shape = {}) const = 0;
  // out_i = hess U(theta_i; r) v_i  (+ grad U(theta_i; dr) when dr is given: then out = -(hess L) v if dr came from v).
  AGF_CORE virtual void curvature_vector(const double* theta, const double* v, std::size_t count, const Signal& r,
                                         const Signal* dr, double* out, Shape shape = {}) const = 0;
  // hess U of each neuron by itself: (count, params, params), full symmetric matrices.
  AGF_CORE virtual void utility_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                                        Shape shape = {}) const = 0;
  // hess L of all neurons together: (count * params) squared, full symmetric.
  AGF_CORE virtual void loss_hessian(const double* theta, std::size_t count, const Signal& r, double* out,
                                     Shape shape = {}) const = 0;
  // sqrt E|f_i|^2 per neuron.
  AGF_CORE virtual void contribution(const double* theta, std::size_t count, double* out) const = 0;
  // The quantities that the flow conserves, (count, conserved_count()); false where sigma has none.
  // Dense with sigma homogeneous of degree k: k |a|^2 - |w|^2.
  AGF_CORE virtual std::size_t conserved_count() const { return 1; }
  AGF_CORE virtual bool conserved(const double* theta, std::size_t count, double* out) const = 0;
  // Puts a homogeneous neuron back on its conserved balance (laid out as `conserved`) without touching its output:
  // w <- s w, a <- a / s^k; scale (count) gets s. Only where `conserved` holds.
  AGF_CORE virtual void rebalance(double* theta, std::size_t count, const double* balance, double* scale) const = 0;

  // Floating-point work, for choosing between methods without a clock.
  AGF_CORE virtual double evaluation_flops(std::size_t count) const = 0;
  AGF_CORE virtual double utility_hessian_flops(std::size_t count) const = 0;
  AGF_CORE virtual double loss_hessian_flops(std::size_t count) const = 0;

#if !defined(AGF_BLOCK)
  // Who carries whole runs of this problem, where they are small: a device. Null: nobody.
  virtual const Carrier* carrier() const { return nullptr; }

  // The same problem in fewer inputs where the data allow it exactly (rank X < d): fills `basis` with the
  // orthonormal map (d, k) row-major and returns a problem on inputs [X basis, 0], whose last, empty input carries the
  // norm of what is left of w outside the span. Null where nothing is gained.
  AGF_CORE virtual Owned<Problem> reduced(Array<double>& basis) const = 0;

  // The same problem with its data in double; null where they are double already.
  AGF_CORE virtual Owned<Problem> in_double() const = 0;
#endif
};

}  // namespace AGF_SPACE
