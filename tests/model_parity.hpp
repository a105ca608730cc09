// A whole model against numbers that transformers computed for it: logits over a text and a greedy
// continuation.
#pragma once

#include <filesystem>

namespace mora::testing {

struct ModelParity {
  double logits_error;          // largest difference over the stored logits / largest logit of all
  int64_t tokens;               // of the text
  int64_t equal, continuation;  // leading tokens of the greedy continuation that agree; its length
};

// `folder` is a Hugging Face model, `adapter` the folder of one for it, or empty; `golden` is a
// file of tests/golden/make_model_goldens.py. Error when any cannot be read.
ModelParity compare_with_golden(const std::filesystem::path& folder,
                                const std::filesystem::path& golden,
                                const std::filesystem::path& adapter = {});

}  // namespace mora::testing
