// Instruction data as training examples: rows, formatted, tokenised in parallel, cut to length.
//
// Invariant: examples and report depend on the files, the settings and the tokenizer, never on the
// number of threads.
#pragma once

#include <cstdint>
#include <string>

#include "mora/data/data_report.hpp"
#include "mora/data/prompt_formats.hpp"
#include "mora/data/row_layouts.hpp"
#include "mora/data/token_cache.hpp"
#include "mora/text/tokenizer.hpp"

namespace mora {

enum class TooLong { truncate, drop };
enum class TrainOn { completion, all };  // all: every token but the first

struct SupervisedSettings {
  int64_t max_length = 2048;  // tokens
  TooLong too_long = TooLong::truncate;
  TrainOn train_on = TrainOn::completion;
  int64_t max_samples = 0;  // rows to use; 0: all
};

// What became of the rows.
struct SupervisedCounts {
  RowCounts rows;
  int64_t cut = 0;             // longer than max_length: truncated
  int64_t dropped_long = 0;    // ... or dropped
  int64_t dropped_masked = 0;  // no trained token (was left)
  SampleCounts samples;        // of the examples

  bool operator==(const SupervisedCounts&) const = default;
};

struct SupervisedData {
  TokenData examples;
  SupervisedCounts counts;
  std::string origin;  // a line for people, as CachedTokens has it
};

// The ids of the whole text, BOS in front where the tokenizer adds one; a token is learnt when it
// begins in a trained range or reaches into one (docs/data.md).
Example tokenize_marked(const Tokenizer& tokenizer, const MarkedText& text, TrainOn train_on);

// Error(data) when no example is left.
SupervisedData read_supervised(const Tokenizer& tokenizer, const RowFiles& files,
                               const PromptFormat& format, const SupervisedSettings& settings,
                               const TokenCache& cache = {});

// Lines for the start of a run: counts and the first example.
std::string report(const Tokenizer& tokenizer, const SupervisedData& data);

}  // namespace mora
