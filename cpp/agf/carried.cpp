#include "carried.hpp"

#include <map>
#include <memory>
#include <utility>

#include "frame.hpp"

namespace agf {

namespace {

class Framed final : public Bystander {
 public:
  Framed(Freight& freight, Bystander& bystander) : bystander_(bystander) {
    std::map<const Problem*, std::shared_ptr<const Reduction>> reductions;
    frames_.reserve(freight.starts.size());
    for (std::size_t run = 0; run < freight.starts.size(); ++run) {
      const Problem*& problem = freight.problems[run];
      std::shared_ptr<const Reduction>& reduction = reductions[problem];
      if (!reduction) reduction = std::make_shared<const Reduction>(*problem);
      frames_.emplace_back(reduction, freight.starts[run]);
      freight.starts[run] = frames_.back().inward(freight.starts[run]);
      problem = &reduction->problem();
    }
  }

  bool seen(std::size_t run, const Jump& jump) override { return bystander_.seen(run, outward(run, jump)); }
  bool seen(std::size_t run, const Point& point, const State* state) override {
    if (!state) return bystander_.seen(run, point, nullptr);
    const State there = frames_[run].outward(*state);
    return bystander_.seen(run, point, &there);
  }
  void over(std::size_t run, Trajectory path) override {
    for (Jump& jump : path.jumps) jump = outward(run, std::move(jump));
    for (State& state : path.states) state = frames_[run].outward(state);
    path.state = frames_[run].outward(path.state);
    bystander_.over(run, std::move(path));
  }
  bool stops(Status& reason) override { return bystander_.stops(reason); }

 private:
  Jump outward(std::size_t run, Jump jump) const {
    jump.direction = frames_[run].outward(jump.neuron, jump.direction.data());
    jump.state = frames_[run].outward(jump.state);
    return jump;
  }

  std::vector<Frame> frames_;
  Bystander& bystander_;
};

}  // namespace

std::vector<std::size_t> carry(const Carrier& carrier, Freight freight, const std::vector<AlternateOptions>& options,
                               Bystander& bystander) {
  Framed framed(freight, bystander);
  return carrier.alternate(freight, options, framed);
}

std::vector<std::size_t> carry(const Carrier& carrier, Freight freight, const std::vector<FlowOptions>& options,
                               Bystander& bystander) {
  Framed framed(freight, bystander);
  return carrier.flow(freight, options, framed);
}

}  // namespace agf
