// One step of a method on a batch of independent systems, each with its own step size.
#pragma once

#include <cstddef>
#include "containers.hpp"

#include "problem.hpp"

namespace AGF_SPACE {

// K independent autonomous systems y' = F(y) of one size. Rows of y, f and x follow `which`.
class StiffField {
 public:
  AGF_CORE virtual ~StiffField() = default;
  AGF_CORE virtual std::size_t size() const = 0;
  // What implicit methods ask for: x = (shift I - J)^{-1} (F(y) + add) with the shift and the point of the last
  // factorisation, without F(y) where y is null; false where it cannot be had.
  AGF_CORE virtual bool stage(const Array<int>& which, const double* y, const double* add, double* x) = 0;
};

// The same in its parts.
class Field : public StiffField {
 public:
  AGF_CORE virtual void rhs(const Array<int>& which, const double* y, double* f) = 0;
  // Implicit methods only: x <- (shift I - J)^{-1} x.
  AGF_CORE virtual bool solve(const Array<int>& which, double* x) = 0;

  AGF_CORE bool stage(const Array<int>& which, const double* y, const double* add, double* x) override {
    if (y) rhs(which, y, x);
    each(which.size() * size(), [=](std::size_t e) { x[e] = y ? x[e] + add[e] : add[e]; });
    return solve(which, x);
  }
};

// A step tried: the new values, the estimate of the local error, and the dense output
//   y(s) = (1-s) y0 + s (y1 + (1-s) (d0 + s (d1 + s d2))),  0 <= s <= 1, of order 4.
struct Trial {
  Array<double> y1, error, f1, dense[3];
  Array<double> stage[8], work, add, scale;
  bool solved = true;
  bool has_f1 = false;  // f1 = F(y1) came for free

  // y(s) of one entry, from y0.
  struct Curve {
    const double *y0, *y1, *d0, *d1, *d2;
    AGF_CORE double operator()(std::size_t i, double s) const {
      return (1 - s) * y0[i] + s * (y1[i] + (1 - s) * (d0[i] + s * (d1[i] + s * d2[i])));
    }
  };
  AGF_CORE double at(std::size_t row, std::size_t column, std::size_t size, const double* y0, double s) const {
    return curve(y0)(row * size + column, s);
  }
  AGF_CORE Curve curve(const double* y0) const {
    return {y0, y1.data(), dense[0].data(), dense[1].data(), dense[2].data()};
  }
};

// Evaluations of the right-hand side, the one at y0 (given as f0) not counted. h, y0 and f0 lie in arrays.
AGF_CORE void explicit_step(Field& field, const Array<int>& which, const double* h, const double* y0, const double* f0,
                            Trial& trial);
// The field has been factorised at y0 with shift 1/(gamma h) for every system in `which`.
AGF_CORE void implicit_step(StiffField& field, const Array<int>& which, const double* h, const double* y0,
                            const double* f0, Trial& trial);

AGF_TABLE int explicit_evaluations = 6;
AGF_TABLE int implicit_evaluations = 7;

// Local tolerance of a run that is to be right to rtol at its end.
//
// A kinked sigma (relu, leaky_relu) on samples makes a flow that is discontinuous across every hyperplane w.x = 0 and
// slides along those that attract from both sides. Implicit steps follow it through a ramp of half-width `ramp`
// (relative to |theta| sqrt(E|x|^2)). Measured on random problems: the ramp moves jump times by 0.1 to 200 times its
// width, proportionally, provided the local tolerance resolves the ramp to a hundredth; with tolerance and ramp alike
// the error estimate misses kinks and times stop converging. Where samples are many the step at one kink, of order 1/n,
// is itself below the accuracy asked for: then chatter across it averages to the sliding motion, and nothing is gained
// by resolving it.
struct Accuracy {
  double local, ramp;
};
AGF_CORE Accuracy accuracy(double rtol, const Problem& problem, bool implicit);

// How many times longer a step of a method whose local error is of order h^(order+1) may be, to be just acceptable.
AGF_CORE double step_reach(double error, int order);
// Next step from the scaled error (1: just acceptable) of an embedded pair of orders 5 and 4, at most so many times
// as long.
AGF_TABLE double usual_stride = 6;
AGF_CORE double step_factor(double error, bool after_rejection, double most = usual_stride);

}  // namespace AGF_SPACE
