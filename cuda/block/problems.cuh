// The problem of a run, made anew in the memory of each run.
#pragma once

#include "agf/problem.hpp"
#include "block/launch.hpp"
#include "dense.hpp"
#include "modular.hpp"
#include "moments.hpp"

namespace AGF_SPACE::cuda {

AGF_CORE inline Owned<Problem> problem_of(const shared::ProblemView& view) {
  switch (view.model) {
    case shared::Model::dense:
      return make_owned<DenseCuda<double>>(view.dense);
    case shared::Model::modular:
      return make_owned<ModularCuda>(view.modular);
    case shared::Model::moments:
      return make_owned<MomentsCuda>(view.moments);
    case shared::Model::design:
      break;  // not one of neurons: its runs have engines of their own
  }
  return {};
}

}  // namespace AGF_SPACE::cuda
