// UUID pairs: generator, file format, tokens and score. Pair i uses random blocks 2i (key) and
// 2i + 1 (value) of one stream; two keys of a list of n agree with a probability below n^2 / 2^123.
#include "mora/data/uuid_pairs.hpp"

#include <algorithm>
#include <array>
#include <unordered_set>

#include "data/json_lines.hpp"
#include "mora/core/error.hpp"
#include "mora/core/random.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"

namespace mora {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";
constexpr size_t kUuidLength = 36;

bool hyphen_at(size_t i) {
  return i == 8 || i == 13 || i == 18 || i == 23;
}

std::string uuid_of(std::array<uint32_t, 4> bits) {
  bits[1] = (bits[1] & 0xffff0fffu) | 0x00004000u;  // version 4
  bits[2] = (bits[2] & 0x3fffffffu) | 0x80000000u;  // variant: 8, 9, a or b
  std::string text;
  size_t digit = 0;
  while (text.size() < kUuidLength) {
    if (hyphen_at(text.size())) {
      text += '-';
      continue;
    }
    text += kDigits[(bits[digit / 8] >> (28 - 4 * (digit % 8))) & 15u];
    ++digit;
  }
  return text;
}

bool is_uuid(std::string_view text) {
  if (text.size() != kUuidLength) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool right = hyphen_at(i) ? text[i] == '-' : kDigits.find(text[i]) != kDigits.npos;
    if (!right) return false;
  }
  return true;
}

std::string uuid_field(const JsonView& row, std::string_view name) {
  const JsonView field = row.at(name);
  std::string text = field.string();
  if (!is_uuid(text)) field.wrong("expected a UUID (8-4-4-4-12 lower-case hexadecimal digits)");
  return text;
}

std::string without_hyphens(std::string_view text) {
  std::string digits;
  std::copy_if(text.begin(), text.end(), std::back_inserter(digits),
               [](char c) { return c != '-'; });
  return digits;
}

}  // namespace

std::vector<UuidPair> generate_uuid_pairs(uint64_t seed, int64_t n) {
  ensure(n >= 0, n, " UUID pairs");
  const Random random(seed, Purpose::generator, stream_of("uuid pairs"));
  std::vector<UuidPair> pairs;
  pairs.reserve(static_cast<size_t>(n));
  for (uint64_t i = 0; i < static_cast<uint64_t>(n); ++i) {
    pairs.push_back({uuid_of(random.block(2 * i)), uuid_of(random.block(2 * i + 1))});
  }
  return pairs;
}

void write_uuid_pairs(const std::filesystem::path& path, const std::vector<UuidPair>& pairs) {
  std::string text;
  for (const UuidPair& pair : pairs) {
    ensure(is_uuid(pair.key) && is_uuid(pair.value), "not a pair of UUIDs: ", pair.key, ", ",
           pair.value);
    text += str(R"({"key": ")", pair.key, R"(", "value": ")", pair.value, "\"}\n");
  }
  write_file_atomically(path, text);
}

std::vector<UuidPair> read_uuid_pairs(const std::filesystem::path& path) {
  std::vector<UuidPair> pairs;
  std::unordered_set<std::string> keys;
  read_json_lines(path, [&](const JsonView& row) {
    pairs.push_back({uuid_field(row, "key"), uuid_field(row, "value")});
    if (!keys.insert(pairs.back().key).second) row.at("key").wrong("a key not seen before");
  });
  return pairs;
}

Example uuid_example(const Tokenizer& tokenizer, const UuidPair& pair, LossOn loss_on) {
  Example example;
  example.tokens = uuid_prompt(tokenizer, pair.key);
  const auto value = tokenizer.encode_continuation(pair.value);
  example.weights.assign(example.tokens.size(), loss_on == LossOn::all ? 1.0f : 0.0f);
  example.weights[0] = 0;
  example.tokens.insert(example.tokens.end(), value.begin(), value.end());
  example.weights.resize(example.tokens.size(), 1.0f);
  return example;
}

std::vector<int32_t> uuid_prompt(const Tokenizer& tokenizer, std::string_view key) {
  std::vector<int32_t> tokens = tokenizer.encode(str(key, ":"));
  if (const auto bos = tokenizer.bos()) tokens.insert(tokens.begin(), *bos);
  return tokens;
}

double uuid_character_accuracy(std::string_view generated, std::string_view value) {
  const std::string got = without_hyphens(generated);
  const std::string wanted = without_hyphens(value);
  ensure(!wanted.empty(), "accuracy against an empty value");
  size_t right = 0;
  for (size_t i = 0; i < std::min(got.size(), wanted.size()); ++i) right += got[i] == wanted[i];
  return static_cast<double>(right) / static_cast<double>(wanted.size());
}

}  // namespace mora
