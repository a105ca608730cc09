// From the tokenizer files of a Hugging Face folder to a GGUF's keys. Whatever the keys cannot say
// is refused by name.
#include <algorithm>
#include <filesystem>
#include <set>
#include <vector>

#include "io/json.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"
#include "mora/text/gguf_tokenizer.hpp"
#include "text/gguf_pre_tokenizers.hpp"
#include "text/sentencepiece_model.hpp"
#include "text/special_tokens.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

constexpr size_t kMaxTokenizer = size_t{256} << 20, kMaxConfig = size_t{16} << 20;
constexpr float kAddedScore = -1000;  // what llama.cpp's converter gives tokens without a score

std::string key(std::string_view name) {
  return str("tokenizer.ggml.", name);
}

// The tokenizer as GGUF has it, with what its own files say of BOS and EOS.
struct Vocabulary {
  std::string source;  // the file that it is from
  std::vector<VocabularyPiece> pieces;
  std::optional<bool> add_bos, add_eos;
};

// A JSON file that may be missing; then null.
Json read_json(const fs::path& path, size_t max_bytes) {
  if (!fs::exists(path)) return nullptr;
  return parse_json(read_file(path, max_bytes), path.string(), {.max_bytes = max_bytes});
}

// Puts a token at its id; tokens between the last and this one are fillers until they are set.
// `source` is the file that names it.
void place(Vocabulary& v, int64_t id, const TokenizerIds& ids, VocabularyPiece piece,
           std::string_view source) {
  if (id < 0 || id >= ids.vocab_size) {
    fail(ErrorKind::data, printable(source), ": token \"", printable(piece.text), "\" has the id ",
         id, "; the model has rows for ", ids.vocab_size);
  }
  const auto at = static_cast<size_t>(id);
  for (size_t i = v.pieces.size(); i <= at; ++i) {
    v.pieces.push_back({str("[PAD", i, "]"), kAddedScore, PieceType::unused});
  }
  v.pieces[at] = std::move(piece);
}

void place_added(Vocabulary& v, const AddedToken& token, const TokenizerIds& ids) {
  if (token.content.empty()) return;  // transformers takes no notice of it
  const auto id = static_cast<size_t>(token.id);
  const PieceType before = id < v.pieces.size() ? v.pieces[id].type : PieceType::unused;
  // SentencePiece's own kinds say more than "special".
  if (before == PieceType::unknown || before == PieceType::byte) return;
  const float score = before == PieceType::unused ? kAddedScore : v.pieces[id].score;
  const PieceType type = token.special ? PieceType::control : PieceType::user_defined;
  place(v, token.id, ids, {token.content, score, type}, token.source);
}

// Tokens that stand only in the files beside a tokenizer's own; those of added_tokens.json say no
// more of a token that is there already.
void place_beside(Vocabulary& v, const fs::path& folder, const TokenizerIds& ids) {
  const TokenizerSettings settings = read_tokenizer_settings(folder);
  for (const AddedToken& token : settings.added) place_added(v, token, ids);
  for (const AddedToken& token : settings.listed) {
    const auto id = static_cast<size_t>(token.id);
    const bool known = id < v.pieces.size() && v.pieces[id].text == token.content;
    if (!known) place_added(v, token, ids);
  }
}

// Whether a post-processor puts a special token before or behind a text.
void read_post_processor(const JsonView& json, Vocabulary& v) {
  const std::string type = json.at("type").string();
  if (type == "Sequence") {
    for (const JsonView& part : json.at("processors").items()) {
      if (part.at("type").string() == "Sequence") part.wrong("is a sequence within a sequence");
      read_post_processor(part, v);
    }
  } else if (type == "TemplateProcessing") {
    const std::vector<JsonView> parts = json.at("single").items();
    const auto text =
        std::ranges::find_if(parts, [](const JsonView& p) { return p.has("Sequence"); });
    const auto before = text - parts.begin(), behind = parts.end() - text - 1;
    if (text == parts.end() || before > 1 || behind > 1) {
      json.wrong("is expected to put at most one token before and one behind the text");
    }
    v.add_bos = before == 1;
    v.add_eos = behind == 1;
  } else if (type != "ByteLevel") {
    json.wrong("is a post-processor that GGUF cannot express");
  }
}

void require_plain_bpe(const JsonView& model) {
  if (model.has("type") && model.at("type").string() != "BPE") {
    model.at("type").wrong("only byte-level BPE can be written as GGUF");
  }
  if (model.has("byte_fallback") && model.at("byte_fallback").boolean()) {
    model.at("byte_fallback")
        .wrong("is true: a SentencePiece tokenizer, which is converted from its tokenizer.model");
  }
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (model.has(affix) && !model.at(affix).string().empty()) {
      model.at(affix).wrong("is not supported by GGUF");
    }
  }
}

// Either spelling: "a b", or ["a", "b"].
std::vector<std::string> read_merges(const JsonView& model) {
  std::vector<std::string> merges;
  for (const JsonView& merge : model.at("merges").items()) {
    if (merge.json().is_array()) {
      const std::vector<JsonView> pair = merge.items();
      if (pair.size() != 2) merge.wrong_type("a pair of tokens");
      merges.push_back(str(pair[0].string(), " ", pair[1].string()));
    } else {
      merges.push_back(merge.string());
    }
    if (std::ranges::count(merges.back(), ' ') != 1) merge.wrong("is no pair of byte-level tokens");
  }
  return merges;
}

Vocabulary add_byte_level(GgufMetadata& metadata, const fs::path& path, const TokenizerIds& ids) {
  const Json document = read_json(path, kMaxTokenizer);
  const JsonView json(document, path.string());
  const JsonView model = json.at("model");
  require_plain_bpe(model);
  const NamedPreTokenizer& pre = pre_tokenizer_of(json);
  Vocabulary v{path.string(), {}, false, false};
  for (const auto& [token, id] : model.at("vocab").members()) {
    place(v, id.integer(), ids, {token, 0, PieceType::normal}, v.source);
  }
  if (json.has("added_tokens")) {
    for (const JsonView& token : json.at("added_tokens").items()) {
      place_added(v, read_added_token(token), ids);
    }
  }
  if (json.has("post_processor")) read_post_processor(json.at("post_processor"), v);
  metadata.add_text(key("model"), "gpt2");
  metadata.add_text(key("pre"), pre.name);
  metadata.add_texts(key("merges"), read_merges(model));
  return v;
}

Vocabulary add_sentencepiece(GgufMetadata& metadata, const fs::path& path,
                             const TokenizerIds& ids) {
  const SentencePieceModel model =
      read_sentencepiece_model(read_file(path, kMaxTokenizer), path.string());
  auto refuse = [&](std::string_view why) {
    fail(ErrorKind::data, printable(path.string()), ": ", why, ", which GGUF cannot express");
  };
  if (model.model_type != SentencePieceModel::kBpe) refuse("is no BPE model");
  if (!model.character_map.empty()) refuse("normalises characters");
  if (model.remove_extra_whitespaces) refuse("removes extra white space");
  if (!model.escape_whitespaces || model.space_as_suffix) refuse("marks spaces in another way");
  Vocabulary v{path.string(), {}, true, false};
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    place(v, static_cast<int64_t>(id), ids, model.pieces[id], v.source);
  }
  metadata.add_text(key("model"), "llama");
  metadata.add_text(key("pre"), "default");
  metadata.add_bool(key("add_space_prefix"), model.add_dummy_prefix);
  return v;
}

// A special token of tokenizer_config.json: text, or an object with the text as "content".
std::optional<int64_t> id_of_special(const JsonView& config, const char* name, const Vocabulary& v,
                                     std::optional<int64_t> otherwise) {
  if (!config.has(name)) return otherwise;
  const JsonView token = config.at(name);
  const std::string text = token.json().is_object() ? token.at("content").string() : token.string();
  const auto found = std::ranges::find(v.pieces, text, &VocabularyPiece::text);
  if (found == v.pieces.end()) token.wrong("is no token of the tokenizer");
  return found - v.pieces.begin();
}

void add_special_ids(GgufMetadata& metadata, const JsonView& config, const Vocabulary& v,
                     const TokenizerIds& ids) {
  const auto unknown = std::ranges::find(v.pieces, PieceType::unknown, &VocabularyPiece::type);
  std::optional<int64_t> unk;
  if (unknown != v.pieces.end()) unk = unknown - v.pieces.begin();
  auto add = [&](const char* name, const char* token, std::optional<int64_t> otherwise) {
    const auto id = id_of_special(config, token, v, otherwise);
    if (!id) return;
    if (*id < 0 || *id >= static_cast<int64_t>(v.pieces.size())) {
      fail(ErrorKind::data, printable(v.source), ": the model's ", token, " ", *id,
           " is no token of the tokenizer");
    }
    metadata.add_u32(key(name), static_cast<uint32_t>(*id));
  };
  add("bos_token_id", "bos_token", ids.bos);
  add("eos_token_id", "eos_token", ids.eos);
  add("unknown_token_id", "unk_token", unk);
  add("padding_token_id", "pad_token", ids.pad);
}

// A file of its own comes before the configuration's text or list of named texts.
void add_chat_templates(GgufMetadata& metadata, const JsonView& config, const fs::path& folder) {
  const std::string name = "tokenizer.chat_template";
  const fs::path own = folder / "chat_template.jinja";
  if (fs::exists(own)) return metadata.add_text(name, read_file(own, kMaxConfig));
  if (!config.has("chat_template")) return;
  const JsonView json = config.at("chat_template");
  if (!json.json().is_array()) return metadata.add_text(name, json.string());
  std::set<std::string> seen;
  for (const JsonView& each : json.items()) {
    const std::string variant = each.at("name").string();
    if (!seen.insert(variant).second) each.wrong("has the name of another template");
    metadata.add_text(variant == "default" ? name : str(name, ".", variant),
                      each.at("template").string());
  }
}

// The whole list, filled up to the model's rows.
void add_tokens(GgufMetadata& metadata, Vocabulary& v, const TokenizerIds& ids, bool with_scores) {
  if (static_cast<int64_t>(v.pieces.size()) < ids.vocab_size) {
    const int64_t last = ids.vocab_size - 1;
    place(v, last, ids, {str("[PAD", last, "]"), kAddedScore, PieceType::unused}, v.source);
  }
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (const VocabularyPiece& piece : v.pieces) {
    tokens.push_back(piece.text);
    scores.push_back(piece.score);
    types.push_back(static_cast<int32_t>(piece.type));
  }
  metadata.add_texts(key("tokens"), tokens);
  if (with_scores) metadata.add_f32s(key("scores"), scores);
  metadata.add_i32s(key("token_type"), types);
}

}  // namespace

void add_tokenizer_keys(GgufMetadata& metadata, const fs::path& folder, const TokenizerIds& ids) {
  const fs::path pieces = folder / "tokenizer.model", json = folder / "tokenizer.json";
  const fs::path config_path = folder / "tokenizer_config.json";
  Json document = read_json(config_path, kMaxConfig);
  if (document.is_null()) document = Json::object();
  const JsonView config(document, config_path.string());
  const bool sentencepiece = fs::exists(pieces);
  if (!sentencepiece && !fs::exists(json)) {
    fail(ErrorKind::data, printable(folder.string()),
         ": has neither tokenizer.model nor tokenizer.json; a GGUF needs its tokenizer");
  }
  Vocabulary v = sentencepiece ? add_sentencepiece(metadata, pieces, ids)
                               : add_byte_level(metadata, json, ids);
  place_beside(v, folder, ids);
  add_special_ids(metadata, config, v, ids);
  add_tokens(metadata, v, ids, sentencepiece);
  auto flag = [&](const char* name, const std::optional<bool>& otherwise) {
    return config.has(name) ? config.at(name).boolean() : otherwise.value_or(false);
  };
  metadata.add_bool(key("add_bos_token"), flag("add_bos_token", v.add_bos));
  metadata.add_bool(key("add_eos_token"), flag("add_eos_token", v.add_eos));
  add_chat_templates(metadata, config, folder);
}

}  // namespace mora
