// Instruction data as training examples: rows, formatted, tokenised in parallel, cut to length.
//
// Invariant: examples and report depend on the files, the settings and the tokenizer, never on the
// number of threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mora/data/example.hpp"
#include "mora/data/prompt_formats.hpp"
#include "mora/data/row_layouts.hpp"
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
  int64_t trained_ends = 0;    // examples whose last trained token is EOS
  int64_t tokens = 0, trained_tokens = 0;
};

// Examples one after the other in flat arrays.
class ExampleList {
 public:
  void append(const Example& example);
  int64_t size() const { return static_cast<int64_t>(ends_.size()); }
  ExampleView operator[](int64_t i) const;

 private:
  std::vector<int32_t> tokens_;
  std::vector<float> weights_;
  std::vector<size_t> ends_;
};

struct SupervisedData {
  ExampleList examples;
  SupervisedCounts counts;
};

// The ids of the whole text, BOS in front where the tokenizer adds one; a token is learnt when it
// begins in a trained range or reaches into one (docs/data.md).
Example tokenize_marked(const Tokenizer& tokenizer, const MarkedText& text, TrainOn train_on);

// Error(data) when no example is left.
SupervisedData read_supervised(const Tokenizer& tokenizer, const RowFiles& files,
                               const PromptFormat& format, const SupervisedSettings& settings);

// An example as text for people: trained runs between "[[" and "]]", BOS and EOS as the vocabulary
// writes them.
std::string show_example(const Tokenizer& tokenizer, const ExampleView& example);

// Lines for the start of a run: counts and the first example.
std::string report(const Tokenizer& tokenizer, const SupervisedData& data);

}  // namespace mora
