// One training sequence: token ids and how much the loss counts the prediction of each.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace mora {

struct Example {
  std::vector<int32_t> tokens;
  // weights[i] weighs the loss of predicting tokens[i] from the tokens before it; as many as there
  // are tokens. Nothing stands before the first token, so weights[0] is 0.
  std::vector<float> weights;
};

// Token ids that somebody else owns, of 32 or 16 bits each.
class TokenSpan {
 public:
  TokenSpan() = default;
  TokenSpan(std::span<const int32_t> ids) : wide_(ids.data()), size_(ids.size()) {}
  TokenSpan(const std::vector<int32_t>& ids) : TokenSpan(std::span(ids)) {}
  TokenSpan(std::span<const uint16_t> ids) : narrow_(ids.data()), size_(ids.size()) {}

  size_t size() const { return size_; }
  int32_t operator[](size_t i) const { return narrow_ != nullptr ? narrow_[i] : wide_[i]; }
  std::vector<int32_t> to_vector() const {
    std::vector<int32_t> ids(size_);
    for (size_t i = 0; i < size_; ++i) ids[i] = (*this)[i];
    return ids;
  }

 private:
  const int32_t* wide_ = nullptr;
  const uint16_t* narrow_ = nullptr;
  size_t size_ = 0;
};

// Bits that somebody else owns, from the lowest of each byte; "none" without bytes.
struct BitSpan {
  const std::byte* bytes = nullptr;
  size_t first = 0;

  bool empty() const { return bytes == nullptr; }
  bool operator[](size_t i) const {
    const size_t bit = first + i;
    return (std::to_integer<unsigned>(bytes[bit / 8]) >> (bit % 8) & 1u) != 0;
  }
};

// An example that somebody else owns. Weights are numbers, or bits for 1 and 0; without either
// every token but the first counts 1.
struct ExampleView {
  TokenSpan tokens;
  std::span<const float> weights = {};
  BitSpan trained = {};
  // Where a document ends within the sequence and the next begins, ascending: places in a longer
  // stream, of which the sequence is what stands from `offset` on. Each document is a segment of
  // its own: attention and positions begin anew, and its first token is not predicted.
  std::span<const uint64_t> cuts = {};
  uint64_t offset = 0;

  ExampleView() = default;
  explicit ExampleView(TokenSpan all_count) : tokens(all_count) {}
  explicit ExampleView(const Example& e) : tokens(e.tokens), weights(e.weights) {}

  float weight(size_t i) const {
    if (!weights.empty()) return weights[i];
    if (i == 0 || (!cuts.empty() && std::ranges::binary_search(cuts, offset + i))) return 0;
    return trained.empty() || trained[i] ? 1.0f : 0.0f;
  }
};

}  // namespace mora
