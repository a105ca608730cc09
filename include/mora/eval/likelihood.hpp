// Log-likelihoods of continuations of contexts: what multiple choice is scored by, as
// lm-evaluation-harness's loglikelihood requests.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "mora/backend/backend.hpp"
#include "mora/models/llama.hpp"
#include "mora/plan/plan.hpp"

namespace mora {

struct Continuation {
  std::vector<int32_t> context;       // at least one token
  std::vector<int32_t> continuation;  // at least one
};

struct Likelihood {
  double log_probability = 0;  // natural logarithm of the continuation's probability
  bool greedy = false;         // whether every token of it is the most likely one
};

// Sequences that begin alike are read once: few-shot examples in front of many questions, one
// question in front of its answers.
class LikelihoodScorer {
 public:
  // `slots` sequences of up to `capacity` tokens at once. Error(data) when the capacity exceeds the
  // model's positions.
  LikelihoodScorer(const Llama& model, const ParameterStore& store, int64_t slots, int64_t capacity,
                   const Backend& backend, Workspace& workspace);
  ~LikelihoodScorer();

  // In the order of the requests. A sequence longer than the capacity loses tokens at its front, as
  // in the harness; Error(data) when a continuation alone is longer, or a token is none of the
  // model's.
  std::vector<Likelihood> score(std::span<const Continuation> requests);

  int64_t tokens_read() const;  // so far, without those that were shared

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mora
