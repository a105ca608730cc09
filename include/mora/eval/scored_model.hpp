// The model that is scored, with what computes it.
#pragma once

#include "mora/backend/backend.hpp"
#include "mora/models/llama.hpp"
#include "mora/plan/plan.hpp"

namespace mora {

struct ScoredModel {
  const Llama& model;
  const ParameterStore& store;
  const Backend& backend;
  Workspace& workspace;
};

}  // namespace mora
