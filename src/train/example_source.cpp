#include "mora/train/example_source.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "mora/core/error.hpp"
#include "mora/io/sha256.hpp"

namespace mora {

std::string ExampleSource::sha256() const {
  Sha256 hash;
  std::vector<float> weights;
  for (int64_t i = 0; i < size(); ++i) {
    const ExampleView e = example(i);
    const std::vector<int32_t> tokens = e.tokens.to_vector();
    weights.clear();
    for (size_t t = 0; t < tokens.size(); ++t) weights.push_back(e.weight(t));
    const std::array<uint64_t, 1> length = {tokens.size()};
    hash.update(std::as_bytes(std::span(length)));
    hash.update(std::as_bytes(std::span(tokens)));
    hash.update(std::as_bytes(std::span(weights)));
  }
  return hash.hex();
}

void check_lengths(const ExampleSource& data, int64_t count, int64_t positions,
                   std::string_view kind) {
  const int64_t n = count > 0 ? std::min(count, data.size()) : data.size();
  for (int64_t i = 0; i < n; ++i) {
    const auto length = static_cast<int64_t>(data.example(i).tokens.size());
    if (length <= positions) continue;
    fail(ErrorKind::data, kind, " example ", i + 1, " has ", length, " tokens, but the model has ",
         positions, " positions (max_position_embeddings); see data.max_length, data.block_size");
  }
}

}  // namespace mora
