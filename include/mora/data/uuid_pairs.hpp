// The memorisation task: pairs of random UUIDs, key -> value. Nothing can be inferred, so what a
// model recites it has stored.
//
// A training sequence is key ":" value, with BOS where the tokenizer has one and without EOS. The
// tokens of the prompt (key ":") are a prefix of it by construction: prompt and value are encoded
// apart, the value as a continuation.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "mora/data/example.hpp"
#include "mora/text/tokenizer.hpp"

namespace mora {

struct UuidPair {
  std::string key, value;  // 36 characters each: 8-4-4-4-12 lower-case hexadecimal digits

  bool operator==(const UuidPair&) const = default;
};

// n pairs of version-4 UUIDs (122 random bits each). Pair i depends on (seed, i) only, so a shorter
// list is the beginning of a longer one.
std::vector<UuidPair> generate_uuid_pairs(uint64_t seed, int64_t n);

// JSON Lines, {"key": ..., "value": ...}. Reading checks that both are UUIDs of any version and
// that no key comes twice; Error(data) names file and line.
void write_uuid_pairs(const std::filesystem::path& path, const std::vector<UuidPair>& pairs);
std::vector<UuidPair> read_uuid_pairs(const std::filesystem::path& path);

enum class LossOn {
  all,    // every token but the first: key, colon and value
  value,  // the value's tokens only
};

Example uuid_example(const Tokenizer& tokenizer, const UuidPair& pair, LossOn loss_on);

// What the model is given to recite the value of a key.
std::vector<int32_t> uuid_prompt(const Tokenizer& tokenizer, std::string_view key);

// The share of the value's 32 hexadecimal digits that `generated` has at the same place, hyphens
// left out of both; in [0, 1]. Missing characters are wrong, surplus ones are ignored. Two random
// version-4 UUIDs agree in (1 + 1/4 + 30/16) / 32 = 9.77 % on average.
double uuid_character_accuracy(std::string_view generated, std::string_view value);

}  // namespace mora
