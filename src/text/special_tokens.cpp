// Five files of Hugging Face's that may lie beside a tokenizer, in the order in which they count.
#include "text/special_tokens.hpp"

#include <algorithm>
#include <system_error>

#include "mora/io/file.hpp"
#include "mora/io/text.hpp"

namespace mora {
namespace {

constexpr size_t kMaxFileBytes = size_t{16} << 20;

struct Document {
  std::string source;
  Json json;

  JsonView view() const { return {json, source}; }
};

std::optional<Document> read_beside(const std::filesystem::path& path) {
  std::error_code ignored;  // what cannot be examined is reported when it is opened
  const auto status = std::filesystem::symlink_status(path, ignored);
  if (status.type() == std::filesystem::file_type::not_found) return std::nullopt;
  Document document{path.string(), parse_json(read_file(path, kMaxFileBytes), path.string())};
  if (!document.json.is_object()) document.view().wrong_type("an object");
  return document;
}

// A token as text: a string, or an object with its content.
void read_text(const Document& document, const std::string& key, SpecialToken& token) {
  const auto found = document.json.find(key);
  if (token.known || found == document.json.end()) return;
  token.known = true;
  token.source = document.source + ": /" + key;
  if (found->is_null()) return;
  const JsonView value = document.view().at(key);
  token.text = found->is_object() ? value.at("content").string() : value.string();
}

void read_id(const Document& document, const std::string& key, SpecialToken& token) {
  if (token.known || !document.view().has(key)) return;
  JsonView value = document.view().at(key);
  if (value.json().is_array()) {
    const auto items = value.items();
    if (items.empty()) value.wrong("an empty list of ids");
    value = items.front();
  }
  const int64_t id = value.integer();
  if (id < 0) return;  // as some files say that there is none
  if (id >= INT32_MAX) value.wrong_type("a token's id");
  token.known = true;
  token.source = document.source + ": /" + key;
  token.id = static_cast<int32_t>(id);
}

// The texts of all the special tokens that a file names: each is a text, an object with its
// content, or a list of such.
using Texts = std::unordered_set<std::string>;

void add_texts(const Json& json, Texts& texts) {
  if (json.is_string()) texts.insert(json.get<std::string>());
  if (json.is_object() && json.contains("content")) add_texts(json["content"], texts);
  if (json.is_array()) {
    for (const Json& item : json) add_texts(item, texts);
  }
}

void add_special_texts(const Document& document, Texts& texts) {
  for (const char* key :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
        "additional_special_tokens", "extra_special_tokens"}) {
    if (document.view().has(key)) add_texts(document.json[key], texts);
  }
}

// The reference adds them in the order of their ids.
std::vector<AddedToken> by_id(std::vector<AddedToken> tokens) {
  std::ranges::stable_sort(tokens, {}, &AddedToken::id);
  return tokens;
}

// The ids are keys there, as decimal numbers.
std::vector<AddedToken> read_added(const JsonView& json) {
  std::vector<AddedToken> tokens;
  for (const auto& [key, value] : json.members()) {
    const bool number =
        !key.empty() && key.size() <= 9 && key.find_first_not_of("0123456789") == std::string::npos;
    if (!number) value.wrong("expected the id of a token as the key");
    tokens.push_back(read_added_token(value, std::stoi(key)));
  }
  return by_id(std::move(tokens));
}

// The texts are keys there; the rest is what the reference takes for it.
std::vector<AddedToken> read_listed(const Document& list, const Texts& special) {
  std::vector<AddedToken> tokens;
  for (const auto& [text, id] : list.view().members()) {
    const Json token = {{"id", id.json()}, {"content", text}, {"special", special.count(text) > 0}};
    tokens.push_back(read_added_token({token, list.source, json_pointer("", text)}));
  }
  return by_id(std::move(tokens));
}

std::optional<bool> read_flag(const Document& document, std::string_view key) {
  if (!document.view().has(key)) return std::nullopt;
  return document.view().at(key).boolean();
}

// Where the file does not say, transformers' LlamaTokenizer takes false, and what it takes in place
// of a class that is not named true.
bool read_legacy(const Document& config) {
  if (const auto legacy = read_flag(config, "legacy")) return *legacy;
  if (!config.view().has("tokenizer_class")) return true;
  const std::string name = config.view().at("tokenizer_class").string();
  return name != "LlamaTokenizer" && name != "LlamaTokenizerFast";
}

}  // namespace

void refuse_unknown(const SpecialToken& token) {
  fail(ErrorKind::data, printable(token.source, 4096), ": token \"",
       printable(token.text.value_or("")), "\" is not in the tokenizer's vocabulary");
}

TokenizerSettings read_tokenizer_settings(const std::filesystem::path& folder) {
  TokenizerSettings settings;
  Texts special;
  bool has_decoder = false;
  if (const auto config = read_beside(folder / "tokenizer_config.json")) {
    read_text(*config, "bos_token", settings.bos);
    read_text(*config, "eos_token", settings.eos);
    settings.add_bos = read_flag(*config, "add_bos_token");
    settings.add_eos = read_flag(*config, "add_eos_token");
    settings.begins_anew = read_legacy(*config);
    add_special_texts(*config, special);
    has_decoder = config->view().has("added_tokens_decoder");
    if (has_decoder) settings.added = read_added(config->view().at("added_tokens_decoder"));
  }
  if (const auto map = read_beside(folder / "special_tokens_map.json")) {
    read_text(*map, "bos_token", settings.bos);
    read_text(*map, "eos_token", settings.eos);
    add_special_texts(*map, special);
  }
  if (!has_decoder) {
    if (const auto list = read_beside(folder / "added_tokens.json")) {
      settings.listed = read_listed(*list, special);
    }
  }
  for (const char* name : {"config.json", "generation_config.json"}) {
    if (settings.bos.known && settings.eos.known) break;
    if (const auto config = read_beside(folder / name)) {
      read_id(*config, "bos_token_id", settings.bos);
      read_id(*config, "eos_token_id", settings.eos);
    }
  }
  return settings;
}

}  // namespace mora
