// Generator: continuation of many prompts at once with a key-value cache, greedy or sampled.
//
// Plans of one graph: prefills that take a fixed number of prompt tokens of any sequences, made
// when first needed, and a decoding step with one token per sequence.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "mora/backend/backend.hpp"
#include "mora/eval/sampling.hpp"
#include "mora/models/llama.hpp"
#include "mora/plan/plan.hpp"

namespace mora {

struct GeneratorShape {
  int64_t batch_size;  // sequences at once
  int64_t capacity;    // longest prompt plus continuation, in tokens
};

// What the caches may still hold of the last call; `reuse` reads only the part of a prompt that
// differs from what its place in the batch had then: the next turn of a conversation.
enum class CacheUse : uint8_t { fresh, reuse };

struct GenerateOptions {
  int64_t max_new_tokens;
  std::vector<int64_t> limits = {};  // fewer new tokens for each prompt; empty: for none
  // Asked after each new token of a prompt with all of its new tokens; true ends it. Empty: only
  // max_new_tokens and `ends` do.
  std::function<bool(size_t prompt, std::span<const int32_t> continuation)> finished = {};
  Sampling sampling = {};
  std::vector<int32_t> ends = {};  // tokens that end a continuation, which keeps them
  uint32_t first_sample = 0;       // number of the first prompt, for the random numbers
  CacheUse cache = CacheUse::fresh;

  int64_t limit(size_t prompt) const {
    return limits.empty() ? max_new_tokens : std::min(max_new_tokens, limits[prompt]);
  }
};

// What a generator has done so far. Tokens that came from a cache count nowhere.
struct GenerateTimes {
  int64_t prefill_tokens = 0, decode_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;
};

class Generator {
 public:
  // Throws Error(data) when the capacity exceeds the positions that the model's RoPE table covers.
  Generator(const Llama& model, const ParameterStore& store, const GeneratorShape& shape,
            const Backend& backend, Workspace& workspace);
  ~Generator();

  // The continuations, without the prompts, in the order of the prompts. Prompts are not empty.
  // Throws Error(data) when a prompt leaves no room for a continuation or has a token that the
  // model does not, Error(numerical) when logits are not numbers.
  std::vector<std::vector<int32_t>> generate(std::span<const std::vector<int32_t>> prompts,
                                             const GenerateOptions& options);

  const GenerateTimes& times() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mora
