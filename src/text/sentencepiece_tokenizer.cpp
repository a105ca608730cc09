// The SentencePiece tokenizer: the library loads a model and decodes; we encode, ten to a hundred
// times as fast and with the same ids, but for models that SentencePieceEncoder leaves to the
// library. The library's processor is immutable after loading, so encoding and decoding need no
// lock.
#include <sentencepiece_processor.h>

#include "mora/core/error.hpp"
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

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(const std::string& bytes, const std::string& source,
                         const TokenizerSettings& settings)
      : adds_bos_(settings.add_bos.value_or(true)), adds_eos_(settings.add_eos.value_or(false)) {
    const SentencePieceModel model = read_sentencepiece_model(bytes, source);
    const std::string what = no_sentencepiece_model(source);
    check_character_maps(model, what);
    const auto status = processor_.LoadFromSerializedProto(bytes);
    if (!status.ok() || processor_.GetPieceSize() <= 0) {
      fail(ErrorKind::data, what, "; expected a tokenizer.model as spm_train writes it");
    }
    encoder_ = make_sentencepiece_encoder(model, what);
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    if (encoder_) return encoder_->encode(text, Position::beginning);
    std::vector<int> ids;
    check(processor_.Encode(text, &ids));
    return {ids.begin(), ids.end()};
  }

  std::vector<int32_t> encode_continuation(std::string_view text) const override {
    if (encoder_) return encoder_->encode(text, Position::continuation);
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

  std::string decode(std::span<const int32_t> tokens) const override {
    std::vector<int> known;
    for (const int32_t id : tokens) {
      if (id >= vocab_size()) continue;
      check_id(id);
      known.push_back(id);
    }
    std::string text;
    check(processor_.Decode(known, &text));
    return text;
  }

  int32_t vocab_size() const override { return processor_.GetPieceSize(); }
  std::optional<int32_t> bos() const override { return existing(processor_.bos_id()); }
  std::optional<int32_t> eos() const override { return existing(processor_.eos_id()); }
  bool adds_bos() const override { return adds_bos_ && bos(); }
  bool adds_eos() const override { return adds_eos_ && eos(); }

  std::string piece(int32_t id) const override {
    check_id(id);
    return processor_.IdToPiece(id);
  }

 private:
  void check_id(int32_t id) const {
    if (id < 0 || id >= vocab_size()) {
      fail(ErrorKind::data, "token ", id, " is outside the tokenizer's vocabulary of ",
           vocab_size(), " pieces; model and tokenizer do not belong together");
    }
  }

  static void check(const sentencepiece::util::Status& status) {
    ensure(status.ok(), "SentencePiece: ", status.ToString());
  }

  bool adds_bos_, adds_eos_;
  sentencepiece::SentencePieceProcessor processor_;
  std::unique_ptr<SentencePieceEncoder> encoder_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const std::string& model,
                                                        const std::string& source,
                                                        const TokenizerSettings& settings) {
  return std::make_unique<SentencePieceTokenizer>(model, source, settings);
}

}  // namespace mora
