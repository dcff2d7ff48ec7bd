// The faint columns of `Directions` under a quadratic form B(t) that moves: G' = B(t) G, columns = G * (columns
// before).
#pragma once

#include "containers.hpp"

#include "directions.hpp"
#include "modes.hpp"

namespace AGF_SPACE {

class Transport {
 public:
  AGF_CORE explicit Transport(Directions& directions) : directions_(directions) {}

  // Whether the frame that the columns come with is one of eigenvectors, as for `adopt`.
  AGF_CORE void expect(bool structured) { structured_ = structured; }

  // Takes the motion so far into the columns, now by their components along the given eigenvectors.
  AGF_CORE void settle(const Modes& now);
  // The same, and then for a time t with B standing still.
  AGF_CORE void grow(const Modes& now, double t);
  // The columns were changed from outside; there is no motion yet.
  AGF_CORE void begin();
  // From t to t + h by a Magnus step of order 6, B given at its three Gauss points. False, with nothing done, where the
  // step is too long for that.
  AGF_CORE bool step(const Array<double>& b1, const Array<double>& b2, const Array<double>& b3, double h);
  // Whether `step` would be exact but for its length: B stands still.
  AGF_CORE static bool still(const Array<double>& b1, const Array<double>& b2, const Array<double>& b3, double h);
  // Beyond this the motion mixes what rounding cannot keep apart.
  AGF_CORE bool strained() const { return strain_ > most_strain; }
  // ln of the root of the sum of squares of all columns.
  AGF_CORE double log_size() const { return log_size_; }

  static constexpr double first = 0.11270166537925831, last = 0.88729833462074169;  // Gauss points beside 1/2

 private:
  static constexpr double most_strain = 6, most_contrast = 1;
  Directions& directions_;
  bool structured_ = false;
  Array<double> motion_, columns_, parts_;
  double strain_ = 0, contrast_ = 0, shift_ = 0, log_size_ = 0;

  AGF_CORE void measure();
};

}  // namespace AGF_SPACE
