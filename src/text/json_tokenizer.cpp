// A tokenizer.json put together: added tokens, normaliser, pre-tokenizer, model and decoder, in the
// order in which the reference (Hugging Face's `tokenizers`) applies them. Everything is read and
// checked when the file is; encoding only fails where a regular expression does.
#include <algorithm>
#include <unordered_set>

#include "mora/io/text.hpp"
#include "text/added_tokens.hpp"
#include "text/bpe_model.hpp"
#include "text/decoder.hpp"
#include "text/loaders.hpp"
#include "text/normalizer.hpp"
#include "text/post_processor.hpp"
#include "text/pre_tokenizer.hpp"
#include "text/scratch_pool.hpp"
#include "text/unicode.hpp"

namespace mora {
namespace {

constexpr size_t kMaxFileBytes = size_t{256} << 20;

struct JsonScratch {
  RegexScratch regex;
  PieceCache cache;
};

template <class Component>
Component component_of(const JsonView& json, std::string_view key) {
  return json.has(key) ? Component(json.at(key)) : Component();
}

std::vector<AddedToken> read_added_tokens(const JsonView& json) {
  std::vector<AddedToken> tokens;
  std::unordered_set<int32_t> ids;
  std::unordered_set<std::string> contents;
  if (!json.has("added_tokens")) return tokens;
  for (const JsonView& item : json.at("added_tokens").items()) {
    const AddedToken token = read_added_token(item);
    if (!ids.insert(token.id).second) item.wrong(str("id ", token.id, " is there twice"));
    if (!contents.insert(token.content).second) {
      item.wrong(str("\"", printable(token.content), "\" is there twice"));
    }
    tokens.push_back(token);
  }
  return tokens;
}

class JsonTokenizer final : public Tokenizer {
 public:
  JsonTokenizer(const JsonView& json, const TokenizerSettings& settings)
      : normalizer_(component_of<Normalizer>(json, "normalizer")),
        pre_tokenizer_(component_of<PreTokenizer>(json, "pre_tokenizer")),
        decoder_(component_of<Decoder>(json, "decoder")),
        model_(json.at("model")) {
    check_keys(json, {"version", "truncation", "padding", "added_tokens", "normalizer",
                      "pre_tokenizer", "post_processor", "decoder", "model"});
    if (json.has("version") && json.at("version").string() != "1.0") {
      json.at("version").wrong_type("\"1.0\"");
    }
    const std::vector<AddedToken> tokens = all_added_tokens(json, settings);
    added_ = make_added(tokens);
    for (const auto& [text, id] : model_.vocabulary()) {
      texts_.emplace(id, text);
      vocab_size_ = std::max(vocab_size_, id + 1);
    }
    vocab_size_ = std::max(vocab_size_, added_.end_id());
    bos_ = id_of(settings.bos);
    eos_ = id_of(settings.eos);
    read_post_processor(json);
    formatted_ = make_added(with_ends(tokens, json));
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    return encode_at(text, Position::beginning, added_);
  }

  std::vector<int32_t> encode_continuation(std::string_view text) const override {
    return encode_at(text, Position::continuation, added_);
  }

  std::vector<int32_t> encode_formatted(std::string_view text) const override {
    return encode_at(text, Position::beginning, formatted_);
  }

  std::string decode(std::span<const int32_t> tokens) const override {
    std::vector<std::string> forms;
    for (const int32_t id : tokens) {
      if (id >= vocab_size_) continue;
      check_id(id);
      if (id == bos_ || id == eos_) continue;
      if (added_.find(id) != nullptr) {
        const std::string& form = added_.decoded_form(id);
        if (!added_.is_special(form)) forms.push_back(form);
      } else if (const auto found = texts_.find(id); found != texts_.end()) {
        if (!added_.is_special(std::string(found->second))) forms.emplace_back(found->second);
      }
    }
    const auto scratch = pool_.take();
    return decoder_.decode(std::move(forms), scratch->regex);
  }

  int32_t vocab_size() const override { return vocab_size_; }
  std::optional<int32_t> bos() const override { return bos_; }
  std::optional<int32_t> eos() const override { return eos_; }
  bool adds_bos() const override { return adds_bos_; }
  bool adds_eos() const override { return adds_eos_; }

  std::string piece(int32_t id) const override {
    check_id(id);
    if (auto text = text_of(id)) return *std::move(text);
    fail(ErrorKind::data, "token ", id, " is not in the vocabulary");
  }

 private:
  std::optional<std::string> text_of(int32_t id) const {
    if (const AddedToken* token = added_.find(id)) return token->content;
    const auto found = texts_.find(id);
    return found == texts_.end() ? std::nullopt : std::optional(std::string(found->second));
  }

  std::optional<int32_t> own_id(const std::string& text) const {
    const auto found = model_.vocabulary().find(text);
    return found == model_.vocabulary().end() ? std::nullopt : std::optional(found->second);
  }

  AddedTokens make_added(const std::vector<AddedToken>& tokens) const {
    RegexScratch scratch;
    return {tokens,
            {model_.vocabulary().size(), [this](const std::string& text) { return own_id(text); }},
            [&](Piece& piece) {
              normalizer_.apply(piece, {scratch, Position::beginning});
            }};
  }

  // Of tokenizer.json and of the files beside it, of which added_tokens.json only adds to it.
  static std::vector<AddedToken> all_added_tokens(const JsonView& json,
                                                  const TokenizerSettings& settings) {
    std::vector<AddedToken> tokens = read_added_tokens(json);
    tokens.insert(tokens.end(), settings.added.begin(), settings.added.end());
    std::unordered_set<std::string> known;
    for (const AddedToken& token : tokens) known.insert(token.content);
    for (const AddedToken& token : settings.listed) {
      if (!known.contains(token.content)) tokens.push_back(token);
    }
    return tokens;
  }

  // And BOS and EOS, where their texts by themselves are other tokens.
  std::vector<AddedToken> with_ends(std::vector<AddedToken> tokens, const JsonView& json) const {
    for (const std::optional<int32_t>& id : {bos_, eos_}) {
      const auto text = id ? text_of(*id) : std::nullopt;
      if (!text || text->empty() || encode(*text) == std::vector<int32_t>{*id}) continue;
      tokens.push_back({.id = *id, .content = *text, .special = true, .source = json.place()});
    }
    return tokens;
  }

  std::optional<int32_t> id_of(const SpecialToken& token) const {
    if (token.id) {
      if (*token.id >= vocab_size_) {
        fail(ErrorKind::data, printable(token.source, 4096), ": token ", *token.id,
             " is outside the tokenizer's vocabulary of ", vocab_size_, " pieces");
      }
      return token.id;
    }
    if (!token.text) return std::nullopt;
    if (const auto id = added_.id_of(*token.text)) return id;
    if (const auto id = own_id(*token.text)) return id;
    refuse_unknown(token);
  }

  // The template says whether BOS and EOS are added, and which they are where no other file does.
  void read_post_processor(const JsonView& json) {
    const auto processor = component_of<PostProcessor>(json, "post_processor");
    const auto meets = [&](const std::vector<int32_t>& ids, std::optional<int32_t>& special) {
      if (ids.empty()) return false;
      if (!special && ids.size() == 1) special = ids[0];
      if (ids != std::vector<int32_t>{special.value_or(-1)}) {
        json.at("post_processor").wrong("adds tokens other than one BOS and one EOS");
      }
      check_id(*special);
      return true;
    };
    adds_bos_ = meets(processor.before(), bos_);
    adds_eos_ = meets(processor.after(), eos_);
  }

  void check_id(int32_t id) const {
    if (id < 0 || id >= vocab_size_) {
      fail(ErrorKind::data, "token ", id, " is outside the tokenizer's vocabulary of ", vocab_size_,
           " pieces; model and tokenizer do not belong together");
    }
  }

  std::vector<int32_t> encode_at(std::string_view text, Position position,
                                 const AddedTokens& tokens) const {
    const auto scratch = pool_.take();
    const EncodeContext context{scratch->regex, position};
    Pieces pieces = tokens.split(text, [&](Piece& piece) { normalizer_.apply(piece, context); });
    pre_tokenizer_.apply(pieces, context);
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 3);
    for (const Piece& piece : pieces) {
      if (piece.id) {
        ids.push_back(*piece.id);
      } else {
        model_.encode(piece.text, scratch->cache, ids);
      }
    }
    return ids;
  }

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Decoder decoder_;
  BpeModel model_;
  int32_t vocab_size_ = 0;
  std::unordered_map<int32_t, std::string_view> texts_;  // of the model's vocabulary
  AddedTokens added_, formatted_;                        // in any text; in formatted text
  std::optional<int32_t> bos_, eos_;
  bool adds_bos_ = false, adds_eos_ = false;
  mutable ScratchPool<JsonScratch> pool_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_json_tokenizer(const std::string& text, const std::string& source,
                                               const TokenizerSettings& settings) {
  const Json json = parse_json(text, source, {.max_bytes = kMaxFileBytes});
  return std::make_unique<JsonTokenizer>(JsonView(json, source), settings);
}

}  // namespace mora
