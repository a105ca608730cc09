// The fields of sentencepiece_model.proto that are checked: ModelProto.pieces (1) with piece (1),
// score (2) and type (3); ModelProto.normalizer_spec (3) and denormalizer_spec (5) with
// precompiled_charsmap (2). The map's layout is that of Darts-clone, which the library embeds.
#include "text/sentencepiece_check.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>

#include "mora/core/error.hpp"

namespace mora {
namespace {

constexpr size_t kMaxPieceBytes = 4096;
constexpr size_t kMaxPieces = 4'000'000;

struct Field {
  uint32_t number;
  uint32_t wire_type;
  uint64_t value;          // of a number
  std::string_view bytes;  // of a string or message
};

// The fields of one message, which stands at `begin` in the file.
class Message {
 public:
  Message(std::string_view bytes, size_t begin, const std::string& source)
      : bytes_(bytes), begin_(begin), source_(source) {}

  [[noreturn]] void reject(std::string_view problem) const {
    fail(ErrorKind::data, source_, ": not a SentencePiece model; byte ", begin_ + at_, ": ",
         problem);
  }

  size_t position() const { return begin_ + at_; }

  std::optional<Field> next() {
    if (at_ == bytes_.size()) return std::nullopt;
    const uint64_t tag = varint();
    Field field{static_cast<uint32_t>(tag >> 3), static_cast<uint32_t>(tag & 7), 0, {}};
    if (tag >> 3 == 0 || tag >> 32 != 0) reject("a field without a valid number");
    switch (field.wire_type) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 2: {
        const uint64_t length = varint();
        if (length > bytes_.size() - at_) reject("a field longer than the file");
        field.bytes = bytes_.substr(at_, length);
        at_ += length;
        break;
      }
      case 5:
        field.value = fixed(4);
        break;
      default:
        reject("a field of unknown type");
    }
    return field;
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) reject("the file ends within a number");
      const auto byte = static_cast<uint8_t>(bytes_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    reject("a number of more than ten bytes");
  }

  uint64_t fixed(size_t count) {
    if (bytes_.size() - at_ < count) reject("the file ends within a number");
    uint64_t value = 0;
    for (size_t i = 0; i < count; ++i) {
      value |= static_cast<uint64_t>(static_cast<uint8_t>(bytes_[at_ + i])) << (8 * i);
    }
    at_ += count;
    return value;
  }

  std::string_view bytes_;
  size_t begin_;
  size_t at_ = 0;
  const std::string& source_;
};

void check_piece(Message message) {
  while (const auto field = message.next()) {
    if (field->number == 1 && field->bytes.size() > kMaxPieceBytes) {
      message.reject(str("a piece of ", field->bytes.size(), " bytes; at most ", kMaxPieceBytes,
                         " are allowed"));
    }
    if (field->number == 2) {
      const auto bits = static_cast<uint32_t>(field->value);
      float score = 0;
      std::memcpy(&score, &bits, sizeof score);
      if (!std::isfinite(score)) message.reject("a score that is not finite");
    }
    if (field->number == 3 && (field->value < 1 || field->value > 6)) {
      message.reject(str("piece type ", field->value, "; expected 1 to 6"));
    }
  }
}

// A 32-bit size of the trie, the trie's units of 32 bits, and texts that end with NUL.
void check_character_map(std::string_view map, const Message& message) {
  if (map.empty()) return;
  const auto unit = [&](size_t i) {
    uint32_t value = 0;
    std::memcpy(&value, map.data() + 4 * i, 4);
    return value;
  };
  if (map.size() < 4 || unit(0) > map.size() - 4 || unit(0) % 4 != 0) {
    message.reject("a character map whose trie is larger than the map");
  }
  const size_t units = unit(0) / 4;
  const std::string_view texts = map.substr(4 + unit(0));
  if (units == 0 || texts.empty() || texts.back() != '\0') {
    message.reject("a character map without a trie or without texts");
  }
  for (size_t i = 0; i < units; ++i) {
    const uint32_t value = unit(1 + i);
    if (value >> 31 != 0) {  // a leaf: where its text begins
      if ((value & 0x7FFFFFFF) >= texts.size()) {
        message.reject("a character map with a text outside the map");
      }
      continue;
    }
    const size_t offset = static_cast<size_t>(value >> 10) << ((value & 1u << 9) >> 6);
    if (((i ^ offset) | 0xFF) >= units) {
      message.reject("a character map whose trie leads out of itself");
    }
  }
}

}  // namespace

void check_sentencepiece_model(std::string_view bytes, const std::string& source) {
  Message model(bytes, 0, source);
  size_t pieces = 0;
  while (const auto field = model.next()) {
    const size_t begin = model.position() - field->bytes.size();
    if (field->wire_type != 2) continue;
    if (field->number == 1) {
      if (++pieces > kMaxPieces) model.reject(str("more than ", kMaxPieces, " pieces"));
      check_piece(Message(field->bytes, begin, source));
    } else if (field->number == 3 || field->number == 5) {
      Message spec(field->bytes, begin, source);
      while (const auto inner = spec.next()) {
        if (inner->number == 2) check_character_map(inner->bytes, spec);
      }
    }
  }
  if (pieces == 0) model.reject("no pieces");
}

}  // namespace mora
