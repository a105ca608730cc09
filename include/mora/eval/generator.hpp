// Generator: greedy continuation of many prompts at once with a key-value cache.
//
// Two plans of one graph: a prefill that takes a fixed number of prompt tokens of any sequences,
// and a decoding step with one token per sequence.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "mora/backend/backend.hpp"
#include "mora/models/llama.hpp"
#include "mora/plan/plan.hpp"

namespace mora {

struct GeneratorShape {
  int64_t batch_size;  // sequences at once
  int64_t capacity;    // longest prompt plus continuation, in tokens
};

struct GenerateOptions {
  int64_t max_new_tokens;
  // Asked after each new token of a sequence; true ends that sequence. Empty: only max_new_tokens
  // ends it.
  std::function<bool(std::span<const int32_t> continuation)> finished = {};
};

class Generator {
 public:
  // Throws Error(data) when the capacity exceeds the positions that the model's RoPE table covers.
  Generator(const Llama& model, const ParameterStore& store, const GeneratorShape& shape,
            const Backend& backend, Workspace& workspace);
  ~Generator();

  // The continuations, without the prompts, in the order of the prompts. Prompts are not empty.
  // Ties between logits go to the lower token. Throws Error(data) when a prompt leaves no room for
  // a continuation.
  std::vector<std::vector<int32_t>> greedy(std::span<const std::vector<int32_t>> prompts,
                                           const GenerateOptions& options);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mora
