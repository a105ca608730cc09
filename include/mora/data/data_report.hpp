// What a run tells of its data before it trains on them: counts, and one sample with the trained
// tokens marked.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "mora/data/example.hpp"
#include "mora/text/tokenizer.hpp"

namespace mora {

struct SampleCounts {
  int64_t samples = 0;
  int64_t tokens = 0, trained_tokens = 0;
  int64_t trained_ends = 0;  // samples whose last trained token is EOS

  bool operator==(const SampleCounts&) const = default;
};

// Adds one sample.
void count_sample(const ExampleView& sample, std::optional<int32_t> eos, SampleCounts& counts);

// All of them, in parallel.
SampleCounts count_samples(int64_t n, const std::function<ExampleView(int64_t)>& sample,
                           std::optional<int32_t> eos);

// A sample as text for people: trained runs between "[[" and "]]", BOS and EOS as the vocabulary
// writes them.
std::string show_example(const Tokenizer& tokenizer, const ExampleView& example);

// "data: 12 examples <origin>; 31.0 % of 480 tokens are trained; 12 end in a trained EOS<rest>",
// and the first sample. `origin` begins with "of", `rest` with ";" unless it is empty.
std::string report_samples(const Tokenizer& tokenizer, const SampleCounts& counts,
                           const std::string& origin, const std::string& rest,
                           const ExampleView& first);

}  // namespace mora
