// Tokenizers' files: which one is taken, what the files beside it say, and files that are broken in
// every way, each refused with one line.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "mora/text/tokenizer.hpp"
#include "temporary_folder.hpp"

using namespace mora;
using Json = nlohmann::json;
namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

namespace {

const fs::path kModel = fs::path(MORA_SOURCE_DIR) / "data/base/tokenizer.model";
const fs::path kGoldens = fs::path(MORA_SOURCE_DIR) / "tests/golden/tokenizers";

// A small tokenizer.json that is right: "a" 1, "b" 2, "ab" 3, "abab" 4, added "<s>" 5, "</s>" 6.
Json small() {
  return Json::parse(R"({"version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 5, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true},
      {"id": 6, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true}],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null,
    "decoder": {"type": "Fuse"},
    "model": {"type": "BPE", "dropout": null, "unk_token": "?", "continuing_subword_prefix": null,
              "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
              "vocab": {"?": 0, "a": 1, "b": 2, "ab": 3, "abab": 4},
              "merges": ["a b", "ab ab"]}})");
}

Json with(const std::string& pointer, const std::string& value) {
  Json json = small();
  json[Json::json_pointer(pointer)] = Json::parse(value);
  return json;
}

std::string bos_template(const std::string& items) {
  return R"({"type": "TemplateProcessing", "single": [)" + items + R"(], "pair": [],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]},
                       "</s>": {"id": "</s>", "ids": [6], "tokens": ["</s>"]}}})";
}

const std::string kSequence = R"({"Sequence": {"id": "A", "type_id": 0}})";
const std::string kBos = R"({"SpecialToken": {"id": "<s>", "type_id": 0}})";
const std::string kEos = R"({"SpecialToken": {"id": "</s>", "type_id": 0}})";

std::unique_ptr<Tokenizer> open(const TemporaryFolder& folder, const Json& json) {
  return load_tokenizer(folder.file("tokenizer.json", json.dump()));
}

// One line that begins with the file's name and holds `what`.
void check_refused(const TemporaryFolder& folder, const std::string& text, const std::string& what,
                   const std::string& name = "tokenizer.json") {
  const fs::path file = folder.file(name, text);
  const std::string message = message_of(ErrorKind::data, [&] { load_tokenizer(file); });
  INFO(what << " | " << message);
  CHECK(message.find(what) != std::string::npos);
  CHECK(message.find(name) != std::string::npos);
  CHECK(message.find('\n') == std::string::npos);
  CHECK(message.size() < 1500);
}

struct BadValue {
  std::string pointer, value, what;
};

std::string nested(const std::string& open, const std::string& inner, const std::string& close,
                   int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += open;
  text += inner;
  for (int i = 0; i < times; ++i) text += close;
  return text;
}

}  // namespace

TEST_SUITE("tokenizer_files") {
  TEST_CASE("the small tokenizer works") {
    const TemporaryFolder folder;
    const auto tokenizer = open(folder, small());
    CHECK(tokenizer->encode("ababab<s>bzz") == Ids{4, 3, 5, 2, 0, 0});
    CHECK(tokenizer->vocab_size() == 7);
    CHECK(tokenizer->piece(4) == "abab");
    CHECK(tokenizer->piece(5) == "<s>");
    CHECK(tokenizer->decode(Ids{4, 5, 2}) == "ababb");
    CHECK(tokenizer->encode("").empty());
    CHECK(tokenizer->encode_continuation("").empty());
    CHECK(tokenizer->decode(Ids{7, 4, 1 << 30, 2, 7}) == "ababb");  // no token: nothing
    CHECK_THROWS_WITH_AS(tokenizer->decode(Ids{-1}), doctest::Contains("vocabulary of 7"), Error);
    for (const int32_t id : {-1, 7, 1 << 30}) {
      CHECK_THROWS_WITH_AS(tokenizer->piece(id), doctest::Contains("vocabulary of 7"), Error);
    }
  }

  TEST_CASE("merges as pairs, ids with gaps, decoding without a decoder") {
    const TemporaryFolder folder;
    Json json = with("/model/merges", R"([["a", "b"], ["ab", "ab"]])");
    CHECK(open(folder, json)->encode("abab") == Ids{4});
    json = with("/model/vocab", R"({"?": 0, "a": 10, "b": 20, "ab": 30, "abab": 2000000000})");
    json["added_tokens"] = Json::array();
    json["decoder"] = nullptr;
    const auto tokenizer = open(folder, json);
    CHECK(tokenizer->vocab_size() == 2000000001);
    CHECK(tokenizer->encode("ababb") == Ids{2000000000, 20});
    CHECK(tokenizer->decode(Ids{2000000000, 11, 20}) == "abab b");  // 11 is nothing
    CHECK_THROWS_WITH_AS(tokenizer->piece(11), doctest::Contains("not in the vocabulary"), Error);
  }

  TEST_CASE("a folder gives tokenizer.json, else tokenizer.model; the content tells the kind") {
    const TemporaryFolder folder;
    folder.file("tokenizer.model", bytes_of(kModel));
    CHECK(load_tokenizer(folder.path())->vocab_size() == 1024);
    folder.file("tokenizer.json", " \n" + small().dump());
    CHECK(load_tokenizer(folder.path())->vocab_size() == 7);
    CHECK(load_tokenizer(folder / "tokenizer.model")->vocab_size() == 1024);
    CHECK(load_tokenizer(folder.file("x.model", small().dump()))->vocab_size() == 7);
    CHECK(load_tokenizer(folder.file("x.json", bytes_of(kModel)))->vocab_size() == 1024);
  }

  TEST_CASE("BOS and EOS come from the first file that names them") {
    const TemporaryFolder folder;
    const auto ids = [&] {
      const auto t = open(folder, small());
      return std::pair(t->bos(), t->eos());
    };
    using Pair = std::pair<std::optional<int32_t>, std::optional<int32_t>>;
    CHECK(ids() == Pair{std::nullopt, std::nullopt});
    folder.file("generation_config.json", R"({"bos_token_id": 1, "eos_token_id": [2, 3]})");
    CHECK(ids() == Pair{1, 2});
    folder.file("config.json", R"({"bos_token_id": 3, "eos_token_id": null})");
    CHECK(ids() == Pair{3, 2});
    folder.file("special_tokens_map.json", R"({"bos_token": {"content": "<s>"}})");
    CHECK(ids() == Pair{5, 2});
    folder.file("tokenizer_config.json", R"({"bos_token": null, "eos_token": "</s>"})");
    CHECK(ids() == Pair{std::nullopt, 6});
  }

  TEST_CASE("the template says whether BOS and EOS are added") {
    const TemporaryFolder folder;
    auto tokenizer = open(folder, small());
    CHECK_FALSE(tokenizer->adds_bos());
    CHECK_FALSE(tokenizer->adds_eos());
    tokenizer = open(folder, with("/post_processor", bos_template(kBos + "," + kSequence)));
    CHECK(tokenizer->adds_bos());
    CHECK_FALSE(tokenizer->adds_eos());
    CHECK(tokenizer->bos() == 5);
    tokenizer = open(folder, with("/post_processor",
                                  R"({"type": "Sequence", "processors": [{"type": "ByteLevel",
                                  "add_prefix_space": true, "trim_offsets": false}, )" +
                                      bos_template(kBos + "," + kSequence + "," + kEos) + "]}"));
    CHECK(tokenizer->adds_bos());
    CHECK(tokenizer->adds_eos());
    CHECK(tokenizer->eos() == 6);
    CHECK(tokenizer->encode("a") == Ids{1});  // encode() adds neither
  }

  TEST_CASE("a SentencePiece model adds BOS unless tokenizer_config.json says otherwise") {
    const TemporaryFolder folder;
    const fs::path file = folder.file("tokenizer.model", bytes_of(kModel));
    CHECK(load_tokenizer(file)->adds_bos());
    CHECK_FALSE(load_tokenizer(file)->adds_eos());
    folder.file("tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true})");
    CHECK_FALSE(load_tokenizer(file)->adds_bos());
    CHECK(load_tokenizer(file)->adds_eos());
  }

  TEST_CASE("tokens of tokenizer_config.json join those of tokenizer.json") {
    const TemporaryFolder folder;
    folder.file("tokenizer_config.json", R"({"added_tokens_decoder": {
      "7": {"content": "[new]", "special": true}, "5": {"content": "<s>", "special": true,
      "lstrip": true}}})");
    const auto tokenizer = open(folder, small());
    CHECK(tokenizer->vocab_size() == 8);
    CHECK(tokenizer->encode("a  <s>[new]") == Ids{1, 5, 7});
  }

  TEST_CASE("tokens of added_tokens.json join those of tokenizer.json, which come first") {
    const TemporaryFolder folder;
    folder.file("added_tokens.json", R"({"[b]": 8, "</s>": 6, "[a]": 7})");
    const auto tokenizer = open(folder, small());
    CHECK(tokenizer->vocab_size() == 9);
    CHECK(tokenizer->encode("a[a]b[b]</s>") == Ids{1, 7, 2, 8, 6});
    CHECK(tokenizer->decode(Ids{1, 7, 2, 8, 6}) == "a[a]b[b]");  // </s> is special as before
    folder.file("tokenizer_config.json", R"({"added_tokens_decoder": {
      "8": {"content": "[d]"}, "7": {"content": "[c]"}}})");
    CHECK(open(folder, small())->encode("[c][d][a]") == Ids{7, 8, 0, 1, 0});
  }

  TEST_CASE("BOS and EOS that are no added tokens are tokens in formatted text only") {
    const TemporaryFolder folder;
    Json json = with("/model/vocab", R"({"?": 0, "a": 1, "b": 2, "ab": 3, "abab": 4, "<e>": 5})");
    json["added_tokens"] = Json::array();
    folder.file("tokenizer_config.json", R"({"eos_token": "<e>"})");
    const auto tokenizer = open(folder, json);
    CHECK(tokenizer->eos() == 5);
    CHECK(tokenizer->encode("ab<e>a") == Ids{3, 0, 0, 0, 1});
    CHECK(tokenizer->encode_formatted("ab<e>a") == Ids{3, 5, 1});
    const TemporaryFolder plain;
    CHECK(open(plain, small())->encode_formatted("ab<s>a") == Ids{3, 5, 1});
  }

  TEST_CASE("a continuation has nothing in front and keeps its white space") {
    const TemporaryFolder folder;
    for (const std::string kind : {"llama2", "llama2_metaspace", "metaspace", "prefix_space"}) {
      const Json prefixing = Json::parse(bytes_of(kGoldens / (kind + ".json")));
      Json plain = prefixing;
      if (kind == "llama2") {
        plain["normalizer"]["normalizers"].erase(0);
      } else if (kind == "prefix_space") {
        plain["pre_tokenizer"]["add_prefix_space"] = false;
      } else {
        plain["pre_tokenizer"]["prepend_scheme"] = "never";
      }
      const auto a = open(folder, prefixing);
      const auto b = open(folder, plain);
      CHECK(a->encode("the end") != b->encode("the end"));
      for (const std::string text : {"the end", " the end", "  two", "\n", "x", "é中"}) {
        CHECK(a->encode_continuation(text) == b->encode(text));
      }
    }
    const auto strips = open(folder, Json::parse(bytes_of(kGoldens / "llama2.json")));
    Ids ids = strips->encode("first part:");
    const Ids rest = strips->encode_continuation("  second </s> part");
    ids.insert(ids.end(), rest.begin(), rest.end());
    CHECK(strips->decode(ids) == "first part:  second   part");  // after </s> as encode() does

    Json json =
        with("/normalizer", R"({"type": "Strip", "strip_left": true, "strip_right": true})");
    CHECK(open(folder, json)->encode(" a ") == Ids{1});
    CHECK(open(folder, json)->encode_continuation(" a ") == Ids{0, 1});
  }

  TEST_CASE("bytes that are not UTF-8 are U+FFFD") {
    const auto tokenizer = load_tokenizer(kGoldens / "gpt2.json");
    CHECK(tokenizer->encode("a\xff z") == tokenizer->encode("a\uFFFD z"));
    CHECK(tokenizer->decode(tokenizer->encode("\xE2\x82")) == "\uFFFD");
  }

  TEST_CASE("a megabyte of one character") {
    for (const std::string kind : {"gpt2", "llama3", "qwen2", "llama2", "metaspace", "spm_bpe"}) {
      const bool is_model = kind == "spm_bpe";
      const auto tokenizer = load_tokenizer(kGoldens / (kind + (is_model ? ".model" : ".json")));
      for (const std::string unit : {"a", " ", "7", "😀"}) {
        std::string text;
        for (size_t i = 0; i < 1000000 / unit.size(); ++i) text += unit;
        const auto ids = tokenizer->encode(text);
        CHECK(ids.size() > 1000);
        if (kind == "gpt2") CHECK(tokenizer->decode(ids) == text);
      }
    }
  }

  TEST_CASE("several threads at once") {
    const auto tokenizer = load_tokenizer(kGoldens / "llama3.json");
    std::vector<std::string> texts;
    std::vector<Ids> expected;
    for (int i = 0; i < 200; ++i) {
      texts.push_back(str("The ", i, " words of thread's text <|im_end|> ", i * i, "\n"));
      expected.push_back(tokenizer->encode(texts.back()));
    }
    std::vector<int> wrong(4, 0);
    std::vector<std::thread> threads;
    for (size_t t = 0; t < wrong.size(); ++t) {
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < texts.size(); ++i) {
          wrong[t] += tokenizer->encode(texts[i]) != expected[i];
          wrong[t] += tokenizer->decode(expected[i]).empty();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == std::vector<int>(4, 0));
  }

  TEST_CASE("text that is no tokenizer.json") {
    const TemporaryFolder folder;
    const std::string good = small().dump();
    check_refused(folder, "", "not a SentencePiece model");
    check_refused(folder, "not json", "not a SentencePiece model");
    check_refused(folder, "[1, 2]", "not a SentencePiece model");
    check_refused(folder, "{}", "\"model\" is missing");
    check_refused(folder, "{\"model\": ", "syntax error");
    check_refused(folder, good + "x", "syntax error");
    for (const size_t part : {good.size() / 4, good.size() / 2, good.size() - 1}) {
      check_refused(folder, good.substr(0, part), "syntax error");
    }
    check_refused(folder, "{\"model\": \"\xff\"}", "ill-formed UTF-8");
    check_refused(folder, "{\"model\": \"\\ud800\"}", "surrogate");
    check_refused(folder, std::string("{\"a\0\": 1}", 9), "NUL");
    check_refused(folder, "{\"version\": \"1.0\", \"version\": \"1.0\"}", "duplicate key");
    check_refused(folder, "{\"model\": " + nested("[", "", "]", 100000), "nested deeper");
    check_refused(folder, "{\"model\": 1e999}", "number overflow");
    std::string twice = good;
    twice.replace(twice.find("\"a\":1"), 5, "\"a\":1,\"a\":9");
    check_refused(folder, twice, "duplicate key");
  }

  TEST_CASE("values that a tokenizer.json cannot have") {
    const TemporaryFolder folder;
    const std::string split = R"({"type": "Split", "behavior": "Isolated", "invert": false, )";
    const std::vector<BadValue> cases = {
        {"/version", "\"2.0\"", "\"1.0\""},
        {"/extra", "1", "/extra"},
        {"/model", "[]", "an object"},
        {"/model/type", "\"WordPiece\"", "\"WordPiece\" is not supported"},
        {"/model/type", "\"Unigram\"", "\"Unigram\" is not supported"},
        {"/model/type", "7", "a string"},
        {"/model/dropout", "0.1", "dropout"},
        {"/model/dropout", "0.0", "dropout"},
        {"/model/end_of_word_suffix", "\"</w>\"", "end_of_word_suffix"},
        {"/model/continuing_subword_prefix", "\"##\"", "continuing_subword_prefix"},
        {"/model/fuse_unk", "1", "true or false"},
        {"/model/byte_fallback", "\"yes\"", "true or false"},
        {"/model/new_option", "true", "new_option"},
        {"/model/unk_token", "\"missing\"", "\"missing\" is not in the vocabulary"},
        {"/model/unk_token", "3", "a string"},
        {"/model/vocab", "[]", "an object"},
        {"/model/vocab", "{}", "empty"},
        {"/model/vocab/a", "-1", "/model/vocab/a"},
        {"/model/vocab/a", "2", "belongs to another"},
        {"/model/vocab/a", "2147483647", "an id from 0"},
        {"/model/vocab/a", "18446744073709551616", "an id from 0"},
        {"/model/vocab/a", "1.5", "an id from 0"},
        {"/model/vocab/a", "\"1\"", "an id from 0"},
        {"/model/vocab/a", "null", "an id from 0"},
        {"/model/merges", "{}", "an array"},
        {"/model/merges", "[\"ab\"]", "one space"},
        {"/model/merges", "[\"a b b\"]", "one space"},
        {"/model/merges", "[\"a x\"]", "\"x\" is not in the vocabulary"},
        {"/model/merges", "[\"b a\"]", "\"ba\" is not in the vocabulary"},
        {"/model/merges", "[7]", "\"left right\""},
        {"/model/merges", "[[\"a\"]]", "[\"left\", \"right\"]"},
        {"/model/merges", "[[\"a\", 1]]", "[\"left\", \"right\"]"},
        {"/model/merges", "[[\"a\", \"b\"], \"ab ab\"]", "/model/merges/1"},
        {"/model/merges", "[\" \"]", "\"\" is not in the vocabulary"},
        {"/added_tokens", "{}", "an array"},
        {"/added_tokens/0/id", "6", "is there twice"},
        {"/added_tokens/0/id", "-5", "an id from 0"},
        {"/added_tokens/0/id", "1e30", "an integer"},
        {"/added_tokens/0/id", "1", "id 5 follows"},
        {"/added_tokens/0/content", "\"a\"", "id 1 follows"},
        {"/added_tokens/0/content", "\"</s>\"", "is there twice"},
        {"/added_tokens/0/content", "5", "a string"},
        {"/added_tokens/0/content", "\"" + std::string(2000, 'x') + "\"", "longer than"},
        {"/added_tokens/0/lstrip", "\"no\"", "true or false"},
        {"/added_tokens/0/fuzzy", "true", "fuzzy"},
        {"/normalizer", "\"NFC\"", "an object"},
        {"/normalizer", "{\"type\": \"Precompiled\"}", "\"Precompiled\" is not supported"},
        {"/normalizer", "{\"type\": \"NFC\", \"form\": 1}", "/normalizer/form"},
        {"/normalizer", "{\"type\": \"Replace\", \"content\": \"\"}", "\"pattern\" is missing"},
        {"/normalizer", R"({"type": "Replace", "pattern": {"String": ""}, "content": ""})",
         "empty pattern"},
        {"/pre_tokenizer", "{}", "\"type\" is missing"},
        {"/pre_tokenizer", "{\"type\": \"UnicodeScripts\"}", "\"UnicodeScripts\" is not supported"},
        {"/pre_tokenizer", split + R"("pattern": {"Regex": "("}})", "does not compile"},
        {"/pre_tokenizer", split + R"("pattern": {"Regex": "a\\b"}})", "\\b"},
        {"/pre_tokenizer", split + R"("pattern": {"Glob": "*"}})", "Regex"},
        {"/pre_tokenizer", split + R"("pattern": "a"})", "an object"},
        {"/pre_tokenizer",
         R"({"type": "Split", "behavior": "Cut", "invert": false, "pattern": {"String": "a"}})",
         "\"Isolated\""},
        {"/pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"__\"}", "one character"},
        {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})",
         "\"first\""},
        {"/pre_tokenizer",
         R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first",
             "add_prefix_space": false})",
         "add_prefix_space"},
        {"/pre_tokenizer", "{\"type\": \"ByteLevel\"}", "\"add_prefix_space\" is missing"},
        {"/decoder", "{\"type\": \"CTC\"}", "\"CTC\" is not supported"},
        {"/decoder", R"({"type": "Strip", "content": " ", "start": -1, "stop": 0})", "/start"},
        {"/decoder", R"({"type": "Strip", "content": "", "start": 1, "stop": 0})", "one character"},
        {"/post_processor", "{\"type\": \"BertProcessing\"}", "\"BertProcessing\""},
        {"/post_processor", bos_template(""), "the sequence once"},
        {"/post_processor", bos_template(kBos + "," + kBos + "," + kSequence), "one BOS"},
        {"/post_processor",
         R"({"type": "TemplateProcessing", "special_tokens": {}, "single": [)" + kBos + "," +
             kSequence + "]}",
         "\"<s>\" is missing"},
    };
    CHECK(cases.size() > 60);
    for (const BadValue& bad : cases) {
      INFO(bad.pointer << " = " << bad.value.substr(0, 60));
      check_refused(folder, with(bad.pointer, bad.value).dump(), bad.what);
    }
  }

  TEST_CASE("components without end") {
    const TemporaryFolder folder;
    const auto deep = [](const std::string& key, int times) {
      return nested(R"({"type": "Sequence", ")" + key + R"(": [)", "", "]}", times);
    };
    CHECK_NOTHROW(open(folder, with("/normalizer", deep("normalizers", 20))));
    check_refused(folder, with("/normalizer", deep("normalizers", 40)).dump(), "nested deeper");
    std::string many = R"({"type": "NFC"})";
    for (int i = 0; i < 100; ++i) many += R"(, {"type": "NFC"})";
    check_refused(
        folder,
        with("/normalizer", R"({"type": "Sequence", "normalizers": [)" + many + "]}").dump(),
        "more than 64 steps");
    // Each step doubles the text: 2^60 times.
    std::string doubling;
    for (int i = 0; i < 60; ++i) {
      doubling += str(i == 0 ? "" : ", ",
                      R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})");
    }
    const auto tokenizer = open(
        folder, with("/normalizer", R"({"type": "Sequence", "normalizers": [)" + doubling + "]}"));
    CHECK_THROWS_WITH_AS(tokenizer->encode("a"), doctest::Contains("normaliser makes more than"),
                         Error);
    // Two tokens that the normaliser makes one, and one that it makes nothing.
    Json same = with("/normalizer", R"({"type": "Lowercase"})");
    same["added_tokens"][0]["content"] = "</S>";
    same["added_tokens"][0]["normalized"] = same["added_tokens"][1]["normalized"] = true;
    check_refused(folder, same.dump(), "another added token", "tokenizer.json");
    Json nothing =
        with("/normalizer", R"({"type": "Strip", "strip_left": true, "strip_right": true})");
    nothing["added_tokens"][0]["content"] = "  ";
    nothing["added_tokens"][0]["normalized"] = true;
    check_refused(folder, nothing.dump(), "which is empty", "tokenizer.json");
  }

  TEST_CASE("an expression that takes exponential time stops with an error") {
    const TemporaryFolder folder;
    const auto tokenizer =
        open(folder, with("/pre_tokenizer", R"({"type": "Split", "behavior": "Isolated",
                          "invert": false, "pattern": {"Regex": "(?:a+)+$"}})"));
    CHECK(tokenizer->encode("aaa") == Ids{1, 1, 1});
    CHECK(message_of(ErrorKind::data, [&] {
            tokenizer->encode(std::string(80, 'a') + "b");
          }).find("match limit") != std::string::npos);
    CHECK(tokenizer->encode("aaa") == Ids{1, 1, 1});  // as before
  }

  TEST_CASE("files beside a tokenizer that say nonsense") {
    const std::vector<std::array<std::string, 3>> cases = {
        {"tokenizer_config.json", "{", "syntax error"},
        {"tokenizer_config.json", "[]", "an object"},
        {"tokenizer_config.json", R"({"bos_token": 1})", "a string"},
        {"tokenizer_config.json", R"({"bos_token": {}})", "\"content\" is missing"},
        {"tokenizer_config.json", R"({"bos_token": "<x>"})", "\"<x>\" is not in"},
        {"tokenizer_config.json", R"({"add_bos_token": "yes"})", "true or false"},
        {"tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "y"}}})", "/x"},
        {"tokenizer_config.json", R"({"added_tokens_decoder": {"-1": {"content": "y"}}})", "/-1"},
        {"tokenizer_config.json", R"({"added_tokens_decoder": {"99": {"content": "y"}}})", "id 7"},
        {"special_tokens_map.json", R"({"eos_token": ["</s>"]})", "a string"},
        {"config.json", R"({"bos_token_id": 7})", "vocabulary of 7"},
        {"config.json", R"({"eos_token_id": []})", "empty list"},
        {"config.json", R"({"eos_token_id": 99999999999})", "token's id"},
        {"generation_config.json", R"({"eos_token_id": "2"})", "an integer"},
    };
    for (const auto& entry : cases) {
      const std::string name = entry[0], text = entry[1], what = entry[2];
      const TemporaryFolder folder;
      folder.file("tokenizer.json", small().dump());
      folder.file(name, text);
      const std::string message =
          message_of(ErrorKind::data, [&] { load_tokenizer(folder.path()); });
      INFO(name << " | " << text << " | " << message);
      CHECK(message.find(what) != std::string::npos);
      CHECK(message.find('\n') == std::string::npos);
    }
  }
}
