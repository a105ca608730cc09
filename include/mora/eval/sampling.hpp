// Choosing the next token from a model's logits, as transformers does it: repetition penalty, then
// temperature, then top-k, then top-p, each on what the one before left.
//
// The choice is a function of logits, settings, and (seed, sample, position): never of the batch a
// prompt is in, or of the number of threads.
#pragma once

#include <cstdint>
#include <span>

namespace mora {

struct Sampling {
  double temperature = 0;         // 0: always the largest logit (greedy), ties to the lower token
  int64_t top_k = 0;              // 0: all tokens; tokens that tie with the k-th stay
  double top_p = 1;               // in (0, 1]
  double repetition_penalty = 1;  // > 0; on every token that is already in the text
  uint64_t seed = 0;
};

// Error(usage) for settings outside their ranges.
void check_sampling(const Sampling& sampling);

// `seen`: the prompt and what was made of its continuation so far; `logits` is scratch. Error
// (numerical) when no logit is a number.
int32_t choose_token(std::span<double> logits, const Sampling& sampling,
                     std::span<const int32_t> seen, uint32_t sample, uint64_t position);

}  // namespace mora
