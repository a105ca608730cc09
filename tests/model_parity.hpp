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

// `folder` is a Hugging Face model; `golden` is a file of tests/golden/make_model_goldens.py. Error
// when either cannot be read.
ModelParity compare_with_golden(const std::filesystem::path& folder,
                                const std::filesystem::path& golden);

}  // namespace mora::testing
