// Packing of sequences into a batch. Only the order of the examples decides the layout.
#include "mora/data/batch.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "mora/core/error.hpp"

namespace mora {

Batch::Batch(int64_t capacity) {
  ensure(capacity > 0 && capacity <= std::numeric_limits<int32_t>::max(), "batch of ", capacity,
         " tokens");
  for (auto* numbers : {&tokens, &positions, &segment_start, &labels})
    numbers->resize(static_cast<size_t>(capacity));
  weights.resize(static_cast<size_t>(capacity));
  clear();
}

void Batch::clear() {
  for (auto* numbers : {&tokens, &positions, &labels}) std::ranges::fill(*numbers, 0);
  std::ranges::fill(weights, 0.0f);
  std::iota(segment_start.begin(), segment_start.end(), 0);
  tokens_used = 0;
  weight_sum = 0;
}

void Batch::append(const ExampleView& e) {
  const size_t length = e.tokens.size(), start = static_cast<size_t>(tokens_used);
  ensure(length > 0, "empty sequence in a batch");
  ensure(e.weights.empty() || e.weights.size() == length, "sequence of ", length, " tokens with ",
         e.weights.size(), " weights");
  ensure(e.weight(0) == 0, "the first token of a sequence has weight ", e.weight(0));
  if (start + length > tokens.size()) {
    fail(ErrorKind::usage, "a sequence of ", length, " tokens does not fit a batch of ",
         tokens.size(), " with ", start,
         " in use; use fewer or shorter sequences, or a larger batch");
  }
  size_t segment = 0;  // where the present one begins
  auto cut = e.cuts.begin();
  for (size_t i = 0; i < length; ++i) {
    if (cut != e.cuts.end() && *cut == e.offset + i) {
      segment = i;
      ++cut;
    }
    const size_t t = start + i;
    tokens[t] = e.tokens[i];
    positions[t] = static_cast<int32_t>(i - segment);
    segment_start[t] = static_cast<int32_t>(start + segment);
    const bool last = i + 1 == length || (cut != e.cuts.end() && *cut == e.offset + i + 1);
    if (last) continue;
    labels[t] = e.tokens[i + 1];
    weights[t] = e.weight(i + 1);
    weight_sum += static_cast<double>(weights[t]);
  }
  tokens_used += static_cast<int64_t>(length);
}

Batch pack(std::span<const Example* const> examples, int64_t capacity) {
  Batch batch(capacity);
  for (const Example* e : examples) batch.append(ExampleView(*e));
  return batch;
}

}  // namespace mora
