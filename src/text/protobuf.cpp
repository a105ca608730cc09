// Fields are (number << 3 | type) as a varint and a value. Groups, which the format gave up, are
// refused.
#include "text/protobuf.hpp"

#include <bit>

#include "mora/core/error.hpp"

namespace mora {
namespace {

void append_varint(std::string& to, uint64_t value) {
  for (; value >= 128; value >>= 7) to += static_cast<char>(value % 128 + 128);
  to += static_cast<char>(value);
}

void append_tag(std::string& to, uint32_t number, WireType type) {
  append_varint(to, static_cast<uint64_t>(number) << 3 | static_cast<uint32_t>(type));
}

uint64_t little_endian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

}  // namespace

std::optional<ProtobufField> ProtobufMessage::next() {
  constexpr std::string_view kCutOff = "the file ends within a number";
  if (at_ == bytes_.size()) return std::nullopt;
  const uint64_t tag = varint();
  if (tag >> 3 == 0 || tag >> 32 != 0) reject("a field without a valid number");
  ProtobufField field{static_cast<uint32_t>(tag >> 3), static_cast<WireType>(tag & 7), 0, {}, 0};
  switch (field.type) {
    case WireType::varint:
      field.value = varint();
      break;
    case WireType::fixed64:
      field.value = little_endian(take(8, kCutOff));
      break;
    case WireType::bytes:
      field.bytes = take(varint(), "a field longer than the file");
      break;
    case WireType::fixed32:
      field.value = little_endian(take(4, kCutOff));
      break;
    default:
      reject("a field of unknown type");
  }
  field.begin = begin_ + at_ - field.bytes.size();
  return field;
}

void ProtobufMessage::reject(std::string_view problem) const {
  fail(ErrorKind::data, what_, "; byte ", begin_ + at_, ": ", problem);
}

uint64_t ProtobufMessage::varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = static_cast<uint8_t>(take(1, "the file ends within a number").front());
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  reject("a number of more than ten bytes");
}

std::string_view ProtobufMessage::take(uint64_t size, std::string_view problem) {
  if (size > bytes_.size() - at_) reject(problem);
  const std::string_view taken = bytes_.substr(at_, size);
  at_ += size;
  return taken;
}

void append_number(std::string& to, uint32_t field, int64_t value) {
  append_tag(to, field, WireType::varint);
  append_varint(to, static_cast<uint64_t>(value));
}

void append_bytes(std::string& to, uint32_t field, std::string_view bytes) {
  append_tag(to, field, WireType::bytes);
  append_varint(to, bytes.size());
  to += bytes;
}

void append_float(std::string& to, uint32_t field, float value) {
  append_tag(to, field, WireType::fixed32);
  const auto bits = std::bit_cast<uint32_t>(value);
  for (int shift = 0; shift < 32; shift += 8) to += static_cast<char>(bits >> shift & 0xFF);
}

}  // namespace mora
