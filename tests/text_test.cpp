// The tokenizer: round trips, continuations and errors, on the model that comes with the program.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <thread>

#include "mora/core/error.hpp"
#include "mora/core/random.hpp"
#include "mora/io/file.hpp"
#include "mora/text/tokenizer.hpp"
#include "temporary_folder.hpp"

using namespace mora;
namespace fs = std::filesystem;

namespace {

const fs::path kModel = fs::path(MORA_SOURCE_DIR) / "data/base/tokenizer.model";

// The shipped model with one more normalizer_spec (field 3), which the format merges with the
// first: {add_dummy_prefix (3) = true}, as in LLaMA's model.
std::unique_ptr<Tokenizer> with_dummy_prefix(const TemporaryFolder& folder) {
  const std::string model = read_file(kModel, 1 << 20);
  return load_tokenizer(folder.file("tokenizer.model", model + "\x1a\x02\x18\x01"));
}

std::string error_of(const fs::path& path) {
  return message_of(ErrorKind::data, [&] { load_tokenizer(path); });
}

const std::vector<std::string> kTexts = {
    "",
    " ",
    "\n",
    "The end.\n\n  Two  spaces, \ta tab and a last newline\n",
    "   leading and trailing   ",
    "\r\n\n\n\r",
    "caf\u00e9 na\u00efve \u2014 \u4f60\u597d \U0001F600\U0001F468\u200D\U0001F469 \u0301",
    "0123456789abcdef-ABCDEF::0x7fff=[]{}<>|\\~`",
    "</s> <s> <unk> <0x0A>",
    std::string("nul\0inside", 10),
};

std::string random_text(uint64_t seed) {
  const std::vector<std::string> parts = {" ",  "\n", "a",  "the", "7",      "-", ":",
                                          "\t", "e",  "ZQ", "\"",  "\u00fc", ".", "\U0001F600"};
  const Random random(seed, Purpose::test);
  std::string text;
  for (uint64_t i = 0; i < 40; ++i) text += parts[random.below(i, parts.size())];
  return text;
}

}  // namespace

TEST_SUITE("text") {
  TEST_CASE("the shipped model's vocabulary") {
    const auto tokenizer = load_tokenizer(kModel);
    CHECK(tokenizer->vocab_size() == 1024);
    CHECK(tokenizer->bos() == 1);
    CHECK(tokenizer->eos() == 2);
    CHECK(tokenizer->piece(1) == "<s>");
    for (const char c : std::string("0123456789abcdef:-\n")) {
      const auto ids = tokenizer->encode(std::string(1, c));
      REQUIRE(ids.size() == 1);
      CHECK(tokenizer->piece(ids[0]) == std::string(1, c));  // not <0x..>
    }
    CHECK(tokenizer->encode("").empty());
    CHECK(load_tokenizer(kModel.parent_path())->encode("same") == tokenizer->encode("same"));
  }

  TEST_CASE("decode(encode(text)) == text") {
    const auto tokenizer = load_tokenizer(kModel);
    for (const std::string& text : kTexts) {
      CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
      CHECK(tokenizer->decode(tokenizer->encode_continuation(text)) == text);
    }
    for (uint64_t seed = 0; seed < 50; ++seed) {
      const std::string text = random_text(seed);
      CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
    }
  }

  TEST_CASE("BOS and EOS decode to nothing") {
    const auto tokenizer = load_tokenizer(kModel);
    auto ids = tokenizer->encode("abc");
    ids.insert(ids.begin(), *tokenizer->bos());
    ids.push_back(*tokenizer->eos());
    CHECK(tokenizer->decode(ids) == "abc");
  }

  TEST_CASE("bytes that are not UTF-8 become U+FFFD") {
    const auto tokenizer = load_tokenizer(kModel);
    CHECK(tokenizer->decode(tokenizer->encode("a\xff")) == "a\uFFFD");
  }

  TEST_CASE("a continuation has no dummy prefix") {
    const TemporaryFolder folder;
    const auto plain = load_tokenizer(kModel);
    const auto prefixing = with_dummy_prefix(folder);
    CHECK(prefixing->encode("the") == plain->encode(" the"));  // what the option does
    CHECK(prefixing->encode("the") != plain->encode("the"));
    for (const std::string& text : kTexts) {
      CHECK(prefixing->encode_continuation(text) == plain->encode(text));
      CHECK(plain->encode_continuation(text) == plain->encode(text));
      CHECK(prefixing->decode(prefixing->encode(text)) == text);

      auto ids = prefixing->encode("first part:");
      const auto rest = prefixing->encode_continuation(text);
      ids.insert(ids.end(), rest.begin(), rest.end());
      CHECK(prefixing->decode(ids) == "first part:" + text);
    }
    for (uint64_t seed = 0; seed < 50; ++seed) {
      const std::string text = random_text(seed);
      CHECK(prefixing->encode_continuation(text) == plain->encode(text));
    }
  }

  TEST_CASE("ids that no token has are no pieces, and decode to nothing") {
    const auto tokenizer = load_tokenizer(kModel);
    for (const int32_t id : {-1, 1024, 1 << 30}) {
      CHECK_THROWS_WITH_AS(tokenizer->piece(id), doctest::Contains("vocabulary of 1024"), Error);
    }
    auto ids = tokenizer->encode("the caf\u00e9");
    ids.insert(ids.begin() + 1, {1024, 1 << 30});
    ids.push_back(1024);
    CHECK(tokenizer->decode(ids) == "the caf\u00e9");
    CHECK_THROWS_WITH_AS(tokenizer->decode(std::vector<int32_t>{5, -1}),
                         doctest::Contains("is outside"), Error);
  }

  TEST_CASE("files that are no model") {
    const TemporaryFolder folder;
    CHECK(error_of(folder / "none.model").find("none.model") != std::string::npos);
    CHECK(error_of(folder.path()).find("tokenizer.model") != std::string::npos);

    const std::string model = read_file(kModel, 1 << 20);
    const std::string expected = "not a SentencePiece model";
    const auto file = folder / "x.model";
    CHECK(error_of(folder.file("x.model", "")).find(expected) != std::string::npos);
    CHECK(error_of(folder.file("x.model", "garbage, not a model\n")).find(expected) !=
          std::string::npos);
    CHECK(error_of(folder.file("x.model", std::string(1000, '\0'))).find(expected) !=
          std::string::npos);
    CHECK(error_of(folder.file("x.model", model.substr(0, 1001))).find(expected) !=
          std::string::npos);
    const std::string message = error_of(file);
    CHECK(message.starts_with(file.string() + ": "));
    CHECK(message.find('\n') == std::string::npos);
  }

  TEST_CASE("encoding from several threads at once") {
    const auto tokenizer = load_tokenizer(kModel);
    std::vector<std::vector<int32_t>> expected;
    for (uint64_t seed = 0; seed < 100; ++seed) {
      expected.push_back(tokenizer->encode(random_text(seed)));
    }
    std::vector<int> wrong(3, 0);
    std::vector<std::thread> threads;
    for (size_t t = 0; t < wrong.size(); ++t) {
      threads.emplace_back([&, t] {
        for (uint64_t seed = 0; seed < 100; ++seed) {
          wrong[t] += tokenizer->encode(random_text(seed)) != expected[seed];
        }
      });
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == std::vector<int>(3, 0));
  }
}
