// Asking a model the questions of a benchmark, as lm-evaluation-harness asks them.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "mora/benchmarks/benchmark.hpp"
#include "mora/eval/likelihood.hpp"
#include "mora/eval/scored_model.hpp"
#include "mora/text/tokenizer.hpp"

namespace mora {

// A text and what may follow it, encoded together, so that a token may hold the end of a word and
// not its beginning: the first tokens, as many as the context has by itself, are the context's,
// the rest is the continuation. White space at the context's end belongs to the continuation. BOS
// is in front where the tokenizer adds it and the text does not begin with it. A context without
// tokens is BOS, or EOS where there is none.
//
// Error(data) where the continuation adds no token.
Continuation encode_pair(const Tokenizer& tokenizer, std::string_view context,
                         std::string_view continuation);

struct BenchmarkRun {
  const Tokenizer& tokenizer;
  int64_t batch_size;                                              // at most so many at once
  std::vector<int32_t> ends = {};                                  // tokens that end an answer
  std::function<void(int64_t done, int64_t total)> progress = {};  // called now and then
};

struct BenchmarkResult {
  std::vector<Reply> replies;  // in the order of the questions, as the judgements
  std::vector<Judgement> judgements;
  std::vector<Measurement> summary;
};

// Prompts that are too long lose tokens at their front: behind a likelihood request's everything
// the model has positions for is read, before a generated answer room for all of it is kept. Error
// (usage) when max_new_tokens leaves no room for a prompt.
BenchmarkResult run_benchmark(const Benchmark& benchmark, const ScoredModel& scored,
                              const BenchmarkRun& run);

}  // namespace mora
