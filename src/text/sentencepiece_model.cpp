// The wire format: fields of (number, type), varints, and lengths that must lie within what is
// left. Fields of other numbers are stepped over.
#include "text/sentencepiece_model.hpp"

#include <cstring>
#include <functional>

#include "mora/core/error.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace {

enum class Wire : uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

struct Field {
  uint32_t number;
  Wire wire;
  uint64_t varint;         // a varint's value
  std::string_view bytes;  // of any other type
};

// The numbers of the fields that are used.
namespace model_field {
constexpr uint32_t kPieces = 1, kTrainer = 2, kNormalizer = 3;
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

class Message {
 public:
  Message(std::string_view bytes, std::string_view source) : bytes_(bytes), source_(source) {}

  void each(const std::function<void(const Field&)>& use) {
    while (at_ < bytes_.size()) use(next());
  }

  [[noreturn]] void reject(std::string_view problem) const {
    fail(ErrorKind::data, printable(source_), ": no SentencePiece model: ", problem);
  }

 private:
  Field next() {
    const uint64_t tag = varint();
    Field field{static_cast<uint32_t>(tag >> 3), static_cast<Wire>(tag & 7), 0, {}};
    if (field.number == 0 || tag >> 32 != 0) reject("a field without a number");
    switch (field.wire) {
      case Wire::varint:
        field.varint = varint();
        break;
      case Wire::fixed64:
        field.bytes = take(8);
        break;
      case Wire::bytes:
        field.bytes = take(varint());
        break;
      case Wire::fixed32:
        field.bytes = take(4);
        break;
      default:
        reject("a field of an unknown type");
    }
    return field;
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1).front());
      value |= static_cast<uint64_t>(byte & 127u) << shift;
      if (byte < 128) return value;
    }
    reject("a number that does not end");
  }

  std::string_view take(uint64_t size) {
    if (size > bytes_.size() - at_) reject("it is truncated or damaged");
    const std::string_view piece = bytes_.substr(at_, size);
    at_ += size;
    return piece;
  }

  std::string_view bytes_, source_;
  size_t at_ = 0;
};

VocabularyPiece read_piece(const Field& field, std::string_view source) {
  Message message(field.bytes, source);
  if (field.wire != Wire::bytes) message.reject("a piece of the wrong type");
  VocabularyPiece piece;
  message.each([&](const Field& f) {
    if (f.number == piece_field::kText && f.wire == Wire::bytes) piece.text = f.bytes;
    if (f.number == piece_field::kScore && f.wire == Wire::fixed32) {
      std::memcpy(&piece.score, f.bytes.data(), sizeof piece.score);
    }
    if (f.number == piece_field::kType && f.wire == Wire::varint) {
      if (f.varint < 1 || f.varint > 6) message.reject("a piece of an unknown kind");
      piece.type = static_cast<PieceType>(f.varint);
    }
  });
  if (piece.text.empty() || !is_valid_utf8(piece.text)) {
    message.reject("a piece that is empty or not UTF-8");
  }
  return piece;
}

void read_trainer(std::string_view bytes, std::string_view source, SentencePieceModel& model) {
  Message(bytes, source).each([&](const Field& f) {
    if (f.wire != Wire::varint) return;
    const auto value = static_cast<int64_t>(f.varint);
    if (f.number == trainer_field::kModelType) model.model_type = value;
    if (f.number == trainer_field::kSpaceAsSuffix) model.space_as_suffix = value != 0;
    if (f.number == trainer_field::kByteFallback) model.byte_fallback = value != 0;
    if (f.number == trainer_field::kUnkId) model.unk_id = value;
    if (f.number == trainer_field::kBosId) model.bos_id = value;
    if (f.number == trainer_field::kEosId) model.eos_id = value;
    if (f.number == trainer_field::kPadId) model.pad_id = value;
  });
}

void read_normalizer(std::string_view bytes, std::string_view source, SentencePieceModel& model) {
  Message(bytes, source).each([&](const Field& f) {
    if (f.number == normalizer_field::kCharacterMap) model.has_character_map = !f.bytes.empty();
    if (f.wire != Wire::varint) return;
    if (f.number == normalizer_field::kDummyPrefix) model.add_dummy_prefix = f.varint != 0;
    if (f.number == normalizer_field::kRemoveExtra) model.remove_extra_whitespaces = f.varint != 0;
    if (f.number == normalizer_field::kEscape) model.escape_whitespaces = f.varint != 0;
  });
}

void append_varint(std::string& to, uint64_t value) {
  for (; value >= 128; value >>= 7) to += static_cast<char>(value % 128 + 128);
  to += static_cast<char>(value);
}

void append_tag(std::string& to, uint32_t number, Wire wire) {
  append_varint(to, number << 3 | static_cast<uint32_t>(wire));
}

void append_number(std::string& to, uint32_t field, int64_t value) {
  append_tag(to, field, Wire::varint);
  append_varint(to, static_cast<uint64_t>(value));
}

void append_bytes(std::string& to, uint32_t field, std::string_view bytes) {
  append_tag(to, field, Wire::bytes);
  append_varint(to, bytes.size());
  to += bytes;
}

std::string piece_bytes(const VocabularyPiece& piece) {
  std::string bytes;
  append_bytes(bytes, piece_field::kText, piece.text);
  append_tag(bytes, piece_field::kScore, Wire::fixed32);
  bytes.append(reinterpret_cast<const char*>(&piece.score), sizeof piece.score);
  append_number(bytes, piece_field::kType, static_cast<int64_t>(piece.type));
  return bytes;
}

std::string trainer_bytes(const SentencePieceModel& model) {
  std::string bytes;
  append_number(bytes, trainer_field::kModelType, model.model_type);
  append_number(bytes, trainer_field::kVocabSize, static_cast<int64_t>(model.pieces.size()));
  append_number(bytes, trainer_field::kByteFallback, model.byte_fallback ? 1 : 0);
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

}  // namespace

SentencePieceModel read_sentencepiece_model(std::string_view bytes, std::string_view source) {
  SentencePieceModel model;
  Message message(bytes, source);
  message.each([&](const Field& f) {
    if (f.number == model_field::kPieces) model.pieces.push_back(read_piece(f, source));
    if (f.number == model_field::kTrainer) read_trainer(f.bytes, source, model);
    if (f.number == model_field::kNormalizer) read_normalizer(f.bytes, source, model);
  });
  if (model.pieces.empty()) message.reject("it has no pieces");
  return model;
}

std::string sentencepiece_model_bytes(const SentencePieceModel& model) {
  std::string bytes, normalizer;
  for (const VocabularyPiece& piece : model.pieces) {
    append_bytes(bytes, model_field::kPieces, piece_bytes(piece));
  }
  append_bytes(bytes, model_field::kTrainer, trainer_bytes(model));
  append_bytes(normalizer, normalizer_field::kName, "identity");
  append_number(normalizer, normalizer_field::kDummyPrefix, model.add_dummy_prefix ? 1 : 0);
  append_number(normalizer, normalizer_field::kRemoveExtra, model.remove_extra_whitespaces ? 1 : 0);
  append_number(normalizer, normalizer_field::kEscape, model.escape_whitespaces ? 1 : 0);
  append_bytes(bytes, model_field::kNormalizer, normalizer);
  return bytes;
}

}  // namespace mora
