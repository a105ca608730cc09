// The cases of the table that make sense with activations in bf16.
#pragma once

#include <vector>

#include "op_cases.hpp"

namespace mora::testing {

// Of the largest magnitude: a result is rounded once, to 8 bits, and may be a sum of rounded ones.
constexpr double kBf16Bound = 1e-2;

// What the inputs of a case may be stored in, f32 or bf16; several ways where types may differ,
// none where the operation takes no activations.
std::vector<std::vector<DType>> bf16_types(const OpCase& c);

}  // namespace mora::testing
