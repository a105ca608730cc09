// A field that is there twice counts as the protocol buffers' library counts it: the last number or
// text, and messages merged. A field of another wire type than the format's is an unknown field.
#include "text/sentencepiece_model.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "mora/core/error.hpp"
#include "mora/io/text.hpp"
#include "text/protobuf.hpp"

namespace mora {

namespace {

constexpr size_t kMaxPieceBytes = 4096;
constexpr size_t kMaxPieces = 4'000'000;
constexpr size_t kMaxNested = 64;  // kResultSize of the library's PrefixMatcher

// The numbers of the fields that are used.
namespace model_field {
constexpr uint32_t kPieces = 1, kTrainer = 2, kNormalizer = 3, kDenormalizer = 5;
}
namespace piece_field {
constexpr uint32_t kText = 1, kScore = 2, kType = 3;
}
namespace trainer_field {
constexpr uint32_t kModelType = 3, kVocabSize = 4, kSpaceAsSuffix = 24, kByteFallback = 35,
                   kUnkId = 40, kBosId = 41, kEosId = 42, kPadId = 43, kUnkPiece = 45,
                   kBosPiece = 46, kEosPiece = 47, kPadPiece = 48;
}
namespace normalizer_field {
constexpr uint32_t kName = 1, kCharacterMap = 2, kDummyPrefix = 3, kRemoveExtra = 4, kEscape = 5;
}

VocabularyPiece read_piece(ProtobufMessage message) {
  VocabularyPiece piece;
  while (const auto field = message.next()) {
    if (field->is(piece_field::kText, WireType::bytes)) {
      if (field->bytes.size() > kMaxPieceBytes) {
        message.reject(str("a piece of ", field->bytes.size(), " bytes; at most ", kMaxPieceBytes,
                           " are allowed"));
      }
      piece.text = field->bytes;
    } else if (field->is(piece_field::kScore, WireType::fixed32)) {
      piece.score = std::bit_cast<float>(static_cast<uint32_t>(field->value));
      if (!std::isfinite(piece.score)) message.reject("a score that is not finite");
    } else if (field->is(piece_field::kType, WireType::varint)) {
      if (field->value < 1 || field->value > 6) {
        message.reject(str("piece type ", field->value, "; expected 1 to 6"));
      }
      piece.type = static_cast<PieceType>(field->value);
    }
  }
  if (piece.text.empty() || !is_valid_utf8(piece.text)) {
    message.reject("a piece that is empty or not UTF-8");
  }
  return piece;
}

void read_trainer(ProtobufMessage message, SentencePieceModel& model) {
  while (const auto field = message.next()) {
    if (field->type != WireType::varint) continue;
    const auto value = static_cast<int64_t>(field->value);
    switch (field->number) {
      case trainer_field::kModelType:
        if (value < SentencePieceModel::kUnigram || value > SentencePieceModel::kCharacter) {
          message.reject(str("model type ", field->value, "; expected 1 to 4"));
        }
        model.model_type = value;
        break;
      case trainer_field::kSpaceAsSuffix:
        model.space_as_suffix = value != 0;
        break;
      case trainer_field::kByteFallback:
        model.byte_fallback = value != 0;
        break;
      case trainer_field::kUnkId:
        model.unk_id = value;
        break;
      case trainer_field::kBosId:
        model.bos_id = value;
        break;
      case trainer_field::kEosId:
        model.eos_id = value;
        break;
      case trainer_field::kPadId:
        model.pad_id = value;
        break;
      default:
        break;
    }
  }
}

void read_normalizer(ProtobufMessage message, SentencePieceModel& model) {
  while (const auto field = message.next()) {
    if (field->is(normalizer_field::kCharacterMap, WireType::bytes)) {
      model.character_map = field->bytes;
    }
    if (field->type != WireType::varint) continue;
    if (field->number == normalizer_field::kDummyPrefix) model.add_dummy_prefix = field->value != 0;
    if (field->number == normalizer_field::kEscape) model.escape_whitespaces = field->value != 0;
    if (field->number == normalizer_field::kRemoveExtra) {
      model.remove_extra_whitespaces = field->value != 0;
    }
  }
}

void read_denormalizer(ProtobufMessage message, SentencePieceModel& model) {
  while (const auto field = message.next()) {
    if (field->is(normalizer_field::kCharacterMap, WireType::bytes)) {
      model.reverse_map = field->bytes;
    }
  }
}

// The library keeps its pieces in tries of texts that end with NUL.
void check_texts(const SentencePieceModel& model, const ProtobufMessage& message) {
  std::vector<std::string_view> own;
  for (const VocabularyPiece& piece : model.pieces) {
    const bool is_own = piece.type == PieceType::user_defined;
    if (is_own) own.push_back(piece.text);
    if ((is_own || model.model_type != SentencePieceModel::kBpe) &&
        piece.text.find('\0') != std::string::npos) {
      message.reject("a piece with a NUL character");
    }
  }
  std::sort(own.begin(), own.end());
  std::vector<std::string_view> nested;  // each the beginning of the next
  for (const std::string_view text : own) {
    while (!nested.empty() && !text.starts_with(nested.back())) nested.pop_back();
    nested.push_back(text);
    if (nested.size() > kMaxNested) {
      message.reject(str("more than ", kMaxNested, " user-defined pieces that begin each other"));
    }
  }
}

std::string piece_bytes(const VocabularyPiece& piece) {
  std::string bytes;
  append_bytes(bytes, piece_field::kText, piece.text);
  append_float(bytes, piece_field::kScore, piece.score);
  append_number(bytes, piece_field::kType, static_cast<int64_t>(piece.type));
  return bytes;
}

std::string trainer_bytes(const SentencePieceModel& model) {
  std::string bytes;
  append_number(bytes, trainer_field::kModelType, model.model_type);
  append_number(bytes, trainer_field::kVocabSize, static_cast<int64_t>(model.pieces.size()));
  append_number(bytes, trainer_field::kByteFallback, model.byte_fallback ? 1 : 0);
  if (model.space_as_suffix) append_number(bytes, trainer_field::kSpaceAsSuffix, 1);
  auto add = [&](uint32_t id_field, uint32_t piece_field, int64_t id) {
    append_number(bytes, id_field, id);
    if (id >= 0) append_bytes(bytes, piece_field, model.pieces.at(static_cast<size_t>(id)).text);
  };
  add(trainer_field::kUnkId, trainer_field::kUnkPiece, model.unk_id);
  add(trainer_field::kBosId, trainer_field::kBosPiece, model.bos_id);
  add(trainer_field::kEosId, trainer_field::kEosPiece, model.eos_id);
  add(trainer_field::kPadId, trainer_field::kPadPiece, model.pad_id);
  return bytes;
}

std::string normalizer_bytes(const SentencePieceModel& model) {
  std::string bytes;
  append_bytes(bytes, normalizer_field::kName,
               model.character_map.empty() ? "identity" : "user_defined");
  if (!model.character_map.empty()) {
    append_bytes(bytes, normalizer_field::kCharacterMap, model.character_map);
  }
  append_number(bytes, normalizer_field::kDummyPrefix, model.add_dummy_prefix ? 1 : 0);
  append_number(bytes, normalizer_field::kRemoveExtra, model.remove_extra_whitespaces ? 1 : 0);
  append_number(bytes, normalizer_field::kEscape, model.escape_whitespaces ? 1 : 0);
  return bytes;
}

}  // namespace

std::string no_sentencepiece_model(std::string_view source) {
  return str(printable(source, 4096), ": not a SentencePiece model");
}

SentencePieceModel read_sentencepiece_model(std::string_view bytes, std::string_view source) {
  const std::string what = no_sentencepiece_model(source);
  SentencePieceModel model;
  ProtobufMessage message(bytes, what);
  while (const auto field = message.next()) {
    if (field->type != WireType::bytes) continue;
    const ProtobufMessage inner(*field, what);
    if (field->number == model_field::kPieces) model.pieces.push_back(read_piece(inner));
    if (field->number == model_field::kTrainer) read_trainer(inner, model);
    if (field->number == model_field::kNormalizer) read_normalizer(inner, model);
    if (field->number == model_field::kDenormalizer) read_denormalizer(inner, model);
    if (model.pieces.size() > kMaxPieces) message.reject(str("more than ", kMaxPieces, " pieces"));
  }
  if (model.pieces.empty()) message.reject("no pieces");
  check_texts(model, message);
  return model;
}

std::string sentencepiece_model_bytes(const SentencePieceModel& model) {
  std::string bytes;
  for (const VocabularyPiece& piece : model.pieces) {
    append_bytes(bytes, model_field::kPieces, piece_bytes(piece));
  }
  append_bytes(bytes, model_field::kTrainer, trainer_bytes(model));
  append_bytes(bytes, model_field::kNormalizer, normalizer_bytes(model));
  if (!model.reverse_map.empty()) {
    std::string reverse;
    append_bytes(reverse, normalizer_field::kCharacterMap, model.reverse_map);
    append_bytes(bytes, model_field::kDenormalizer, reverse);
  }
  return bytes;
}

}  // namespace mora
