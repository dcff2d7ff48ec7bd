// Every leaf of a problem at one point, for tests: those of a block beside those of the host.
#pragma once

#include <cstddef>

#include "agf/problem.hpp"
#include "block/report.cuh"

namespace AGF_SPACE::cuda {

// Reports, each as the direction of a state without neurons: the loss; U; grad U; hess U v; -(hess L) v; hess U of each
// neuron; hess L; the contributions. `start`: directions are theta, log-norms are not looked at; v is theta backwards.
// Twice: of sigma, and of its leading term.
AGF_CORE AGF_APART inline void show_leaves(In& in, const Problem& problem) {
  State start;
  pass(in, start);
  const std::size_t count = start.count, m = start.params, size = count * m;
  const Array<double>& theta = start.direction;
  Array<double> v(size), value(count), out(size), own(count * m * m), all(size * size);
  const double* const from = theta.data();
  double* const to = v.data();
  agf::each(size, [=](std::size_t e) { to[e] = from[size - 1 - e]; });
  const Owned<Signal> r = problem.make_signal(), dr = problem.make_signal();
  State shown;
  const auto show = [&](const Array<double>& numbers) {
    shown.direction = numbers;
    send(Message::state, shown);
  };
  for (const bool leading : {false, true}) {
    const Shape shape{leading, nullptr};
    value.assign(1, problem.residual(theta.data(), count, *r, shape));
    show(value);
    value.resize(count);
    problem.utility(theta.data(), count, *r, value.data(), out.data(), shape);
    show(value);
    show(out);
    problem.curvature_vector(theta.data(), v.data(), count, *r, nullptr, out.data(), shape);
    show(out);
    problem.residual_derivative(theta.data(), v.data(), count, *dr, shape);
    problem.curvature_vector(theta.data(), v.data(), count, *r, dr.get(), out.data(), shape);
    show(out);
    problem.utility_hessian(theta.data(), count, *r, own.data(), shape);
    show(own);
    problem.loss_hessian(theta.data(), count, *r, all.data(), shape);
    show(all);
    problem.contribution(theta.data(), count, value.data());
    show(value);
  }
  Trajectory none;
  send(Message::over, none);
}

}  // namespace AGF_SPACE::cuda
