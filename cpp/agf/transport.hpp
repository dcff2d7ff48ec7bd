// The faint columns of `Directions` under a quadratic form B(t) that moves: G' = B(t) G, columns = G * (columns
// before).
#pragma once

#include <vector>

#include "directions.hpp"
#include "modes.hpp"

namespace agf {

class Transport {
 public:
  explicit Transport(Directions& directions) : directions_(directions) {}

  // Whether the frame that the columns come with is one of eigenvectors, as for `adopt`.
  void expect(bool structured) { structured_ = structured; }

  // Takes the motion so far into the columns, now by their components along the given eigenvectors.
  void settle(const Modes& now);
  // The same, and then for a time t with B standing still.
  void grow(const Modes& now, double t);
  // The columns were changed from outside; there is no motion yet.
  void begin();
  // From t to t + h by a Magnus step of order 6, B given at its three Gauss points. False, with nothing done, where the
  // step is too long for that.
  bool step(const std::vector<double>& b1, const std::vector<double>& b2, const std::vector<double>& b3, double h);
  // Whether `step` would be exact but for its length: B stands still.
  static bool still(const std::vector<double>& b1, const std::vector<double>& b2, const std::vector<double>& b3,
                    double h);
  // Beyond this the motion mixes what rounding cannot keep apart.
  bool strained() const { return strain_ > most_strain; }
  // ln of the root of the sum of squares of all columns.
  double log_size() const { return log_size_; }

  static constexpr double first = 0.11270166537925831, last = 0.88729833462074169;  // Gauss points beside 1/2

 private:
  static constexpr double most_strain = 6, most_contrast = 1;
  Directions& directions_;
  bool structured_ = false;
  std::vector<double> motion_, columns_;
  double strain_ = 0, contrast_ = 0, shift_ = 0, log_size_ = 0;

  void measure();
};

}  // namespace agf
