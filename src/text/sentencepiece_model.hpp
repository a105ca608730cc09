// SentencePiece's model file (a protocol buffer), as far as a conversion needs it: the pieces and
// the settings that decide how text is cut.
//
// The sentencepiece library encodes and decodes; its interface neither tells a piece's type nor
// writes a model, hence these few fields of the wire format (sentencepiece_model.proto).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mora {

enum class PieceType : int32_t { normal = 1, unknown, control, user_defined, unused, byte };

struct VocabularyPiece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::normal;
};

struct SentencePieceModel {
  static constexpr int64_t kUnigram = 1, kBpe = 2;

  std::vector<VocabularyPiece> pieces;
  int64_t model_type = kUnigram;  // the defaults are the format's
  bool byte_fallback = false;
  int64_t unk_id = 0, bos_id = 1, eos_id = 2, pad_id = -1;
  bool space_as_suffix = false;
  bool has_character_map = false;  // a normalisation other than the identity
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

// Error(data) naming the source if the bytes are no such message.
SentencePieceModel read_sentencepiece_model(std::string_view bytes, std::string_view source);

// The message; without a character map.
std::string sentencepiece_model_bytes(const SentencePieceModel& model);

}  // namespace mora
