// Tokenizers between GGUF and Hugging Face files: SentencePiece pieces become a model that the
// library takes, and whatever one side cannot express, or contradicts itself, is refused by name.
#include "mora/text/gguf_tokenizer.hpp"

#include <algorithm>
#include <array>

#include "command.hpp"
#include "gguf_model.hpp"
#include "io/json.hpp"
#include "mora/text/tokenizer.hpp"
#include "text/sentencepiece_model.hpp"

TEST_SUITE_BEGIN("gguf tokenizers");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kVocabulary = 8;  // of the tiny model

void check_refused(const TinyGguf& model, const std::string& part) {
  const TemporaryFolder folder;
  const GgufFile file(folder.file("m.gguf", model.bytes()));
  const std::string message =
      message_of(ErrorKind::data, [&] { tokenizer_files(file, kVocabulary); });
  CHECK_MESSAGE(message.find(part) != std::string::npos, message);
  CHECK_MESSAGE(message.find('\n') == std::string::npos, message);
}

TinyGguf pieces() {
  return TinyGguf().sentencepiece();
}

// A folder with the tokenizer files of the tiny model, to be spoiled.
struct HfTokenizer : TemporaryFolder {
  explicit HfTokenizer(const TinyGguf& model) {
    const GgufFile gguf(file("m.gguf", model.bytes()));
    for (const auto& [name, text] : tokenizer_files(gguf, kVocabulary)) file(name, text);
  }

  Json json(const char* name) const { return parse_json(bytes_of(path() / name), name); }
  void put(const char* name, const Json& json) const { file(name, dump_json(json)); }

  // The message of the error that the way back to GGUF ends with.
  std::string refused() const {
    GgufMetadata metadata;
    const std::string message = message_of(ErrorKind::data, [&] {
      add_tokenizer_keys(metadata, path(), {kVocabulary, {}, {}, {}});
    });
    CHECK_MESSAGE(message.find('\n') == std::string::npos, message);
    return message;
  }
};

void check_json_refused(const char* name, const std::string& pointer, const Json& value,
                        const std::string& part) {
  const HfTokenizer folder((TinyGguf()));
  Json json = folder.json(name);
  json[Json::json_pointer(pointer)] = value;
  folder.put(name, json);
  const std::string message = folder.refused();
  CHECK_MESSAGE(message.find(part) != std::string::npos, message);
  CHECK_MESSAGE(message.find(name) != std::string::npos, message);
}

std::string message_for(SentencePieceModel model) {
  const HfTokenizer folder(pieces());
  folder.file("tokenizer.model", sentencepiece_model_bytes(model));
  return folder.refused();
}

SentencePieceModel good_pieces() {
  const HfTokenizer folder(pieces());
  return read_sentencepiece_model(bytes_of(folder / "tokenizer.model"), "m");
}

}  // namespace

TEST_CASE("pieces become a SentencePiece model that cuts text by their scores") {
  const HfTokenizer folder(pieces());
  const auto tokenizer = load_tokenizer(folder.path());
  CHECK(tokenizer->vocab_size() == kVocabulary);
  CHECK(tokenizer->bos() == 1);
  CHECK(tokenizer->eos() == 2);
  CHECK(tokenizer->encode("ab ab") == std::vector<int32_t>{7, 7});  // a space before the first, too
  CHECK(tokenizer->encode("ba") == std::vector<int32_t>{3, 5, 4});
  CHECK(folder.json("tokenizer_config.json")["tokenizer_class"] == "LlamaTokenizer");
  CHECK(folder.json("tokenizer_config.json")["added_tokens_decoder"]["1"]["content"] == "<s>");
  TinyGguf bare = pieces();
  bare.set(bool_value("tokenizer.ggml.add_space_prefix", false));
  const HfTokenizer without(bare);
  CHECK(load_tokenizer(without.path())->encode("ab") == std::vector<int32_t>{6});
}

TEST_CASE("a control token of a chat template is that token in the converted folder") {
  const HfTokenizer folder(
      pieces()
          .set(texts_value("tokenizer.ggml.tokens",
                           {"<unk>", "<s>", "</s>", "\u2581", "a", "b", "<|im_start|>", "ab"}))
          .set(i32s_value("tokenizer.ggml.token_type", {2, 3, 3, 1, 1, 1, 3, 1})));
  const auto tokenizer = load_tokenizer(folder.path());
  const std::vector<int32_t> expected = {1, 6, 3, 4, 6, 3, 7};
  CHECK(tokenizer->encode_formatted("<s><|im_start|>a<|im_start|>ab") == expected);
  CHECK(tokenizer->encode("<s><|im_start|>a<|im_start|>ab") == expected);
  CHECK(tokenizer->decode(expected) == "a ab");
  CHECK(folder.json("tokenizer_config.json")["legacy"] == true);  // "a" and "ab" begin anew
}

TEST_CASE("a SentencePiece model is read as it was written") {
  SentencePieceModel model;
  model.pieces = {{"<unk>", 0, PieceType::unknown},
                  {"<0x41>", -1.5f, PieceType::byte},
                  {"\xC3\xA9", -2, PieceType::user_defined},
                  {"x", -3, PieceType::unused}};
  model.model_type = SentencePieceModel::kBpe;
  model.byte_fallback = true;
  model.bos_id = -1, model.eos_id = 3;
  model.add_dummy_prefix = model.remove_extra_whitespaces = false;
  const std::string bytes = sentencepiece_model_bytes(model);
  const SentencePieceModel back = read_sentencepiece_model(bytes, "m");
  REQUIRE(back.pieces.size() == 4);
  for (size_t i = 0; i < 4; ++i) {
    CHECK(back.pieces[i].text == model.pieces[i].text);
    CHECK(back.pieces[i].score == model.pieces[i].score);
    CHECK(back.pieces[i].type == model.pieces[i].type);
  }
  CHECK(back.model_type == SentencePieceModel::kBpe);
  CHECK(back.byte_fallback);
  CHECK(back.bos_id == -1);
  CHECK(back.eos_id == 3);
  CHECK_FALSE(back.add_dummy_prefix);
  CHECK_FALSE(back.remove_extra_whitespaces);
  CHECK(back.escape_whitespaces);
  for (size_t length = 0; length < bytes.size(); ++length) {  // cut off: refused, or what was there
    try {
      const size_t count = read_sentencepiece_model(bytes.substr(0, length), "m").pieces.size();
      CHECK(count <= 4);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::data);
    }
  }
  const std::string bad[] = {"",
                             "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                             "\x0a\x7f",
                             "\x07",
                             std::string(11, '\xff'),
                             std::string(2, '\0'),
                             "\x0a\x02\x18\x07",
                             std::string("\x0a\x03\x0a\x01\xff", 5),
                             "\x08\x01"};
  for (const std::string& each : bad) {
    message_of(ErrorKind::data, [&] { read_sentencepiece_model(each, "m"); });
  }
}

TEST_CASE("tokenizer keys that contradict each other are refused") {
  const std::string tokens = "tokenizer.ggml.tokens", types = "tokenizer.ggml.token_type",
                    merges = "tokenizer.ggml.merges", scores = "tokenizer.ggml.scores";
  check_refused(TinyGguf().set(text_value("tokenizer.ggml.model", "bert")), "\"bert\"");
  check_refused(TinyGguf().set(text_value("tokenizer.ggml.pre", "mystery")), "\"mystery\"");
  check_refused(TinyGguf().set(texts_value(tokens, {})), "for 0 tokens");
  check_refused(TinyGguf().set(texts_value(tokens, std::vector<std::string>(9, "x"))),
                "rows for 8");
  check_refused(TinyGguf().set(texts_value(tokens, {"a", "b"})), types);
  for (const char* bad : {"", "\xff", "a"}) {
    check_refused(
        TinyGguf().set(texts_value(tokens, {"<|end|>", "a", "b", "c", "ab", "abc", bad, "x"})),
        tokens);
  }
  check_refused(TinyGguf().set(i32s_value(types, {3, 1, 1, 1, 1, 1, 4})), types);
  check_refused(TinyGguf().set(i32s_value(types, {3, 1, 1, 1, 1, 1, 4, 7})), "1 to 6");
  check_refused(TinyGguf().set(i32s_value(types, {3, 1, 1, 1, 1, 1, 4, 0})), "1 to 6");
  check_refused(TinyGguf().set(f32s_value(types, {3, 1, 1, 1, 1, 1, 4, 5})), types);
  for (const char* bad : {"ab", "a b c", " b", "a ", "", "a c", "a z", "z b"}) {
    check_refused(TinyGguf().set(texts_value(merges, {bad})), merges);
  }
  for (const char* id :
       {"bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id", "eot_token_id"}) {
    const std::string key = str("tokenizer.ggml.", id);
    check_refused(TinyGguf().set(u32_value(key, 8)), key);
    check_refused(TinyGguf().set(gguf_value(key, GgufType::i32, raw(int32_t{-1}))), key);
    check_refused(TinyGguf().set(text_value(key, "x")), key);
  }
  check_refused(TinyGguf()
                    .set(bool_value("tokenizer.ggml.add_bos_token", true))
                    .remove("tokenizer.ggml.bos_token_id"),
                "bos_token_id");
  check_refused(TinyGguf()
                    .set(bool_value("tokenizer.ggml.add_eos_token", true))
                    .remove("tokenizer.ggml.eos_token_id"),
                "eos_token_id");
  check_refused(TinyGguf().set(u32_value("tokenizer.ggml.add_bos_token", 1)), "add_bos_token");
  check_refused(TinyGguf().set(text_value("tokenizer.chat_template", "\xff")), "chat_template");
  check_refused(TinyGguf().set(u32_value("tokenizer.chat_template", 1)), "chat_template");
  check_refused(pieces().remove(scores), scores);
  check_refused(pieces().set(f32s_value(scores, {0, 0})), scores);
  check_refused(pieces().set(f32s_value(scores, {0, 0, NAN, 0, 0, 0, 0, 0})), scores);
  check_refused(pieces().set(i32s_value(types, {1, 3, 3, 1, 1, 1, 1, 1})), "0 unknown tokens");
  check_refused(pieces().set(i32s_value(types, {2, 2, 3, 1, 1, 1, 1, 1})), "2 unknown tokens");
  check_refused(pieces().set(i32s_value(types, {2, 3, 3, 1, 6, 1, 1, 1})), "\"a\" a byte");
  check_refused(
      pieces()
          .set(texts_value(tokens, {"<unk>", "<s>", "</s>", "<0x41>", "a", "b", "c", "d"}))
          .set(i32s_value(types, {2, 3, 3, 6, 1, 1, 1, 1})),
      "1 bytes");
}

TEST_CASE("a tokenizer.json that GGUF has no words for is refused") {
  const char* file = "tokenizer.json";
  check_json_refused(file, "/model/type", "Unigram", "only byte-level BPE");
  check_json_refused(file, "/model/byte_fallback", true, "tokenizer.model");
  check_json_refused(file, "/model/continuing_subword_prefix", "##", "continuing_subword_prefix");
  check_json_refused(file, "/model/ignore_merges", true, "no name");
  check_json_refused(file, "/model/vocab/far", 8, "rows for 8");
  check_json_refused(file, "/model/vocab/negative", -1, "rows for 8");
  check_json_refused(file, "/model/vocab/a", "1", "vocab");
  check_json_refused(file, "/model/merges", Json({"a b c"}), "merges");
  check_json_refused(file, "/model/merges", Json::array({Json::array({"a"})}), "merges");
  check_json_refused(file, "/model/merges", 3, "merges");
  check_json_refused(file, "/normalizer", Json({{"type", "NFKC"}}), "normaliser");
  check_json_refused(file, "/pre_tokenizer", nullptr, "pre_tokenizer");
  check_json_refused(file, "/pre_tokenizer", Json({{"type", "Metaspace"}}), "pre-tokenizer");
  check_json_refused(file, "/pre_tokenizer/pretokenizers/1/add_prefix_space", true,
                     "add_prefix_space");
  check_json_refused(file, "/pre_tokenizer/pretokenizers/0",
                     Json({{"type", "Split"},
                           {"pattern", {{"Regex", "x+"}}},
                           {"behavior", "Isolated"},
                           {"invert", false}}),
                     "no name");
  check_json_refused(file, "/pre_tokenizer/pretokenizers/0",
                     Json({{"type", "Split"},
                           {"pattern", {{"Regex", "x+"}}},
                           {"behavior", "Removed"},
                           {"invert", false}}),
                     "no name");
  check_json_refused(file, "/post_processor", Json({{"type", "BertProcessing"}}), "post-processor");
  check_json_refused(file, "/added_tokens/0/id", 100, "rows for 8");
  check_json_refused("tokenizer_config.json", "/bos_token", "<absent>", "bos_token");
  check_json_refused("tokenizer_config.json", "/add_bos_token", "yes", "add_bos_token");
  check_json_refused("tokenizer_config.json", "/chat_template", 1, "chat_template");
}

TEST_CASE("both spellings of merges and of patterns are one tokenizer") {
  const HfTokenizer folder(TinyGguf().set(text_value("tokenizer.ggml.pre", "llama-bpe")));
  const auto keys = [&] {
    GgufMetadata metadata;
    add_tokenizer_keys(metadata, folder.path(), {kVocabulary, {}, {}, {}});
    return metadata.bytes();
  };
  const std::string before = keys();
  Json json = folder.json("tokenizer.json");
  json["model"]["merges"] = Json::array({Json::array({"a", "b"}), Json::array({"ab", "c"})});
  Json& split = json["pre_tokenizer"]["pretokenizers"][0];
  std::string regex = split["pattern"]["Regex"];
  regex.replace(0, regex.find(')') + 1,
                "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])");
  split["pattern"]["Regex"] = regex;
  split["behavior"] = "Removed";
  split["invert"] = true;
  folder.put("tokenizer.json", json);
  CHECK(keys() == before);
}

TEST_CASE("a SentencePiece model that GGUF has no words for is refused") {
  SentencePieceModel model = good_pieces();
  model.model_type = SentencePieceModel::kUnigram;
  CHECK(message_for(model).find("no BPE model") != std::string::npos);
  model = good_pieces();
  model.remove_extra_whitespaces = true;
  CHECK(message_for(model).find("extra white space") != std::string::npos);
  model = good_pieces();
  model.escape_whitespaces = false;
  CHECK(message_for(model).find("spaces") != std::string::npos);
  model = good_pieces();
  model.pieces.push_back({"one more", 0, PieceType::normal});
  CHECK(message_for(model).find("rows for 8") != std::string::npos);
  const TemporaryFolder empty;
  GgufMetadata metadata;
  const std::string message = message_of(ErrorKind::data, [&] {
    add_tokenizer_keys(metadata, empty.path(), {kVocabulary, {}, {}, {}});
  });
  CHECK(message.find("neither tokenizer.model nor tokenizer.json") != std::string::npos);
}

TEST_CASE("added tokens of a SentencePiece tokenizer join its pieces") {
  SentencePieceModel model = good_pieces();
  model.pieces.resize(6);
  const HfTokenizer folder(pieces());
  folder.file("tokenizer.model", sentencepiece_model_bytes(model));
  folder.put("tokenizer_config.json",
             {{"added_tokens_decoder", {{"6", {{"content", "<|user|>"}, {"special", true}}}}},
              {"chat_template", Json::array({{{"name", "default"}, {"template", "d"}},
                                             {{"name", "tools"}, {"template", "t"}}})}});
  folder.put("added_tokens.json", {{"<|user|>", 6}});
  GgufMetadata metadata;
  add_tokenizer_keys(metadata, folder.path(), {kVocabulary, 1, 2, {}});
  write_gguf(folder / "k.gguf", metadata, {});
  const GgufFile file(folder / "k.gguf");
  CHECK(file.texts("tokenizer.ggml.tokens")[6] == "<|user|>");
  CHECK(file.texts("tokenizer.ggml.tokens")[7] == "[PAD7]");
  CHECK(file.integers("tokenizer.ggml.token_type") == std::vector<int64_t>{2, 3, 3, 1, 1, 1, 3, 5});
  CHECK(file.integer("tokenizer.ggml.bos_token_id") == 1);
  CHECK(file.text("tokenizer.chat_template") == "d");
  CHECK(file.text("tokenizer.chat_template.tools") == "t");
  folder.file("chat_template.jinja", "own");
  GgufMetadata other;
  add_tokenizer_keys(other, folder.path(), {kVocabulary, 1, 2, {}});
  write_gguf(folder / "k.gguf", other, {});
  CHECK(GgufFile(folder / "k.gguf").text("tokenizer.chat_template") == "own");
}

TEST_CASE("tokens that stand only in the files beside a tokenizer.json join its vocabulary") {
  const HfTokenizer folder((TinyGguf()));
  const auto added = [&] {
    GgufMetadata metadata;
    add_tokenizer_keys(metadata, folder.path(), {kVocabulary, {}, {}, {}});
    write_gguf(folder / "k.gguf", metadata, {});
    const GgufFile file(folder / "k.gguf");
    return std::pair(std::string(file.texts("tokenizer.ggml.tokens")[7]),
                     file.integers("tokenizer.ggml.token_type")[7]);
  };
  using Pair = std::pair<std::string, int64_t>;
  CHECK(added() == Pair{"[PAD7]", 5});
  folder.put("added_tokens.json", {{"<|im_start|>", 7}, {"<tool>", 6}});
  CHECK(added() == Pair{"<|im_start|>", 4});
  folder.put("special_tokens_map.json", {{"pad_token", "<|im_start|>"}});
  CHECK(added() == Pair{"<|im_start|>", 3});
  Json config = folder.json("tokenizer_config.json");
  config["added_tokens_decoder"]["7"] = {{"content", "<|im_end|>"}, {"special", true}};
  folder.put("tokenizer_config.json", config);
  CHECK(added() == Pair{"<|im_end|>", 3});
  CHECK(load_tokenizer(folder.path())->encode("a<|im_end|>") == std::vector<int32_t>{1, 7});
  config["added_tokens_decoder"]["8"] = {{"content", "<|far|>"}};
  folder.put("tokenizer_config.json", config);
  const std::string message = folder.refused();
  CHECK_MESSAGE(
      message.find("tokenizer_config.json: token \"<|far|>\" has the id 8") != std::string::npos,
      message);
}

TEST_SUITE_END();

}  // namespace mora::testing
