// SentencePiece models against the sentencepiece library itself: our encoding must give the ids of
// the library's Encode(). Models are trained here with every option that changes how text is cut,
// or put together so that scores tie, sums round and kinds of pieces meet.
#include <doctest/doctest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "mora/text/tokenizer.hpp"
#include "temporary_folder.hpp"
#include "text/sentencepiece_encoder.hpp"
#include "text/sentencepiece_model.hpp"
#include "text_lines.hpp"

using namespace mora;
using mora::testing::TextLines;
namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

namespace {

const fs::path kFolder = fs::path(MORA_SOURCE_DIR) / "tests/golden/tokenizers";
constexpr uint64_t kLines = 20000;

const TextLines& lines() {
  static const TextLines made(kFolder / "fragments.json");
  return made;
}

// One model, for us and for the library.
class Pair {
 public:
  explicit Pair(const std::string& model) {
    REQUIRE(library_.LoadFromSerializedProto(model).ok());
    const TemporaryFolder folder;
    ours_ = load_tokenizer(folder.file("tokenizer.model", model));
    const SentencePieceModel read = read_sentencepiece_model(model, "m");
    is_ours_ = make_sentencepiece_encoder(read, "m") != nullptr;
  }

  bool is_ours() const { return is_ours_; }
  const Tokenizer& ours() const { return *ours_; }

  // Nothing where the library refuses the text.
  std::optional<Ids> expected(const std::string& text) const {
    std::vector<int> ids;
    if (!library_.Encode(text, &ids).ok()) return std::nullopt;
    return Ids(ids.begin(), ids.end());
  }

  bool same(const std::string& text) const {
    const auto wanted = expected(text);
    try {
      return ours_->encode(text) == wanted;
    } catch (const Error& error) {
      return !wanted && error.kind() == ErrorKind::data;
    }
  }

 private:
  sentencepiece::SentencePieceProcessor library_;
  std::unique_ptr<Tokenizer> ours_;
  bool is_ours_ = false;
};

// Checks without a doctest assertion for each text, which would take longer than encoding.
class Differences {
 public:
  explicit Differences(const Pair& pair) : pair_(pair) {}
  ~Differences() {
    CHECK_MESSAGE(count_ == 0, count_, " texts differ, the first: ", first_);
    CHECK(seen_ > 0);
  }

  void add(const std::string& text) {
    ++seen_;
    if (!pair_.same(text) && count_++ == 0) first_ = text;
  }

 private:
  const Pair& pair_;
  uint64_t seen_ = 0, count_ = 0;
  std::string first_;
};

void compare_lines(const Pair& pair) {
  Differences differences(pair);
  std::string all;
  for (uint64_t i = 0; i < kLines; ++i) {
    const std::string line = lines().line(i);
    differences.add(line);
    if (all.size() < 600000) all += line;
  }
  differences.add(all);  // long enough for the rounding of sums
}

std::string text_of(char32_t c) {
  std::string text;
  append_utf8(text, c);
  return text;
}

// Every character alone and in a text.
void compare_code_points(const Pair& pair) {
  Differences differences(pair);
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const std::string text = text_of(c);
    differences.add(text);
    differences.add("a" + text + "1 " + text + " b");
  }
}

void compare(const Pair& pair) {
  REQUIRE(pair.is_ours());
  SUBCASE("lines") {
    compare_lines(pair);
  }
  SUBCASE("code points") {
    compare_code_points(pair);
  }
}

using Options = std::map<std::string, std::string>;

// A model that the library trains on generated lines. The rules are ours: what is replaced,
// removed, made a space or made longer, with one that begins another.
std::string trained(Options options) {
  const TemporaryFolder folder;
  std::string corpus, rules;
  for (uint64_t i = 0; i < 3000; ++i) {
    for (const char c : lines().line((uint64_t{1} << 32) + i)) {
      if (c != '\0' && c != '\n' && c != '\r') corpus += c;
    }
    corpus += '\n';
  }
  for (const char* rule :
       {"AB\t", "2460\t31 2E", "41\t61", "41 42\t78 20 79", "41 42 43\t20", "61 301\tE1", "D\t20",
        "200B\t20 20", "FB03\t66 66 69", "4E2D\t4E2D 20 4E2D", "1F600\t3A 29", "E9\t65 301"}) {
    rules += rule;
    rules += '\n';
  }
  options.insert({"input", folder.file("corpus.txt", corpus).string()});
  options.insert({"model_prefix", (folder / "m").string()});
  options.insert({"vocab_size", "1800"});
  options.insert({"num_threads", "1"});
  options.insert({"minloglevel", "3"});
  options.insert({"character_coverage", "0.98"});
  options.insert({"hard_vocab_limit", "false"});
  if (options.count("rules") > 0) {
    options.erase("rules");
    options.insert({"normalization_rule_tsv", folder.file("rules.tsv", rules).string()});
  }
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      std::unordered_map<std::string, std::string>(options.begin(), options.end()));
  REQUIRE_MESSAGE(status.ok(), status.ToString());
  return bytes_of(folder / "m.model");
}

// A model of these pieces, with <unk>, <s> and </s> in front.
SentencePieceModel model_of(int64_t type, std::vector<VocabularyPiece> pieces) {
  SentencePieceModel model;
  model.model_type = type;
  model.pieces = {{"<unk>", 0, PieceType::unknown},
                  {"<s>", 0, PieceType::control},
                  {"</s>", 0, PieceType::control}};
  model.pieces.insert(model.pieces.end(), pieces.begin(), pieces.end());
  return model;
}

void add_bytes(SentencePieceModel& model) {
  model.byte_fallback = true;
  for (int byte = 0; byte < 256; ++byte) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    model.pieces.push_back(
        {str("<0x", kDigits[byte >> 4], kDigits[byte & 15], '>'), 0, PieceType::byte});
  }
}

// 20,000 texts of few characters, so that pieces overlap in every way.
void compare_small_texts(const SentencePieceModel& model, bool is_ours = true) {
  const Pair pair(sentencepiece_model_bytes(model));
  REQUIRE(pair.is_ours() == is_ours);
  const std::vector<std::string> parts = {"a",      "b", "c", "a",     "b",   " ",
                                          "\u2581", "é", "x", "<unk>", "<s>", "\xff"};
  Differences differences(pair);
  uint64_t state = 1;
  const auto below = [&](uint64_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % n;
  };
  for (uint64_t i = 0; i < kLines; ++i) {
    std::string text;
    const uint64_t kinds = 2 + below(parts.size() - 1);
    for (uint64_t k = below(40); k-- > 0;) text += parts[below(kinds)];
    differences.add(text);
  }
}

std::vector<VocabularyPiece> abc(float a, float ab, float abc_score, float b) {
  return {{"a", a},        {"b", b},          {"c", b},         {"\u2581", b}, {"ab", ab},
          {"ba", ab},      {"bb", ab},        {"aa", ab},       {"aaa", ab},   {"abc", abc_score},
          {"\u2581a", ab}, {"\u2581ab", ab},  {"b\u2581a", ab}, {"xx", ab},    {"\u2581\u2581", ab},
          {"é", a},        {"aé", abc_score}, {"a\u2581", ab}};
}

}  // namespace

TEST_SUITE("sentencepiece") {
  TEST_CASE("BPE as LLaMA has it: bytes, spaces kept") {
    const Pair pair(bytes_of(kFolder / "spm_bpe.model"));
    REQUIRE(pair.is_ours());
    compare_lines(pair);  // its code points: bpe_tokenizer_test.cpp
  }
  TEST_CASE("BPE with the default normalisation, user-defined pieces, no bytes") {
    compare(Pair(trained({{"model_type", "bpe"},
                          {"user_defined_symbols", "<|im,<|im_start|>,er ,  ,the, th"},
                          {"control_symbols", "^,<mask>"}})));
  }
  TEST_CASE("BPE with bytes, spaces at the end of words, NFKC and lower case") {
    compare(Pair(trained({{"model_type", "bpe"},
                          {"byte_fallback", "true"},
                          {"treat_whitespace_as_suffix", "true"},
                          {"normalization_rule_name", "nfkc_cf"}})));
  }
  TEST_CASE("BPE across spaces, with rules of its own") {
    compare(Pair(trained({{"model_type", "bpe"},
                          {"rules", ""},
                          {"split_by_whitespace", "false"},
                          {"add_dummy_prefix", "false"}})));
  }
  TEST_CASE("unigram with the library's defaults") {
    compare(Pair(trained({{"model_type", "unigram"}})));
  }
  TEST_CASE("unigram with bytes, user-defined pieces, spaces kept, the identity") {
    compare(Pair(trained({{"model_type", "unigram"},
                          {"byte_fallback", "true"},
                          {"user_defined_symbols", "<|im,<|im_start|>,er ,  ,the, th"},
                          {"normalization_rule_name", "identity"},
                          {"remove_extra_whitespaces", "false"},
                          {"allow_whitespace_only_pieces", "true"}})));
  }
  TEST_CASE("unigram across spaces, at the end of words, with rules of its own") {
    compare(Pair(trained({{"model_type", "unigram"},
                          {"rules", ""},
                          {"split_by_whitespace", "false"},
                          {"treat_whitespace_as_suffix", "true"},
                          {"unk_piece", "?"}})));
  }

  TEST_CASE("models of words and of characters are the library's") {
    for (const std::string type : {"word", "char"}) {
      const Pair pair(trained({{"model_type", type}}));
      CHECK_FALSE(pair.is_ours());
      Differences differences(pair);
      for (uint64_t i = 0; i < 1000; ++i) differences.add(lines().line(i));
    }
  }

  TEST_CASE("equal scores") {
    for (const int64_t type : {SentencePieceModel::kBpe, SentencePieceModel::kUnigram}) {
      for (const float score : {-1.f, 0.f, -0.f, 1.f, -1e-30f}) {
        compare_small_texts(model_of(type, abc(score, score, score, score)));
        compare_small_texts(model_of(type, abc(score, 2 * score, 3 * score, score)));
        compare_small_texts(model_of(type, abc(score / 3, 2 * score / 3, score, score / 3)));
      }
    }
  }

  TEST_CASE("scores that overflow, vanish and round") {
    for (const int64_t type : {SentencePieceModel::kBpe, SentencePieceModel::kUnigram}) {
      compare_small_texts(model_of(type, abc(-3e38f, -2e38f, 3e38f, 1e38f)));
      compare_small_texts(model_of(type, abc(3e38f, -3e38f, 3e38f, -3e38f)));
      compare_small_texts(model_of(type, abc(1e-40f, 2e-40f, 3e-40f, 1e-45f)));
      compare_small_texts(model_of(type, abc(-0.1f, -0.2f, -0.3f, -0.1f)));
      compare_small_texts(model_of(type, abc(-16777216.f, -0.25f, -33554432.f, -1.f)));
    }
  }

  TEST_CASE("a long text without spaces, in which sums have lost their last digits") {
    const Pair pair(sentencepiece_model_bytes(
        model_of(SentencePieceModel::kUnigram, abc(-3.1f, -6.20001f, -9.30002f, -3.10001f))));
    Differences differences(pair);
    std::string text;
    for (size_t i = 0; i < 400000; ++i) text += "abcaab"[i * i % 6];
    differences.add(text);
    differences.add(std::string(300000, 'a') + " " + text);
  }

  TEST_CASE("settings of the normaliser") {
    for (const int64_t type : {SentencePieceModel::kBpe, SentencePieceModel::kUnigram}) {
      for (int bits = 0; bits < 32; ++bits) {
        SentencePieceModel model = model_of(type, abc(-1, -2, -2.5f, -1.5f));
        model.add_dummy_prefix = (bits & 1) != 0;
        model.remove_extra_whitespaces = (bits & 2) != 0;
        model.escape_whitespaces = (bits & 4) != 0;
        model.space_as_suffix = (bits & 8) != 0;
        if ((bits & 16) != 0) add_bytes(model);
        const Pair pair(sentencepiece_model_bytes(model));
        Differences differences(pair);
        for (const std::string text : {"",
                                       " ",
                                       "   ",
                                       "a",
                                       " a",
                                       "a ",
                                       "  a  b  ",
                                       "\u2581",
                                       " \u2581 ",
                                       "a\u2581 ",
                                       "x",
                                       "xx xx",
                                       "xa\u2581",
                                       "\n a\t",
                                       "\xff",
                                       " \xff\xff ",
                                       "\xE2\x96",
                                       "\xE2\x96\x81",
                                       "a\xC3",
                                       "\xED\xA0\x80",
                                       "\xF4\x90\x80\x80",
                                       "\xC0\x80"}) {
          differences.add(text);
        }
        differences.add(std::string("a\0b", 3));
      }
    }
  }

  TEST_CASE("texts that are two kinds of pieces") {
    for (const int64_t type : {SentencePieceModel::kBpe, SentencePieceModel::kUnigram}) {
      for (const bool bytes : {false, true}) {
        SentencePieceModel model = model_of(type, abc(-1, -2, -2.5f, -1.5f));
        if (bytes) add_bytes(model);
        model.pieces.push_back({"b", 0, PieceType::control});
        model.pieces.push_back({"<", -1});
        model.pieces.push_back({"<s", -1});
        model.pieces.push_back({"<s>", -1});
        model.pieces.push_back({"<u", -1});
        model.pieces.push_back({"nk>", -1});
        model.pieces.push_back({"k>", -1});
        model.pieces.push_back({"<unk>", -1});
        model.pieces.push_back({"<0x41>", -1, bytes ? PieceType::normal : PieceType::control});
        compare_small_texts(model);
      }
    }
  }

  TEST_CASE("user-defined pieces that overlap with others and each other") {
    for (const int64_t type : {SentencePieceModel::kBpe, SentencePieceModel::kUnigram}) {
      for (const float score : {-1.f, 2.f, 0.f}) {
        SentencePieceModel model = model_of(type, abc(score, 2 * score, 3 * score, score));
        for (const char* text : {"aab", "abb", " a", "bc", "bca", "\u2581\u2581\u2581", "x"}) {
          model.pieces.push_back({text, 0, PieceType::user_defined});
        }
        compare_small_texts(model);
      }
    }
  }

  TEST_CASE("unused pieces: those that merges make are left to the library") {
    SentencePieceModel model = model_of(SentencePieceModel::kBpe, abc(-1, -2, -2.5f, -1.5f));
    model.pieces.push_back({"[PAD1]", 0, PieceType::unused});
    model.pieces.push_back({"x", 0, PieceType::unused});
    compare_small_texts(model);
    model.pieces.push_back({"aba", -0.5f, PieceType::unused});
    model.pieces.push_back({"cb", -0.5f, PieceType::unused});
    compare_small_texts(model, false);
    model.model_type = SentencePieceModel::kUnigram;
    compare_small_texts(model);
  }

  TEST_CASE("a vocabulary of nothing but its special pieces") {
    SentencePieceModel model = model_of(SentencePieceModel::kBpe, {});
    compare_small_texts(model);
    add_bytes(model);
    compare_small_texts(model);
  }

  TEST_CASE("a continuation is what follows a text without a mark in front") {
    for (const std::string type : {"bpe", "unigram"}) {
      const std::string model = trained(
          {{"model_type", type}, {"byte_fallback", "true"}, {"remove_extra_whitespaces", "false"}});
      const Pair marking(model);
      const Pair plain(model + "\x1a\x02\x18" + std::string(1, '\0'));  // add_dummy_prefix = false
      size_t differ = 0;
      for (uint64_t i = 0; i < 2000; ++i) {
        const std::string line = lines().line(i);
        differ += marking.ours().encode_continuation(line) != plain.expected(line);
      }
      CHECK(differ == 0);
    }
    SentencePieceModel model = model_of(SentencePieceModel::kBpe, abc(-1, -2, -2.5f, -1.5f));
    const Pair removing(sentencepiece_model_bytes(model));
    CHECK(removing.ours().encode_continuation("  a  b ") == Ids{13, 6, 4});  // "▁a", "▁", "b"
    CHECK(removing.ours().encode_continuation("a") == Ids{3});
    CHECK(removing.ours().encode_continuation("   ").empty());
    CHECK(removing.ours().encode_continuation("").empty());
  }

  TEST_CASE("several threads at once") {
    const Pair pair(bytes_of(kFolder / "spm_bpe.model"));
    std::vector<Ids> expected;
    for (uint64_t i = 0; i < 500; ++i) expected.push_back(*pair.expected(lines().line(i)));
    std::vector<int> wrong(4, 0);
    std::vector<std::thread> threads;
    for (size_t t = 0; t < wrong.size(); ++t) {
      threads.emplace_back([&, t] {
        for (uint64_t i = 0; i < 500; ++i) {
          wrong[t] += pair.ours().encode(lines().line(i)) != expected[i];
        }
      });
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == std::vector<int>(4, 0));
  }
}
