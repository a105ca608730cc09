// Four files of Hugging Face's that may lie beside a tokenizer, in the order in which they count.
#include "text/special_tokens.hpp"

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

// The ids are keys there, as decimal numbers.
std::vector<AddedToken> read_added(const JsonView& json) {
  std::vector<AddedToken> tokens;
  for (const auto& [key, value] : json.members()) {
    const bool number =
        !key.empty() && key.size() <= 9 && key.find_first_not_of("0123456789") == std::string::npos;
    if (!number) value.wrong("expected the id of a token as the key");
    tokens.push_back(read_added_token(value, std::stoi(key)));
  }
  return tokens;
}

std::optional<bool> read_flag(const Document& document, std::string_view key) {
  if (!document.view().has(key)) return std::nullopt;
  return document.view().at(key).boolean();
}

}  // namespace

TokenizerSettings read_tokenizer_settings(const std::filesystem::path& folder) {
  TokenizerSettings settings;
  if (const auto config = read_beside(folder / "tokenizer_config.json")) {
    read_text(*config, "bos_token", settings.bos);
    read_text(*config, "eos_token", settings.eos);
    settings.add_bos = read_flag(*config, "add_bos_token");
    settings.add_eos = read_flag(*config, "add_eos_token");
    if (config->view().has("added_tokens_decoder")) {
      settings.added = read_added(config->view().at("added_tokens_decoder"));
    }
  }
  if (const auto map = read_beside(folder / "special_tokens_map.json")) {
    read_text(*map, "bos_token", settings.bos);
    read_text(*map, "eos_token", settings.eos);
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
