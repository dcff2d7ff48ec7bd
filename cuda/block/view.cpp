#include "block/view.hpp"

#include "dense.hpp"
#include "design.hpp"
#include "modular.hpp"
#include "moments.hpp"

namespace agf::cuda {

bool view_of(const Problem& problem, shared::ProblemView& view) {
  if (const auto* const dense = dynamic_cast<const DenseCuda<double>*>(&problem)) {
    view.model = shared::Model::dense;
    view.dense = dense->view();
  } else if (const auto* const modular = dynamic_cast<const ModularCuda*>(&problem)) {
    view.model = shared::Model::modular;
    view.modular = modular->view();
  } else if (const auto* const moments = dynamic_cast<const MomentsCuda*>(&problem)) {
    view.model = shared::Model::moments;
    view.moments = moments->view();
  } else {
    return false;
  }
  return true;
}

bool view_of(const Design& design, const double* target, Room& room, shared::ProblemView& view) {
  view.model = shared::Model::design;
  view.design = {design.rows(), design.columns(), nullptr, nullptr};
  if (const auto* const wide = dynamic_cast<const DesignCuda<double>*>(&design)) {
    view.design.x = wide->in_double(room);
  } else if (const auto* const narrow = dynamic_cast<const DesignCuda<float>*>(&design)) {
    view.design.x = narrow->in_double(room);
  } else {
    return false;
  }
  view.design.y = room.take(target, design.rows());
  return true;
}

}  // namespace agf::cuda
