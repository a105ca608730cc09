// One training sequence: token ids and how much the loss counts the prediction of each.
#pragma once

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

// The same, owned by somebody else. Without weights every token but the first counts 1.
struct ExampleView {
  std::span<const int32_t> tokens;
  std::span<const float> weights = {};

  ExampleView() = default;
  explicit ExampleView(std::span<const int32_t> all_count) : tokens(all_count) {}
  explicit ExampleView(const Example& e) : tokens(e.tokens), weights(e.weights) {}

  float weight(size_t i) const { return weights.empty() ? (i == 0 ? 0.0f : 1.0f) : weights[i]; }
};

}  // namespace mora
