// All logits of one sequence, for comparisons.
#pragma once

#include <span>

#include "mora/backend/backend.hpp"
#include "mora/models/llama.hpp"

namespace mora {

// [T, V] in f32; dropout is off.
OwnedTensor sequence_logits(const Llama& model, const ParameterStore& store,
                            std::span<const int32_t> ids, const Backend& backend);

}  // namespace mora
