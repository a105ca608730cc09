// Tokenizers against the reference: hashes of what Hugging Face's `tokenizers` and `sentencepiece`
// make of generated lines and of every code point, for one small tokenizer of each family's set-up.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "mora/io/sha256.hpp"
#include "mora/text/tokenizer.hpp"
#include "temporary_folder.hpp"
#include "text/unicode.hpp"
#include "text_lines.hpp"

using namespace mora;
using mora::testing::TextLines;
namespace fs = std::filesystem;

namespace {

const fs::path kFolder = fs::path(MORA_SOURCE_DIR) / "tests/golden/tokenizers";

const nlohmann::json& goldens() {
  static const auto json = nlohmann::json::parse(bytes_of(kFolder / "goldens.json"));
  return json;
}

const TextLines& lines() {
  static const TextLines made(kFolder / "fragments.json");
  return made;
}

fs::path file_of(const std::string& kind) {
  const fs::path json = kFolder / (kind + ".json");
  return fs::exists(json) ? json : kFolder / (kind + ".model");
}

// The first 12 digits of a SHA-256, as the script writes it.
class Digest {
 public:
  void add(const std::vector<int32_t>& ids) {
    for (const int32_t id : ids) add_integer(id);
    add_integer(-1);
  }
  void add(const std::string& text) {
    bytes_ += text;
    bytes_ += '\xff';
  }
  std::string text() const { return sha256_hex(bytes_).substr(0, 12); }

 private:
  void add_integer(int32_t value) {
    const auto bits = static_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(bits >> shift & 0xFF);
  }

  std::string bytes_;
};

void compare_lines(const std::string& kind) {
  const auto tokenizer = load_tokenizer(file_of(kind));
  const auto& golden = goldens().at("kinds").at(kind);
  const uint64_t per_hash = goldens().at("lines_per_hash");
  const uint64_t count = goldens().at("lines");
  REQUIRE(count >= 20000);
  uint64_t restored = 0;
  for (uint64_t block = 0; block * per_hash < count; ++block) {
    Digest ids, decoded;
    for (uint64_t i = block * per_hash; i < (block + 1) * per_hash; ++i) {
      const std::string line = lines().line(i);
      const auto encoded = tokenizer->encode(line);
      const std::string text = tokenizer->decode(encoded);
      ids.add(encoded);
      decoded.add(text);
      restored += text == line;
    }
    CHECK_MESSAGE(ids.text() == golden.at("ids")[block], kind, ", ids of block ", block);
    CHECK_MESSAGE(decoded.text() == golden.at("decoded")[block], kind, ", text of block ", block);
  }
  CHECK(restored == golden.at("restored").get<uint64_t>());
}

bool left_out(char32_t c) {
  static const auto ranges =
      goldens().at("left_out").get<std::vector<std::pair<uint32_t, uint32_t>>>();
  const auto behind = std::upper_bound(ranges.begin(), ranges.end(),
                                       std::pair(static_cast<uint32_t>(c), UINT32_MAX));
  return behind != ranges.begin() && std::prev(behind)->second >= c;
}

void compare_code_points(const std::string& kind) {
  const auto tokenizer = load_tokenizer(file_of(kind));
  const auto& golden = goldens().at("kinds").at(kind);
  const uint64_t per_hash = goldens().at("points_per_hash");
  std::vector<char32_t> all;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c < 0xD800 || c > 0xDFFF) all.push_back(c);
  }
  for (size_t block = 0; block * per_hash < all.size(); ++block) {
    Digest alone, in_context;
    size_t alone_count = 0, in_context_count = 0;
    const size_t end = std::min<size_t>((block + 1) * per_hash, all.size());
    for (size_t i = block * per_hash; i < end; ++i) {
      std::string text;
      append_utf8(text, all[i]);
      const bool skips = left_out(all[i]);
      if (!skips || !golden.at("leaves_out_alone")) {
        ++alone_count;
        alone.add(tokenizer->encode(text));
      }
      if (skips) continue;
      ++in_context_count;
      in_context.add(tokenizer->encode("a" + text + "1 " + text + text + " b"));
    }
    CHECK_MESSAGE((alone_count > 0 ? alone.text() : "") == golden.at("code_points")[block], kind,
                  ", block ", block);
    CHECK_MESSAGE((in_context_count > 0 ? in_context.text() : "") == golden.at("in_context")[block],
                  kind, ", in context, block ", block);
  }
}

void compare(const std::string& kind) {
  SUBCASE("lines") {
    compare_lines(kind);
  }
  SUBCASE("code points") {
    compare_code_points(kind);
  }
}

}  // namespace

TEST_SUITE("bpe_tokenizer") {
  TEST_CASE("GPT-2: ByteLevel, merges as strings") {
    compare("gpt2");
  }
  TEST_CASE("ByteLevel with a space in front, lstrip") {
    compare("prefix_space");
  }
  TEST_CASE("GPT-NeoX and OLMo 1: NFC, tokens of spaces") {
    compare("neox");
  }
  TEST_CASE("Llama-3: expression, ignore_merges") {
    compare("llama3");
  }
  TEST_CASE("OLMo 2: inverted expression") {
    compare("dolma2");
  }
  TEST_CASE("SmolLM2: digits, ByteLevel") {
    compare("smollm2");
  }
  TEST_CASE("Qwen2: NFC, expression") {
    compare("qwen2");
  }
  TEST_CASE("o200k: expression with cases and marks") {
    compare("o200k");
  }
  TEST_CASE("DeepSeek: a sequence of expressions") {
    compare("deepseek");
  }
  TEST_CASE("BLOOM: a class inside a class") {
    compare("bloom");
  }
  TEST_CASE("every behaviour of Split, Replace") {
    compare("behaviors");
  }
  TEST_CASE("added tokens with every flag, NFKC, Lowercase") {
    compare("added");
  }
  TEST_CASE("Llama-2: Prepend, byte fallback") {
    compare("llama2");
  }
  TEST_CASE("Llama-2 by Metaspace") {
    compare("llama2_metaspace");
  }
  TEST_CASE("Metaspace in front of every piece, unknown tokens") {
    compare("metaspace");
  }
  TEST_CASE("byte fallback that lacks bytes") {
    compare("few_bytes");
  }
  TEST_CASE("Whitespace, Punctuation, NFKD, Strip") {
    compare("words");
  }
  TEST_CASE("SentencePiece BPE, LLaMA's options") {
    compare("spm_bpe");
  }
  TEST_CASE("SentencePiece unigram, rules for characters, user-defined pieces") {
    compare("spm_unigram");
  }
  TEST_CASE("the tokenizer.json that transformers makes of SentencePiece BPE") {
    compare("spm_converted");
  }

  TEST_CASE("there is a test for every golden") {
    CHECK(goldens().at("kinds").size() == 20);
  }
}
