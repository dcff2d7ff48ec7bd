#include "block/view.hpp"

#include "dense.hpp"
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

}  // namespace agf::cuda
