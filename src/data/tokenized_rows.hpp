// Rows that bring token ids, in Hugging Face's names.
#pragma once

#include <optional>

#include "io/json.hpp"
#include "mora/data/example.hpp"

namespace mora {

struct TokenizedRow {
  JsonView input_ids;
  std::optional<JsonView> labels, attention_mask;
};

// The ids, each in [0, vocab_size), at least one. Weights are 1 where the label is the id and 0
// where it is -100; the first token's counts only where something precedes it. Padding goes: tokens
// at either end whose attention_mask is 0 and that are not trained. Error(data) for any other
// label, and for a mask of 0 before a token that sees it.
Example read_tokenized(const TokenizedRow& row, int32_t vocab_size);

}  // namespace mora
