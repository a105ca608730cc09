// Normalises, then cuts by the model's kind.
#include "text/sentencepiece_encoder.hpp"

#include "text/scratch_pool.hpp"
#include "text/sentencepiece_bpe.hpp"
#include "text/sentencepiece_model.hpp"
#include "text/sentencepiece_normalizer.hpp"
#include "text/sentencepiece_unigram.hpp"

namespace mora {
namespace {

class BpeEncoder final : public SentencePieceEncoder {
 public:
  BpeEncoder(const SentencePieceModel& model, const std::string& what)
      : normalizer_(model, what), bpe_(model) {}

  std::vector<int32_t> encode(std::string_view text, Position position) const override {
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 3);
    bpe_.encode(normalizer_.apply(text, position), normalizer_.user_defined(), *pool_.take(), ids);
    return ids;
  }

 private:
  SentencePieceNormalizer normalizer_;
  SentencePieceBpe bpe_;
  mutable ScratchPool<SentencePieceBpe::Scratch> pool_;
};

class UnigramEncoder final : public SentencePieceEncoder {
 public:
  UnigramEncoder(const SentencePieceModel& model, const std::string& what)
      : normalizer_(model, what), unigram_(model) {}

  std::vector<int32_t> encode(std::string_view text, Position position) const override {
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 3);
    unigram_.encode(normalizer_.apply(text, position), *pool_.take(), ids);
    return ids;
  }

 private:
  SentencePieceNormalizer normalizer_;
  SentencePieceUnigram unigram_;
  mutable ScratchPool<SentencePieceUnigram::Scratch> pool_;
};

}  // namespace

void check_character_maps(const SentencePieceModel& model, const std::string& what) {
  const CharacterMap forth(model.character_map, what), back(model.reverse_map, what);
}

std::unique_ptr<SentencePieceEncoder> make_sentencepiece_encoder(const SentencePieceModel& model,
                                                                 const std::string& what) {
  if (model.model_type == SentencePieceModel::kUnigram) {
    return std::make_unique<UnigramEncoder>(model, what);
  }
  if (model.model_type == SentencePieceModel::kBpe && SentencePieceBpe::can_encode(model)) {
    return std::make_unique<BpeEncoder>(model, what);
  }
  return nullptr;
}

}  // namespace mora
