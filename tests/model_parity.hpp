// A whole model against numbers that transformers computed for it: logits over a text and a greedy
// continuation.
#pragma once

#include <filesystem>

#include "mora/core/dtype.hpp"

namespace mora::testing {

struct ModelParity {
  double logits_error;          // largest difference over the stored logits / largest logit of all
  int64_t tokens;               // of the text
  int64_t equal, continuation;  // leading tokens of the greedy continuation that agree; its length
};

// `folder` is a Hugging Face model, `adapter` the folder of one for it, or empty; `golden` is a
// file of tests/golden/make_model_goldens.py; `working` is what is computed in, f32 or f64. Error
// when any cannot be read.
ModelParity compare_with_golden(const std::filesystem::path& folder,
                                const std::filesystem::path& golden,
                                const std::filesystem::path& adapter = {},
                                DType working = DType::f32);

}  // namespace mora::testing
