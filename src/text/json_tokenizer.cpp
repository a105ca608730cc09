// A tokenizer.json put together: added tokens, normaliser, pre-tokenizer, model and decoder, in the
// order in which the reference (Hugging Face's `tokenizers`) applies them. Everything is read and
// checked when the file is; encoding only fails where a regular expression does.
#include <algorithm>

#include "mora/io/text.hpp"
#include "text/added_tokens.hpp"
#include "text/bpe_model.hpp"
#include "text/decoder.hpp"
#include "text/loaders.hpp"
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
        model_(json.at("model")),
        added_(all_added_tokens(json, settings), normalizer_, json) {
    check_keys(json, {"version", "truncation", "padding", "added_tokens", "normalizer",
                      "pre_tokenizer", "post_processor", "decoder", "model"});
    if (json.has("version") && json.at("version").string() != "1.0") {
      json.at("version").wrong_type("\"1.0\"");
    }
    bos_ = id_of(settings.bos);
    eos_ = id_of(settings.eos);
    read_post_processor(json);
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    return encode_at(text, Position::beginning);
  }

  std::vector<int32_t> encode_continuation(std::string_view text) const override {
    return encode_at(text, Position::continuation);
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
    if (const AddedToken* token = added_.find(id)) return token->content;
    const auto found = texts_.find(id);
    if (found == texts_.end()) fail(ErrorKind::data, "token ", id, " is not in the vocabulary");
    return std::string(found->second);
  }

 private:
  // Of tokenizer.json and of tokenizer_config.json, with the ids that the reference gives them: the
  // vocabulary's, or the next free one. A file that says otherwise would get other ids there.
  std::vector<AddedToken> all_added_tokens(const JsonView& json,
                                           const TokenizerSettings& settings) {
    for (const auto& [text, id] : model_.vocabulary()) {
      texts_.emplace(id, text);
      vocab_size_ = std::max(vocab_size_, id + 1);
    }
    std::vector<AddedToken> tokens = read_added_tokens(json);
    tokens.insert(tokens.end(), settings.added.begin(), settings.added.end());
    std::unordered_map<std::string, int32_t> given;
    auto next = static_cast<int32_t>(model_.vocabulary().size());
    for (const AddedToken& token : tokens) {
      if (token.content.empty()) continue;
      const auto in_model = model_.vocabulary().find(token.content);
      const auto earlier = given.find(token.content);
      const int32_t id = earlier != given.end()                  ? earlier->second
                         : in_model != model_.vocabulary().end() ? in_model->second
                                                                 : next++;
      if (id != token.id) {
        json.wrong(str("added token \"", printable(token.content), "\" has id ", token.id,
                       ", but id ", id, " follows from the vocabulary"));
      }
      given.emplace(token.content, id);
      vocab_size_ = std::max(vocab_size_, id + 1);
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
    const auto found = model_.vocabulary().find(*token.text);
    if (found != model_.vocabulary().end()) return found->second;
    fail(ErrorKind::data, printable(token.source, 4096), ": token \"", printable(*token.text),
         "\" is not in the tokenizer's vocabulary");
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

  std::vector<int32_t> encode_at(std::string_view text, Position position) const {
    const auto scratch = pool_.take();
    const EncodeContext context{scratch->regex, position};
    Pieces pieces = is_valid_utf8(text) ? added_.split(text, normalizer_, context)
                                        : added_.split(to_valid_utf8(text), normalizer_, context);
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
  AddedTokens added_;
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
