// Tokens that files add to a SentencePiece model, and its control pieces: where text holds them,
// what they decode to, and which files are refused.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <string>
#include <variant>
#include <vector>

#include "mora/text/chat_template.hpp"
#include "mora/text/tokenizer.hpp"
#include "temporary_folder.hpp"
#include "text/sentencepiece_model.hpp"

using namespace mora;
namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

namespace {

const std::string kShipped = bytes_of(fs::path(MORA_SOURCE_DIR) / "data/base/tokenizer.model");
constexpr int32_t kOwn = 1024;  // pieces of that model

// The shipped model, but with a mark for a space in front of a text, as LLaMA's has it.
SentencePieceModel marking() {
  SentencePieceModel model = read_sentencepiece_model(kShipped, "tokenizer.model");
  model.add_dummy_prefix = true;
  return model;
}

struct Folder : TemporaryFolder {
  explicit Folder(const SentencePieceModel& model = marking()) {
    file("tokenizer.model", sentencepiece_model_bytes(model));
  }
  std::unique_ptr<Tokenizer> open() const { return load_tokenizer(path()); }
};

// Three more tokens; the last is text.
const std::string kDecoder = R"("added_tokens_decoder": {
  "0": {"content": "<unk>", "special": true},
  "1024": {"content": "<|im_start|>", "special": true},
  "1025": {"content": "<|im_end|>", "special": true, "rstrip": true},
  "1026": {"content": "<own>"}})";

// The ids of parts: texts that begin anew, and tokens.
Ids joined(const Tokenizer& tokenizer,
           const std::vector<std::variant<std::string, int32_t>>& parts) {
  Ids ids;
  for (const auto& part : parts) {
    if (const int32_t* id = std::get_if<int32_t>(&part)) {
      ids.push_back(*id);
      continue;
    }
    const Ids more = tokenizer.encode(std::get<std::string>(part));
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return ids;
}

bool has(const Ids& ids, int32_t id) {
  return std::ranges::find(ids, id) != ids.end();
}

}  // namespace

TEST_SUITE("sentencepiece_added") {
  TEST_CASE("tokens of added_tokens_decoder are found in any text") {
    const Folder folder;
    folder.file("tokenizer_config.json", "{" + kDecoder + R"(, "eos_token": "<|im_end|>"})");
    const auto tokenizer = folder.open();
    const auto& t = *tokenizer;
    CHECK(t.vocab_size() == kOwn + 3);
    CHECK(t.bos() == 1);
    CHECK(t.eos() == kOwn + 1);
    CHECK(t.piece(kOwn) == "<|im_start|>");
    CHECK(t.piece(300) == marking().pieces[300].text);
    CHECK_THROWS_WITH_AS(t.piece(kOwn + 3), doctest::Contains("vocabulary of 1027"), Error);
    const std::string text = "<|im_start|>user\nthe café<|im_end|>\nHi<own> there<unk>";
    const Ids expected = joined(t, {kOwn, "user\nthe café", kOwn + 1, "Hi", kOwn + 2, " there", 0});
    CHECK(t.encode(text) == expected);
    CHECK(t.encode_formatted(text) == expected);
    CHECK(t.encode("a\xff<own>") == joined(t, {"a\uFFFD", kOwn + 2}));
    CHECK_FALSE(has(t.encode("<|im_start| >"), kOwn));
    CHECK(t.encode("").empty());
    Ids continued = t.encode_continuation("the");
    for (const int32_t id : joined(t, {kOwn, "the"})) continued.push_back(id);
    CHECK(t.encode_continuation("the<|im_start|>the") == continued);
    CHECK(t.encode("the") != t.encode_continuation("the"));
    CHECK(encode_prompt(t, "the<own>", PromptKind::text) == joined(t, {1, "the", kOwn + 2}));
  }

  TEST_CASE("added tokens decode to nothing where they are special, else to their text") {
    const Folder folder;
    folder.file("tokenizer_config.json", "{" + kDecoder + "}");
    const auto tokenizer = folder.open();
    const auto decoded = [&](const std::string& text) {
      return tokenizer->decode(tokenizer->encode(text));
    };
    CHECK(decoded("Hi<own>there <|im_start|>café") == "Hi<own> there  café");
    CHECK(decoded("<own>there") == "<own> there");
    CHECK(decoded("<|im_start|>there<unk>") == "there");
    CHECK(tokenizer->decode(joined(*tokenizer, {"the", kOwn + 3, 5000, kOwn + 2})) == "the<own>");
  }

  TEST_CASE("added_tokens.json counts where there is no added_tokens_decoder") {
    const Folder folder;
    folder.file("added_tokens.json", R"({"<own>": 1025, "<|im_start|>": 1024})");
    const std::string text = "Hi<|im_start|>there<own>";
    const auto check = [&](const std::string& decoded) {
      const auto tokenizer = folder.open();
      CHECK(tokenizer->vocab_size() == kOwn + 2);
      const Ids ids = tokenizer->encode(text);
      CHECK(ids == joined(*tokenizer, {"Hi", kOwn, "there", kOwn + 1}));
      CHECK(tokenizer->decode(ids) == decoded);
    };
    check("Hi<|im_start|> there<own>");
    folder.file("special_tokens_map.json", R"({"pad_token": {"content": "<own>"}})");
    check("Hi<|im_start|> there");
    folder.file("tokenizer_config.json", R"({"additional_special_tokens": ["<|im_start|>"]})");
    check("Hi there");
    folder.file("tokenizer_config.json", R"({"added_tokens_decoder": {}})");
    CHECK(folder.open()->vocab_size() == kOwn);
    CHECK_FALSE(has(folder.open()->encode(text), kOwn));
  }

  TEST_CASE("control pieces are tokens in the text of a template, as BOS and EOS are") {
    SentencePieceModel model = marking();
    model.pieces.push_back({"<|im_start|>", 0, PieceType::control});
    const Folder folder(model);
    const auto tokenizer = folder.open();
    const std::string text = "<s><|im_start|>the</s>the";
    const Ids expected = joined(*tokenizer, {1, kOwn, "the", 2, "the"});
    CHECK(tokenizer->encode_formatted(text) == expected);
    CHECK(encode_prompt(*tokenizer, text, PromptKind::rendered) == expected);
    CHECK(encode_prompt(*tokenizer, text, PromptKind::formatted) == expected);
    CHECK_FALSE(has(tokenizer->encode(text), kOwn));  // as in the library
    folder.file("added_tokens.json", R"({"<|im_start|>": 1024})");
    CHECK(has(folder.open()->encode(text), kOwn));
  }

  TEST_CASE("legacy says whether the text behind a token begins anew or goes on") {
    const std::vector<std::pair<std::string, bool>> cases = {
        {"", true},
        {R"("legacy": true,)", true},
        {R"("legacy": false,)", false},
        {R"("legacy": null, "tokenizer_class": "PreTrainedTokenizerFast",)", true},
        {R"("tokenizer_class": "LlamaTokenizer",)", false},
        {R"("tokenizer_class": "LlamaTokenizerFast",)", false},
        {R"("legacy": true, "tokenizer_class": "LlamaTokenizer",)", true}};
    for (const auto& each : cases) {
      INFO(each.first);
      const Folder folder;
      folder.file("tokenizer_config.json", "{" + each.first + kDecoder + "}");
      const auto tokenizer = folder.open();
      const Ids first = tokenizer->encode("the"), going_on = tokenizer->encode_continuation("the");
      const Ids& behind = each.second ? first : going_on;
      const auto with_token = [&](const Ids& front, int32_t id) {
        Ids ids = front;
        ids.push_back(id);
        ids.insert(ids.end(), behind.begin(), behind.end());
        return ids;
      };
      CHECK(tokenizer->encode("the<own>the") == with_token(first, kOwn + 2));
      CHECK(tokenizer->encode("<own>the") == with_token({}, kOwn + 2));
      CHECK(tokenizer->encode_formatted("<s>the") == with_token({}, 1));
      CHECK(tokenizer->encode_continuation("the<own>the") == with_token(going_on, kOwn + 2));
      CHECK(tokenizer->decode(with_token(first, kOwn)) == (each.second ? "the the" : "thethe"));
    }
    const Folder folder;
    folder.file("tokenizer_config.json", R"({"legacy": "no"})");
    CHECK(message_of(ErrorKind::data, [&] { folder.open(); }).find("/legacy") != std::string::npos);
  }

  TEST_CASE("BOS and EOS are those that the tokenizer's files name, else the model's") {
    const Folder folder;
    const auto check = [&](const std::string& config, std::optional<int32_t> bos,
                           std::optional<int32_t> eos) {
      folder.file("tokenizer_config.json", config);
      CHECK(folder.open()->bos() == bos);
      CHECK(folder.open()->eos() == eos);
    };
    folder.file("config.json", R"({"bos_token_id": 5, "eos_token_id": 6})");  // not asked
    check("{}", 1, 2);
    check(R"({"bos_token": "", "eos_token": ""})", 1, 2);
    check(R"({"bos_token": null, "eos_token": {"content": "</s>"}})", std::nullopt, 2);
    CHECK_FALSE(folder.open()->adds_bos());
  }

  TEST_CASE("files that name other tokens than transformers would have are refused") {
    const std::vector<std::array<std::string, 3>> cases = {
        {"tokenizer_config.json",
         R"({"added_tokens_decoder": {"1030": {"content": "<|im_start|>"}}})",
         "added token \"<|im_start|>\" has id 1030, but id 1024 follows"},
        {"tokenizer_config.json", R"({"added_tokens_decoder": {"1024": {"content": "<s>"}}})",
         "\"<s>\" has id 1024, but id 1 follows"},
        {"tokenizer_config.json", R"({"eos_token": "<new>"})", "\"<new>\" is not in"},
        {"added_tokens.json", R"({"<x>": 1025, "<y>": 1026})", "\"<x>\" has id 1025, but id 1024"},
        {"added_tokens.json", R"({"<x>": "1024"})", "/<x>/id: expected an integer"},
        {"added_tokens.json", R"({"<x>": -1})", "an id from 0"},
        {"added_tokens.json", R"(["<x>"])", "an object"},
    };
    for (const auto& each : cases) {
      const Folder folder;
      folder.file(each[0], each[1]);
      const std::string message = message_of(ErrorKind::data, [&] { folder.open(); });
      INFO(message);
      CHECK(message.starts_with((folder / each[0]).string()));
      CHECK(message.find(each[2]) != std::string::npos);
      CHECK(message.find('\n') == std::string::npos);
    }
  }
}
