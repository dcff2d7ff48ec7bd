// Small runs on a device, each carried by one block of its threads from beginning to end.
#pragma once

#include <cstddef>
#include <vector>

#include "agf/carrier.hpp"

namespace agf::cuda {

class BlockCarrier final : public Carrier {
 public:
  // `least`: bytes that a run is given at first; less than usual for tests of what happens where they do not suffice.
  static constexpr std::size_t usual_bytes = std::size_t{1} << 21;
  explicit BlockCarrier(int device, std::size_t least = usual_bytes) : device_(device), least_(least) {}

  bool carries(const Problem& problem, std::size_t count) const override;
  bool carries(const Design& design) const override;
  std::vector<std::size_t> alternate(const Freight& freight, const std::vector<AlternateOptions>& options,
                                     Bystander& bystander) const override;
  std::vector<std::size_t> flow(const Freight& freight, const std::vector<FlowOptions>& options,
                                Bystander& bystander) const override;
  std::vector<std::size_t> alternate(const DiagonalFreight& freight, const std::vector<DiagonalPathOptions>& options,
                                     Bystander& bystander) const override;
  std::vector<std::size_t> flow(const DiagonalFreight& freight, const std::vector<FlowOptions>& options,
                                Bystander& bystander) const override;

 private:
  template <typename Options>
  std::vector<std::size_t> carry_problems(const Freight& freight, const std::vector<Options>& options,
                                          Bystander& bystander) const;
  template <typename Options>
  std::vector<std::size_t> carry_designs(const DiagonalFreight& freight, const std::vector<Options>& options,
                                         Bystander& bystander) const;
  template <typename Load>
  std::vector<std::size_t> carry(std::size_t runs, const Load& load, Bystander& bystander) const;

  int device_;
  std::size_t least_;
};

}  // namespace agf::cuda
