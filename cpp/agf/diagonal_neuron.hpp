// One neuron of a diagonal network, f = (prod_l u_l) x_j, by what its flow conserves.
//
// du_l/dt = g prod_{k != l} u_k, so u_l^2 - u_k^2 is conserved. With v the layer of least |u| and |u_l|^2 = c_l + v^2
// for the others, everything is a function of v. The signs are a gauge: with v times the others' signs in place of v,
// all layers but v are positive, beta = v prod_l sqrt(c_l + v^2) and
//   dv/dt = g prod_l sqrt(c_l + v^2).
// With c the least of the c_l: v = sqrt(c) sinh x if c > 0, v = e^x if c = 0 (then v never changes sign), and
//   dx/dt = g rho(x),   rho = prod_{l but that one} sqrt(c_l + v^2).
// At depth 2, rho = 1 and the mirror variable x is the integral of g; beyond, T = int dx / rho is.
// Everything is in logarithms, so that no initial scale underflows.
#pragma once

#include <vector>

namespace agf {

class DiagonalNeuron {
 public:
  // ln c_l of all layers but v, in any order; -infinity for 0. With `adaptive` the rate of learning is
  // |theta|^(2 - depth).
  DiagonalNeuron(std::vector<double> log_gaps, bool adaptive);

  int depth() const { return static_cast<int>(log_gaps_.size()) + 1; }
  // c = 0: v never changes sign, and only x of that sign exists (as ln v).
  bool pinned() const;
  // Never below norm 1.
  bool free() const { return free_; }
  // x where the norm is 1, of v > 0.
  double end() const { return end_; }

  // For v > 0, x from ln v and back.
  double position(double log_v) const;
  double log_v(double x) const;
  // As functions of ln v: ln |theta|, ln |beta|, ln (d beta / d x), ln rho.
  double log_norm(double log_v) const;
  double log_product(double log_v) const;
  double log_slope(double log_v) const;
  double log_rate(double log_v) const;
  // d ln rho / dx.
  double log_rate_slope(double log_v) const;
  // ln v at which ln |beta| is this.
  double log_v_of_product(double log_product) const;

  // int_from^to dx / rho in units of e^log_unit; 0 <= from unless c = 0.
  double travel(double from, double to, double log_unit) const;
  // The logarithm of the same in units of 1.
  double log_travel(double from, double to) const;
  // The x at which travel(0, x) (where c = 0: travel(x, end())) is this.
  double arrival(double travelled, double log_unit) const;

  bool same(const std::vector<double>& log_gaps) const { return log_gaps == log_gaps_; }

 private:
  std::vector<double> log_gaps_;  // ascending
  bool adaptive_, free_ = false;
  double end_ = 0;

  double log_integrand(double x) const;
};

// ln(e^a + e^b)
double log_add(double a, double b);

}  // namespace agf
