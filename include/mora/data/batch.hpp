// Batch: a fixed number of token slots into which whole sequences are packed one after the other.
//
// Every sequence is a segment with positions from 0; no label crosses from one segment into the
// next. The unused tail consists of single-token segments of weight 0. Filling a batch allocates
// nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mora/data/example.hpp"

namespace mora {

class Batch {
 public:
  explicit Batch(int64_t capacity);  // 1 <= capacity < 2^31

  void clear();
  // Packs one more sequence; Error(usage) when it does not fit.
  void append(const ExampleView& example);
  int64_t capacity() const { return static_cast<int64_t>(tokens.size()); }

  // All of length capacity().
  std::vector<int32_t> tokens;         // 0 in unused slots
  std::vector<int32_t> positions;      // from 0 in each sequence
  std::vector<int32_t> segment_start;  // slot of the first token of the same sequence
  std::vector<int32_t> labels;         // next token of the same sequence; 0 where there is none
  std::vector<float> weights;          // loss weight of the label; 0 where there is none

  int64_t tokens_used = 0;
  double weight_sum = 0;  // of all weights
};

Batch pack(std::span<const Example* const> examples, int64_t capacity);

}  // namespace mora
