#include "mora/train/example_source.hpp"

#include <array>
#include <vector>

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

}  // namespace mora
