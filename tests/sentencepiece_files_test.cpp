// tokenizer.model files that are broken or hostile: each is refused with one line, or is harmless.
#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "mora/text/tokenizer.hpp"
#include "temporary_folder.hpp"
#include "text/character_map.hpp"
#include "text/protobuf.hpp"
#include "text/sentencepiece_model.hpp"

using namespace mora;
namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

namespace {

const fs::path kModel = fs::path(MORA_SOURCE_DIR) / "data/base/tokenizer.model";
const fs::path kGoldens = fs::path(MORA_SOURCE_DIR) / "tests/golden/tokenizers";

struct Case {
  std::string bytes, what;
};

std::string field(uint32_t number, const std::string& bytes) {
  std::string to;
  append_bytes(to, number, bytes);
  return to;
}

std::string number(uint32_t field_number, int64_t value) {
  std::string to;
  append_number(to, field_number, value);
  return to;
}

// A piece as a field of the model.
std::string piece(const std::string& text, const std::string& more = "") {
  return field(1, field(1, text) + more);
}

std::string typed(const std::string& text, PieceType type) {
  return piece(text, number(3, static_cast<int64_t>(type)));
}

std::string scored(const std::string& text, float score) {
  std::string more;
  append_float(more, 2, score);
  return piece(text, more);
}

std::string little_endian(uint32_t value) {
  std::string bytes;
  for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(value >> shift & 0xFF);
  return bytes;
}

std::string map_of(const std::vector<uint32_t>& units, const std::string& texts) {
  std::string map = little_endian(static_cast<uint32_t>(4 * units.size()));
  for (const uint32_t unit : units) map += little_endian(unit);
  return map + texts;
}

std::string with_map(const std::string& map) {
  return bytes_of(kModel) + field(3, field(2, map));
}

// The unit at `from` that the byte `label` leads to and whose own base is `to`.
uint32_t unit(uint32_t from, uint32_t to, uint32_t label) {
  return (from ^ to) << 10 | label;
}

// A trie in which the byte 'a' leads from each of `depth` units to the next; each ends a rule. The
// bases are multiples of 256, and the leaves stand there.
std::vector<uint32_t> chain(uint32_t depth, uint32_t leaf) {
  constexpr uint32_t kHasLeaf = 1u << 8;
  std::vector<uint32_t> units(256 * (depth + 2));
  for (uint32_t i = 0; i < units.size(); ++i) units[i] = (i ^ 1) & 0xFF;  // nothing leads there
  units[0] = unit(0, 256, 0);
  for (uint32_t i = 1; i <= depth; ++i) {
    units[256 * i ^ 'a'] = unit(256 * i ^ 'a', 256 * (i + 1), 'a') | kHasLeaf;
    units[256 * (i + 1)] = leaf;
  }
  return units;
}

SentencePieceModel good(int64_t type) {
  SentencePieceModel model;
  model.model_type = type;
  model.pieces = {{"<unk>", 0, PieceType::unknown},
                  {"<s>", 0, PieceType::control},
                  {"</s>", 0, PieceType::control},
                  {"a", -1},
                  {"b", -2},
                  {"ab", -1.5f},
                  {"own", 0, PieceType::user_defined}};
  return model;
}

std::string bytes_with(int64_t type, const std::vector<VocabularyPiece>& pieces) {
  SentencePieceModel model = good(type);
  model.pieces.insert(model.pieces.end(), pieces.begin(), pieces.end());
  return sentencepiece_model_bytes(model);
}

std::vector<VocabularyPiece> nested(size_t count, PieceType type) {
  std::vector<VocabularyPiece> pieces;
  for (size_t i = 1; i <= count; ++i) pieces.push_back({std::string(i, 'n'), 0, type});
  return pieces;
}

void check_refused(const TemporaryFolder& folder, const Case& each) {
  const fs::path file = folder.file("tokenizer.model", each.bytes);
  const std::string message = message_of(ErrorKind::data, [&] { load_tokenizer(file); });
  INFO(each.what << " | " << message);
  CHECK(message.find(each.what) != std::string::npos);
  CHECK(message.starts_with(file.string() + ": not a SentencePiece model"));
  CHECK(message.find('\n') == std::string::npos);
  CHECK(message.size() < 500);
}

void check_all(const std::vector<Case>& cases) {
  const TemporaryFolder folder;
  for (const Case& each : cases) check_refused(folder, each);
}

const std::string kAny = "not a SentencePiece model";  // where the library refuses

}  // namespace

TEST_SUITE("sentencepiece_files") {
  TEST_CASE("bytes that are no protocol buffer") {
    const std::string model = bytes_of(kModel);
    check_all({
        {"", kAny},
        {"garbage, not a model\n", kAny},
        {model.substr(0, model.size() / 2), "longer than the file"},
        {model.substr(0, 3), kAny},
        {model.substr(0, model.size() - 1), "longer than the file"},
        {std::string(100, '\0'), "without a valid number"},
        {std::string(100, '\xff'), "more than ten bytes"},
        {"\x0a\xff\xff\xff\xff\x0f", "longer than the file"},
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "longer than the file"},
        {"\x0a", "ends within a number"},
        {"\x0a\x80", "ends within a number"},
        {"\x0d\x01", "ends within a number"},
        {"\x09\x01\x02\x03", "ends within a number"},
        {"\x0b\x0c", "unknown type"},
        {"\x0f", "unknown type"},
        {"\x80\x80\x80\x80\x80\x01\x01", "without a valid number"},
        {model + "\x0a\x05\x0a\x09"
                 "abc",
         "longer than the file"},
        {model + "\x12\x02\x18", "longer than the file"},
        {model + field(2, "\x18"), "ends within a number"},
        {model + field(3, "\x12\x05"), "longer than the file"},
        {model + field(5, "\x12\x05"), "longer than the file"},
        {field(2, ""), "no pieces"},
        {std::string("\x08\x01", 2), "no pieces"},  // the pieces' number, as a number
    });
  }

  TEST_CASE("pieces that the library would take or stumble over") {
    const std::string model = bytes_of(kModel);
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    check_all({
        {model + piece(std::string(5000, 'x')), "5000 bytes"},
        {model + scored("new", kInfinity), "not finite"},
        {model + scored("new", -kInfinity), "not finite"},
        {model + scored("new", std::numeric_limits<float>::quiet_NaN()), "not finite"},
        {model + piece("new", number(3, 9)), "piece type 9"},
        {model + piece("new", number(3, 0)), "piece type 0"},
        {model + piece("new", number(3, -1)), "piece type 18446744073709551615"},
        {model + piece("new", number(3, (int64_t{1} << 32) + 1)), "piece type 4294967297"},
        {model + piece("e"), kAny},  // twice
        {model + typed("<s>", PieceType::byte), kAny},
        {model + piece(""), "empty or not UTF-8"},
        {model + field(1, ""), "empty or not UTF-8"},
        {model + piece("\xff"), "empty or not UTF-8"},
        {model + piece("\xED\xA0\x80"), "empty or not UTF-8"},
        {model + field(1, number(1, 7)), "empty or not UTF-8"},  // a number for a text
        {model + typed("<unk2>", PieceType::unknown), kAny},
        {model + typed("<0x100>", PieceType::byte), kAny},
        {model + typed(std::string("\0", 1), PieceType::user_defined), "NUL"},
        {piece("a"), kAny},                                                    // no unknown piece
        {typed("<unk>", PieceType::unknown) + field(2, number(35, 1)), kAny},  // no bytes
        {typed("<unk>", PieceType::unknown) + typed("<0x41>", PieceType::byte), kAny},
        {model + field(2, number(3, 0)), "model type 0"},
        {model + field(2, number(3, 5)), "model type 5"},
        {model + field(2, number(3, -1)), "model type 18446744073709551615"},
        {bytes_with(SentencePieceModel::kUnigram, {{std::string("x\0y", 3), -1}}), "NUL"},
        {bytes_with(SentencePieceModel::kBpe, nested(65, PieceType::user_defined)), "more than 64"},
        {bytes_with(SentencePieceModel::kUnigram, nested(300, PieceType::user_defined)),
         "more than 64"},
        {typed("<unk>", PieceType::unknown), kAny},  // unigram with nothing to cut into
    });
  }

  TEST_CASE("character maps that would lead out of themselves") {
    const std::string nul(1, '\0');
    const uint32_t leaf = 1u << 31;
    std::vector<uint32_t> loop = chain(3, leaf);
    loop[768 ^ 'a'] = unit(768 ^ 'a', 256, 'a');
    std::vector<uint32_t> no_leaf = chain(3, leaf);
    no_leaf[768] = 1;
    check_all({
        {with_map("abc"), "trie is larger"},
        {with_map(little_endian(1 << 30) + "abc"), "trie is larger"},
        {with_map(little_endian(0xFFFFFFFF) + "abc"), "trie is larger"},
        {with_map(little_endian(3) + "abcdefg"), "trie is larger"},
        {with_map(map_of({}, nul)), "without a trie"},
        {with_map(map_of({0, 0}, "")), "without texts"},
        {with_map(map_of(std::vector<uint32_t>(256, 0), "abc")), "without texts"},
        {with_map(map_of({0}, nul)), "leads out of itself"},
        {with_map(map_of(std::vector<uint32_t>(256, 1u << 20), nul)), "leads out of itself"},
        {with_map(map_of(std::vector<uint32_t>(256, 0x7FFFFE00), nul)), "leads out of itself"},
        {with_map(map_of(std::vector<uint32_t>(256, leaf | 9), nul)), "text outside the map"},
        {with_map(map_of(std::vector<uint32_t>(256, leaf), nul)), "no root"},
        {with_map(map_of(std::vector<uint32_t>(256, 0), nul)), "back into itself"},
        {with_map(map_of(loop, nul)), "back into itself"},
        {with_map(map_of(no_leaf, nul)), "without a text"},
        {with_map(map_of(chain(33, leaf), nul)), "more than 32 rules"},
        {with_map(map_of(chain(3, leaf), "\xff" + nul)), "not UTF-8"},
        {with_map(map_of(chain(3, leaf), "\xE2\x82" + nul)), "not UTF-8"},
        {with_map(map_of(chain(3, leaf), std::string(300, 'x') + nul)), "more than 256 bytes"},
        {with_map(map_of(std::vector<uint32_t>((1 << 20) + 256, 0), nul)), "units"},
        {bytes_of(kModel) + field(5, field(2, map_of(loop, nul))), "back into itself"},
    });
  }

  TEST_CASE("what is unusual but right is taken") {
    const TemporaryFolder folder;
    const auto open = [&](const std::string& bytes) {
      return load_tokenizer(folder.file("tokenizer.model", bytes));
    };
    const auto mapping = open(with_map(map_of(chain(32, 1u << 31), std::string("b\0", 2))));
    CHECK(mapping->encode(std::string(40, 'a')) == mapping->encode("bb"));  // 32 and 8
    CHECK(mapping->encode("ca") == mapping->encode("cb"));
    const auto nests =
        open(bytes_with(SentencePieceModel::kBpe, nested(64, PieceType::user_defined)));
    CHECK(nests->encode(std::string(65, 'n')) == Ids{0, 70, 7});  // the mark in front is unknown
    CHECK(open(bytes_of(kModel) + field(99, "unknown") + number(98, 5))->vocab_size() == 1024);
    CHECK(open(bytes_of(kModel) + field(2, field(3, "a text")))->encode("the") ==
          load_tokenizer(kModel)->encode("the"));  // unknown, since it should be a number
    const auto long_piece =
        open(bytes_with(SentencePieceModel::kUnigram, {{std::string(4096, 'z'), -1}}));
    CHECK(long_piece->encode(std::string(8192, 'z')) == Ids{0, 7, 7});
    const auto deep =
        open(bytes_with(SentencePieceModel::kUnigram, nested(3000, PieceType::normal)));
    CHECK(deep->encode(std::string(10000, 'n')).size() == 5);
  }

  TEST_CASE("a text with what a model keeps for control is refused, as the library refuses it") {
    const TemporaryFolder folder;
    const auto tokenizer = load_tokenizer(folder.file(
        "tokenizer.model",
        bytes_with(SentencePieceModel::kBpe, {{"^", 0, PieceType::control}, {"c", -1}})));
    CHECK(tokenizer->encode("c") == Ids{0, 8});
    CHECK_THROWS_WITH_AS(tokenizer->encode("c^"), doctest::Contains("\"^\""), Error);
    CHECK(tokenizer->encode("c") == Ids{0, 8});  // as before
  }

  // Whatever single bytes are changed to: an error or a tokenizer that works.
  TEST_CASE("models with changed bytes") {
    const TemporaryFolder folder;
    SentencePieceModel model = good(SentencePieceModel::kUnigram);
    model.character_map = map_of(chain(3, 1u << 31), std::string("b\0", 2));
    const std::string small = sentencepiece_model_bytes(good(SentencePieceModel::kBpe));
    const std::string mapped = sentencepiece_model_bytes(model);
    uint64_t state = 7, refused = 0, taken = 0;
    const auto below = [&](uint64_t n) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      return (state >> 33) % n;
    };
    for (int i = 0; i < 4000; ++i) {
      std::string bytes = i % 2 == 0 ? small : mapped;
      for (uint64_t k = 1 + below(3); k-- > 0;) {
        bytes[below(bytes.size())] = static_cast<char>(below(256));
      }
      try {
        const auto tokenizer = load_tokenizer(folder.file("tokenizer.model", bytes));
        const Ids ids = tokenizer->encode("own aaab ba\u2581 x");
        CHECK_NOTHROW(tokenizer->decode(ids));
        ++taken;
      } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::data);
        ++refused;
      }
    }
    CHECK(taken > 100);
    CHECK(refused > 100);
  }

  TEST_CASE("a megabyte without a place to cut") {
    const TemporaryFolder folder;
    for (const int64_t type : {SentencePieceModel::kBpe, SentencePieceModel::kUnigram}) {
      std::vector<VocabularyPiece> pieces;
      for (size_t size = 2; size <= 16; ++size) pieces.push_back({std::string(size, 'a'), -1});
      const auto tokenizer =
          load_tokenizer(folder.file("tokenizer.model", bytes_with(type, pieces)));
      CHECK(tokenizer->encode(std::string(1000000, 'a')).size() > 60000);
    }
    const auto shipped = load_tokenizer(kGoldens / "spm_bpe.model");
    std::string words;
    while (words.size() < 1000000) words += "thetokenizerandthemodel";
    CHECK(shipped->decode(shipped->encode(words)) == words);
  }
}
