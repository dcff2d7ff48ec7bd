// Who carries whole runs by himself, many at the same time: a device, for small problems.
#pragma once

#include <cstddef>
#include <vector>

#include "alternate.hpp"
#include "design.hpp"
#include "diagonal_path.hpp"
#include "flow.hpp"
#include "problem.hpp"
#include "trajectory.hpp"

namespace agf {

// Hears of the runs, by their numbers, on the thread that has them carried.
class Bystander {
 public:
  virtual ~Bystander() = default;
  // Records as they are made, where somebody watches; true stops the run.
  virtual bool seen(std::size_t run, const Jump& jump) = 0;
  virtual bool seen(std::size_t run, const Point& point, const State* state) = 0;
  virtual void over(std::size_t run, Trajectory path) = 0;
  // Asked all the time: true, with the reason, stops all runs; those that have not begun are not begun.
  virtual bool stops(Status& reason) = 0;
};

struct Freight {
  bool directions;  // which engine: that of neurons, or of directions of the neuron space
  bool watched;
  std::vector<const Problem*> problems;  // one for each start
  std::vector<State> starts;
};

// Runs of diagonal networks: a design, its targets and a start for each. Those of a path may have none (count 0).
struct DiagonalFreight {
  bool watched;
  std::vector<const Design*> designs;
  std::vector<const double*> targets;
  std::vector<State> starts;
};

class Carrier {
 public:
  virtual ~Carrier() = default;
  // Whether runs of so many neurons are carried. It does not depend on how many runs there are, so that each is the
  // same alone and in company.
  virtual bool carries(const Problem& problem, std::size_t count) const = 0;
  virtual bool carries(const Design& design) const = 0;
  // One of `options` for each start. Runs that turn out to be too large are left: returns their numbers.
  virtual std::vector<std::size_t> alternate(const Freight& freight, const std::vector<AlternateOptions>& options,
                                             Bystander& bystander) const = 0;
  virtual std::vector<std::size_t> flow(const Freight& freight, const std::vector<FlowOptions>& options,
                                        Bystander& bystander) const = 0;
  virtual std::vector<std::size_t> alternate(const DiagonalFreight& freight,
                                             const std::vector<DiagonalPathOptions>& options,
                                             Bystander& bystander) const = 0;
  virtual std::vector<std::size_t> flow(const DiagonalFreight& freight, const std::vector<FlowOptions>& options,
                                        Bystander& bystander) const = 0;
};

}  // namespace agf
