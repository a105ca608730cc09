// The SentencePiece tokenizer: the library loads a model and decodes; we encode, ten to a hundred
// times as fast and with the same ids, but for models that SentencePieceEncoder leaves to the
// library. The library's processor is immutable after loading, so encoding and decoding need no
// lock. Added tokens are found before either sees the text, as transformers does it.
#include <sentencepiece_processor.h>

#include <algorithm>

#include "mora/core/error.hpp"
#include "text/added_tokens.hpp"
#include "text/loaders.hpp"
#include "text/sentencepiece_encoder.hpp"
#include "text/sentencepiece_model.hpp"

namespace mora {
namespace {

// Stands in front of a continuation so that the library's dummy prefix goes to it and not to the
// text. A private-use character: no normalisation rule changes it or joins it to its neighbour, and
// no vocabulary has a piece in which it stands before other characters.
constexpr std::string_view kAnchor = "\uE000";

std::optional<int32_t> existing(int id) {
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

// The library does not look for them in a text.
std::vector<AddedToken> control_pieces(const SentencePieceModel& model, const std::string& source) {
  std::vector<AddedToken> tokens;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (model.pieces[id].type != PieceType::control) continue;
    tokens.push_back({.id = static_cast<int32_t>(id),
                      .content = model.pieces[id].text,
                      .special = true,
                      .source = source});
  }
  return tokens;
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(const std::string& bytes, const std::string& source,
                         const TokenizerSettings& settings)
      : adds_bos_(settings.add_bos.value_or(true)),
        adds_eos_(settings.add_eos.value_or(false)),
        behind_token_(settings.begins_anew ? Position::beginning : Position::continuation) {
    const SentencePieceModel model = read_sentencepiece_model(bytes, source);
    const std::string what = no_sentencepiece_model(source);
    check_character_maps(model, what);
    const auto status = processor_.LoadFromSerializedProto(bytes);
    if (!status.ok() || processor_.GetPieceSize() <= 0) {
      fail(ErrorKind::data, what, "; expected a tokenizer.model as spm_train writes it");
    }
    encoder_ = make_sentencepiece_encoder(model, what);
    const auto& beside = settings.added.empty() ? settings.listed : settings.added;
    added_ = make_added(beside);
    std::vector<AddedToken> tokens = control_pieces(model, source);
    tokens.insert(tokens.end(), beside.begin(), beside.end());
    formatted_ = make_added(tokens);
    vocab_size_ = std::max(processor_.GetPieceSize(), added_.end_id());
    bos_ = id_of(settings.bos, processor_.bos_id());
    eos_ = id_of(settings.eos, processor_.eos_id());
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

  // The library leaves a piece that it does not know as it is: an added token's text.
  std::string decode(std::span<const int32_t> tokens) const override {
    std::vector<std::string> pieces;
    for (const int32_t id : tokens) {
      if (id >= vocab_size_ || id == bos_ || id == eos_) continue;
      std::string text = piece(id);
      if (!added_.is_special(text)) pieces.push_back(std::move(text));
    }
    std::string text;
    check(processor_.Decode(pieces, &text));
    return text;
  }

  int32_t vocab_size() const override { return vocab_size_; }
  std::optional<int32_t> bos() const override { return bos_; }
  std::optional<int32_t> eos() const override { return eos_; }
  bool adds_bos() const override { return adds_bos_ && bos_; }
  bool adds_eos() const override { return adds_eos_ && eos_; }

  std::string piece(int32_t id) const override {
    if (id < 0 || id >= vocab_size_) {
      fail(ErrorKind::data, "token ", id, " is outside the tokenizer's vocabulary of ", vocab_size_,
           " pieces; model and tokenizer do not belong together");
    }
    const AddedToken* token = added_.find(id);
    return token != nullptr ? token->content : processor_.IdToPiece(id);
  }

 private:
  std::optional<int32_t> own_id(const std::string& text) const {
    const int id = processor_.PieceToId(text);
    return processor_.IdToPiece(id) == text ? existing(id) : std::nullopt;
  }

  AddedTokens make_added(const std::vector<AddedToken>& tokens) const {
    return {tokens,
            {static_cast<size_t>(processor_.GetPieceSize()),
             [this](const std::string& text) { return own_id(text); }},
            [](Piece&) {}};
  }

  // The one that a file of the tokenizer names, else the model's own. Old files name none as "".
  std::optional<int32_t> id_of(const SpecialToken& token, int own) const {
    if (!token.known || token.id || token.text == "") return existing(own);
    if (!token.text) return std::nullopt;
    if (const auto id = added_.id_of(*token.text)) return id;
    if (const auto id = own_id(*token.text)) return id;
    refuse_unknown(token);
  }

  std::vector<int32_t> encode_at(std::string_view text, Position position,
                                 const AddedTokens& tokens) const {
    if (tokens.empty()) return encode_part(text, position);
    std::vector<int32_t> ids;
    for (const Piece& piece : tokens.split(text, [](Piece&) {})) {
      if (piece.id) {
        ids.push_back(*piece.id);
        continue;
      }
      const auto part = encode_part(piece.text, piece.at_start ? position : behind_token_);
      ids.insert(ids.end(), part.begin(), part.end());
    }
    return ids;
  }

  std::vector<int32_t> encode_part(std::string_view text, Position position) const {
    if (encoder_) return encoder_->encode(text, position);
    if (position == Position::continuation) return library_continuation(text);
    std::vector<int> ids;
    check(processor_.Encode(text, &ids));
    return {ids.begin(), ids.end()};
  }

  std::vector<int32_t> library_continuation(std::string_view text) const {
    if (text.empty()) return {};
    std::string anchored(kAnchor);
    anchored += text;
    sentencepiece::ImmutableSentencePieceText result;
    check(processor_.Encode(anchored, result.mutable_proto()));
    std::vector<int32_t> ids;
    ids.reserve(result.pieces_size());
    for (const auto& p : result.pieces()) {
      // The second condition keeps an unknown piece that starts in the anchor, because runs of
      // unknown characters are one piece; the first keeps the bytes of one character, of which all
      // but the last span nothing.
      if (p.begin() >= kAnchor.size() || p.end() > kAnchor.size()) {
        ids.push_back(static_cast<int32_t>(p.id()));
      }
    }
    return ids;
  }

  static void check(const sentencepiece::util::Status& status) {
    ensure(status.ok(), "SentencePiece: ", status.ToString());
  }

  bool adds_bos_, adds_eos_;
  Position behind_token_;
  sentencepiece::SentencePieceProcessor processor_;
  std::unique_ptr<SentencePieceEncoder> encoder_;
  AddedTokens added_, formatted_;  // in any text; in formatted text
  int32_t vocab_size_ = 0;
  std::optional<int32_t> bos_, eos_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const std::string& model,
                                                        const std::string& source,
                                                        const TokenizerSettings& settings) {
  return std::make_unique<SentencePieceTokenizer>(model, source, settings);
}

}  // namespace mora
