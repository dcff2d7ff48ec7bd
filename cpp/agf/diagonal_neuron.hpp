// One neuron of a diagonal network, f = (prod_l u_l) x_j, by what its flow conserves.
//
// du_l/dt = g prod_{k != l} u_k, so u_l^2 - u_k^2 is conserved. With v the layer of least |u| and |u_l|^2 = c_l + v^2
// for the others, everything is a function of v. The signs are a gauge: with v times the others' signs in place of v,
// all layers but v are positive, beta = v prod_l sqrt(c_l + v^2) and
//   dv/dt = g prod_l sqrt(c_l + v^2).
// With c the least of the c_l: v = sqrt(c) sinh x if c > 0, v = e^x if c = 0 (then v never changes sign), and
//   dx/dt = g rho(x),   rho = prod_{l but that one} sqrt(c_l + v^2).
// At depth 2, rho = 1 and the mirror variable x is the integral of g; beyond, T = int dx / rho is.
// Everything is in logarithms, so that no initial scale underflows. A neuron lies in an array: many threads ask it.
#pragma once

#include "containers.hpp"

namespace AGF_SPACE {

class DiagonalNeuron {
 public:
  // ln c_l of all layers but v, in any order; -infinity for 0. With `adaptive` the rate of learning is
  // |theta|^(2 - depth).
  AGF_CORE DiagonalNeuron(Array<double> log_gaps, bool adaptive);

  AGF_CORE int depth() const { return static_cast<int>(log_gaps_.size()) + 1; }
  // c = 0: v never changes sign, and only x of that sign exists (as ln v).
  AGF_CORE bool pinned() const;
  // Never below norm 1.
  AGF_CORE bool free() const { return free_; }
  // x where the norm is 1, of v > 0.
  AGF_CORE double end() const { return end_; }

  // For v > 0, x from ln v and back.
  AGF_CORE double position(double log_v) const;
  AGF_CORE double log_v(double x) const;
  // As functions of ln v: ln |theta|, ln |beta|, ln (d beta / d x), ln rho.
  AGF_CORE double log_norm(double log_v) const;
  AGF_CORE double log_product(double log_v) const;
  AGF_CORE double log_slope(double log_v) const;
  AGF_CORE double log_rate(double log_v) const;
  // d ln rho / dx.
  AGF_CORE double log_rate_slope(double log_v) const;
  // ln v at which ln |beta| is this.
  AGF_CORE double log_v_of_product(double log_product) const;

  // int_from^to dx / rho in units of e^log_unit; 0 <= from unless c = 0.
  AGF_CORE double travel(double from, double to, double log_unit) const;
  // The logarithm of the same in units of 1.
  AGF_CORE double log_travel(double from, double to) const;
  // The x at which travel(0, x) (where c = 0: travel(x, end())) is this.
  AGF_CORE double arrival(double travelled, double log_unit) const;

  AGF_CORE bool same(const Array<double>& log_gaps) const;

 private:
  Array<double> log_gaps_;  // ascending
  Array<double> zones_;     // beyond depth 2, the x around which the integrand is no pure exponential
  bool adaptive_, free_ = false;
  double end_ = 0;

  AGF_CORE double log_integrand(double x) const;
  AGF_CORE double knot(double left, double to) const;
};

// ln(e^a + e^b)
AGF_CORE double log_add(double a, double b);

}  // namespace AGF_SPACE
