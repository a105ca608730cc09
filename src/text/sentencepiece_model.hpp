// SentencePiece's model file (a protocol buffer): the pieces and the settings that decide how text
// is cut (sentencepiece_model.proto).
//
// Invariant: what read_sentencepiece_model() returns is safe to give to the sentencepiece library,
// which checks little of a file itself; only the character maps have a check of their own.
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
  static constexpr int64_t kUnigram = 1, kBpe = 2, kWord = 3, kCharacter = 4;

  std::vector<VocabularyPiece> pieces;
  int64_t model_type = kUnigram;  // the defaults are the format's
  bool byte_fallback = false;
  int64_t unk_id = 0, bos_id = 1, eos_id = 2, pad_id = -1;
  bool space_as_suffix = false;
  std::string character_map;  // normalisation of text; empty: the identity
  std::string reverse_map;    // the same of decoded text
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

// What errors about this file begin with.
std::string no_sentencepiece_model(std::string_view source);

// Error(data), naming source, byte and problem, unless the bytes are a protocol buffer in which
// pieces are UTF-8 of at most 4096 bytes, scores are finite and types are known, and at most 64
// user-defined pieces begin each other (the library has room for no more). Unknown fields are
// stepped over, as the format wants it.
SentencePieceModel read_sentencepiece_model(std::string_view bytes, std::string_view source);

std::string sentencepiece_model_bytes(const SentencePieceModel& model);

}  // namespace mora
