// From a GGUF's tokenizer keys to the files of a Hugging Face folder. Large arrays are written as
// text at once: a JSON tree of a hundred thousand keys would be slow to build.
#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "io/json.hpp"
#include "mora/io/text.hpp"
#include "mora/text/gguf_tokenizer.hpp"
#include "text/gguf_pre_tokenizers.hpp"
#include "text/sentencepiece_model.hpp"

namespace mora {

namespace {

constexpr const char *kTokens = "tokenizer.ggml.tokens", *kTypes = "tokenizer.ggml.token_type",
                     *kMerges = "tokenizer.ggml.merges", *kScores = "tokenizer.ggml.scores",
                     *kModel = "tokenizer.ggml.model", *kPre = "tokenizer.ggml.pre",
                     *kTemplate = "tokenizer.chat_template";

std::string key(std::string_view name) {
  return str("tokenizer.ggml.", name);
}

// The tokens and what else both kinds of tokenizer have.
struct Vocabulary {
  std::vector<std::string_view> tokens;
  std::vector<PieceType> types;
  std::optional<size_t> bos, eos, unk, pad;
  bool add_bos = false, add_eos = false;
};

std::optional<size_t> special(const GgufFile& file, const char* name, size_t tokens) {
  if (!file.has(key(name))) return std::nullopt;
  const int64_t id = file.integer(key(name));
  if (id < 0 || static_cast<uint64_t>(id) >= tokens) {
    file.wrong(key(name), str("is ", id, ", expected the id of one of ", tokens, " tokens"));
  }
  return static_cast<size_t>(id);
}

bool flag(const GgufFile& file, const char* name, bool otherwise) {
  return file.has(key(name)) ? file.boolean(key(name)) : otherwise;
}

bool is_filler(std::string_view token, PieceType type, size_t id) {
  return type == PieceType::unused && token == str("[PAD", id, "]");
}

void read_types(const GgufFile& file, Vocabulary& v) {
  const std::vector<int64_t> numbers = file.integers(kTypes);
  if (numbers.size() != v.tokens.size()) {
    file.wrong(kTypes, str("has ", numbers.size(), " entries for ", v.tokens.size(), " tokens"));
  }
  for (int64_t number : numbers) {
    if (number < 1 || number > 6) file.wrong(kTypes, str("holds ", number, ", expected 1 to 6"));
    v.types.push_back(static_cast<PieceType>(number));
  }
}

// Tokens at the end that only fill up the model's rows go; every other one must be text that no
// other token has.
void check_tokens(const GgufFile& file, Vocabulary& v) {
  while (!v.tokens.empty() && is_filler(v.tokens.back(), v.types.back(), v.tokens.size() - 1)) {
    v.tokens.pop_back();
    v.types.pop_back();
  }
  std::unordered_set<std::string_view> seen;
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    const std::string_view token = v.tokens[id];
    if (token.empty() || !is_valid_utf8(token)) {
      file.wrong(kTokens, str("has token ", id, ", which is empty or not UTF-8"));
    }
    if (!seen.insert(token).second) {
      file.wrong(kTokens, str("has \"", printable(token), "\" twice, last as ", id));
    }
  }
  if (v.tokens.empty()) file.wrong(kTokens, "is empty");
}

Vocabulary read_vocabulary(const GgufFile& file, int64_t vocab_size, bool bos_by_default) {
  Vocabulary v;
  v.tokens = file.texts(kTokens);
  if (v.tokens.size() > static_cast<uint64_t>(vocab_size)) {
    file.wrong(kTokens,
               str("has ", v.tokens.size(), " tokens; the model has rows for ", vocab_size));
  }
  read_types(file, v);
  check_tokens(file, v);
  v.bos = special(file, "bos_token_id", v.tokens.size());
  v.eos = special(file, "eos_token_id", v.tokens.size());
  v.unk = special(file, "unknown_token_id", v.tokens.size());
  v.pad = special(file, "padding_token_id", v.tokens.size());
  v.add_bos = flag(file, "add_bos_token", bos_by_default);
  v.add_eos = flag(file, "add_eos_token", false);
  if (v.add_bos && !v.bos) file.wrong(key("bos_token_id"), "is missing, but BOS is to be added");
  if (v.add_eos && !v.eos) file.wrong(key("eos_token_id"), "is missing, but EOS is to be added");
  return v;
}

std::string quoted(std::string_view text) {
  return dump_json(Json(std::string(text)));
}

bool is_added(PieceType type) {
  return type == PieceType::control || type == PieceType::user_defined;
}

// An entry of added_tokens, without its id.
Json added_token(const Vocabulary& v, size_t id) {
  return {{"content", std::string(v.tokens[id])},
          {"single_word", false},
          {"lstrip", false},
          {"rstrip", false},
          {"normalized", false},
          {"special", v.types[id] != PieceType::user_defined}};
}

// Puts BOS before and EOS behind a text, as the flags say.
Json post_processor(const Vocabulary& v) {
  if (!v.add_bos && !v.add_eos) return nullptr;
  Json tokens = Json::object();
  auto part = [&](size_t id, int type) -> Json {
    const std::string text(v.tokens[id]);
    tokens[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
    return {{"SpecialToken", {{"id", text}, {"type_id", type}}}};
  };
  Json single = Json::array(), pair = Json::array();
  for (int type = 0; type < 2; ++type) {
    Json sequence = Json::array();
    if (v.add_bos) sequence.push_back(part(*v.bos, type));
    sequence.push_back({{"Sequence", {{"id", type == 0 ? "A" : "B"}, {"type_id", type}}}});
    if (v.add_eos) sequence.push_back(part(*v.eos, type));
    if (type == 0) single = sequence;
    for (const Json& each : sequence) pair.push_back(each);
  }
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", tokens}};
}

// "a b" for every merge; both and their union must be tokens, or no reader would take the file.
std::string merges_text(const GgufFile& file, const Vocabulary& v) {
  const std::unordered_set<std::string_view> known(v.tokens.begin(), v.tokens.end());
  std::string text, joined;
  for (const std::string_view merge : file.texts(kMerges)) {
    const size_t space = merge.find(' ');
    bool fine = space != std::string_view::npos && merge.find(' ', space + 1) == merge.npos;
    if (fine) {
      const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
      joined.assign(left).append(right);
      fine = known.contains(left) && known.contains(right) && known.contains(joined);
    }
    if (!fine) {
      file.wrong(kMerges, str("holds \"", printable(merge),
                              "\", which does not join two tokens to a third"));
    }
    text += str(text.empty() ? "\n      " : ",\n      ", quoted(merge));
  }
  return text;
}

std::string tokenizer_json(const GgufFile& file, const Vocabulary& v,
                           const NamedPreTokenizer& pre) {
  std::string added, vocabulary;
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    if (is_filler(v.tokens[id], v.types[id], id)) continue;
    vocabulary +=
        str(vocabulary.empty() ? "\n      " : ",\n      ", quoted(v.tokens[id]), ": ", id);
    if (!is_added(v.types[id])) continue;
    Json entry = {{"id", id}};
    entry.update(added_token(v, id));
    added += str(added.empty() ? "\n    " : ",\n    ", dump_json(entry));
  }
  const Json decoder = {{"type", "ByteLevel"},
                        {"add_prefix_space", true},
                        {"trim_offsets", true},
                        {"use_regex", true}};
  return str("{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n",
             "  \"added_tokens\": [", added,
             "\n  ],\n  \"normalizer\": ", dump_json(normalizer_json(pre)),
             ",\n  \"pre_tokenizer\": ", dump_json(pre_tokenizer_json(pre)),
             ",\n  \"post_processor\": ", dump_json(post_processor(v)),
             ",\n  \"decoder\": ", dump_json(decoder),
             ",\n  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n",
             "    \"unk_token\": null,\n    \"continuing_subword_prefix\": null,\n",
             "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n",
             "    \"byte_fallback\": false,\n    \"ignore_merges\": ",
             pre.ignore_merges ? "true" : "false", ",\n    \"vocab\": {", vocabulary,
             "\n    },\n    \"merges\": [", merges_text(file, v), "\n    ]\n  }\n}\n");
}

// SentencePiece reads a model only with one unknown piece, and with all bytes or none.
void check_pieces(const GgufFile& file, SentencePieceModel& model) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::vector<size_t> unknown;
  size_t bytes = 0;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const VocabularyPiece& piece = model.pieces[id];
    if (piece.type == PieceType::unknown) unknown.push_back(id);
    if (piece.type != PieceType::byte) continue;
    const std::string_view t = piece.text;
    if (t.size() != 6 || !t.starts_with("<0x") || t[5] != '>' ||
        t.substr(3, 2).find_first_not_of(kDigits) != t.npos) {
      file.wrong(kTypes, str("calls \"", printable(t), "\" a byte, expected \"<0xNN>\""));
    }
    ++bytes;
  }
  if (unknown.size() != 1) {
    file.wrong(kTypes, str("names ", unknown.size(), " unknown tokens (type 2), expected one"));
  }
  if (bytes != 0 && bytes != 256) {
    file.wrong(kTypes, str("names ", bytes, " bytes (type 6), expected all 256 or none"));
  }
  model.unk_id = static_cast<int64_t>(unknown.front());
  model.byte_fallback = bytes != 0;
}

std::string sentencepiece_file(const GgufFile& file, const Vocabulary& v) {
  const std::vector<double> scores = file.reals(kScores);
  if (scores.size() < v.tokens.size()) {
    file.wrong(kScores, str("has ", scores.size(), " entries for ", v.tokens.size(), " tokens"));
  }
  SentencePieceModel model;
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    model.pieces.push_back(
        {std::string(v.tokens[id]), static_cast<float>(scores[id]), v.types[id]});
  }
  check_pieces(file, model);
  auto id_of = [](const std::optional<size_t>& id) {
    return id ? static_cast<int64_t>(*id) : int64_t{-1};
  };
  model.model_type = SentencePieceModel::kBpe;
  model.bos_id = id_of(v.bos);
  model.eos_id = id_of(v.eos);
  model.pad_id = id_of(v.pad);
  model.add_dummy_prefix = flag(file, "add_space_prefix", true);
  model.remove_extra_whitespaces = flag(file, "remove_extra_whitespaces", false);
  return sentencepiece_model_bytes(model);
}

// One template as text, or with its named variants as a list.
Json chat_template(const GgufFile& file) {
  Json list = Json::array();
  auto add = [&](const std::string& name, const std::string& from) {
    const std::string text(file.text(from));
    if (!is_valid_utf8(text)) file.wrong(from, "is not UTF-8");
    list.push_back({{"name", name}, {"template", text}});
  };
  const std::string prefix = str(kTemplate, ".");
  if (file.has(kTemplate)) add("default", kTemplate);
  for (const auto& [name, value] : file.metadata()) {
    if (name.starts_with(prefix)) add(name.substr(prefix.size()), name);
  }
  if (list.empty()) return nullptr;
  return list.size() == 1 && file.has(kTemplate) ? list[0]["template"] : list;
}

std::string added_tokens_decoder(const Vocabulary& v) {
  std::string text;
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    if (!is_added(v.types[id]) && v.types[id] != PieceType::unknown) continue;
    text += str(text.empty() ? "\n    \"" : ",\n    \"", id, "\": ", dump_json(added_token(v, id)));
  }
  return text;
}

std::string tokenizer_config(const GgufFile& file, const Vocabulary& v, bool sentencepiece) {
  Json json;
  json["tokenizer_class"] = sentencepiece ? "LlamaTokenizer" : "PreTrainedTokenizerFast";
  auto add = [&](const char* name, const std::optional<size_t>& id) {
    json[name] = id ? Json(std::string(v.tokens[*id])) : Json(nullptr);
  };
  add("bos_token", v.bos);
  add("eos_token", v.eos);
  add("unk_token", v.unk);
  add("pad_token", v.pad);
  json["add_bos_token"] = v.add_bos;
  json["add_eos_token"] = v.add_eos;
  json["clean_up_tokenization_spaces"] = false;
  if (sentencepiece) {
    json["add_prefix_space"] = flag(file, "add_space_prefix", true);
    json["legacy"] = true;  // llama.cpp puts a space in front of the text behind each control token
  }
  if (Json found = chat_template(file); !found.is_null()) json["chat_template"] = std::move(found);
  std::string text = dump_json(json, 2);
  if (sentencepiece) {
    text.resize(text.size() - 2);  // the end of the object
    text += str(",\n  \"added_tokens_decoder\": {", added_tokens_decoder(v), "\n  }\n}");
  }
  return text + "\n";
}

// Ends of a turn or a message end a generated text, too.
std::string generation_config(const GgufFile& file, const Vocabulary& v) {
  Json json = {{"_from_model_config", false}};
  if (v.bos) json["bos_token_id"] = *v.bos;
  std::vector<size_t> ends;
  for (const char* name : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    const auto id = special(file, name, v.tokens.size());
    if (id && std::ranges::find(ends, *id) == ends.end()) ends.push_back(*id);
  }
  if (ends.size() == 1) json["eos_token_id"] = ends.front();
  if (ends.size() > 1) json["eos_token_id"] = ends;
  if (v.pad) json["pad_token_id"] = *v.pad;
  return dump_json(json, 2) + "\n";
}

const NamedPreTokenizer& pre_tokenizer(const GgufFile& file) {
  const std::string_view name = file.has(kPre) ? file.text(kPre) : "default";
  const NamedPreTokenizer* pre = find_pre_tokenizer(name);
  if (pre == nullptr) {
    file.wrong(kPre, str("is \"", printable(name), "\"; known are ", known_pre_tokenizers()));
  }
  return *pre;
}

}  // namespace

std::map<std::string, std::string> tokenizer_files(const GgufFile& file, int64_t vocab_size) {
  const std::string_view model = file.text(kModel);
  std::map<std::string, std::string> files;
  Vocabulary v;
  if (model == "gpt2") {
    const NamedPreTokenizer& pre = pre_tokenizer(file);
    v = read_vocabulary(file, vocab_size, pre.bos);
    files["tokenizer.json"] = tokenizer_json(file, v, pre);
  } else if (model == "llama") {
    v = read_vocabulary(file, vocab_size, true);
    files["tokenizer.model"] = sentencepiece_file(file, v);
  } else {
    file.wrong(kModel, str("is \"", printable(model), "\"; only gpt2 and llama are supported"));
  }
  files["tokenizer_config.json"] = tokenizer_config(file, v, model == "llama");
  files["generation_config.json"] = generation_config(file, v);
  return files;
}

}  // namespace mora
