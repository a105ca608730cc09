// The wire format of protocol buffers: the fields of a message, and how fields are written.
//
// Invariant: whatever the bytes are, reading stays inside them and takes time linear in them; a
// length counts only where the bytes are there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mora {

enum class WireType : uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

struct ProtobufField {
  uint32_t number;
  WireType type;
  uint64_t value;          // of every type but bytes
  std::string_view bytes;  // of the type bytes: a text or a message
  size_t begin;            // where these bytes begin in the file

  bool is(uint32_t wanted, WireType of_type) const { return number == wanted && type == of_type; }
};

class ProtobufMessage {
 public:
  // The message stands at `begin` in the file. `what` is what errors begin with: the file and that
  // it is not what it should be. It must outlive the message.
  ProtobufMessage(std::string_view bytes, const std::string& what, size_t begin = 0)
      : bytes_(bytes), what_(what), begin_(begin) {}

  // The message that is a field of another.
  ProtobufMessage(const ProtobufField& field, const std::string& what)
      : ProtobufMessage(field.bytes, what, field.begin) {}

  // The next field, or nothing at the end. Error(data) where there is no field.
  std::optional<ProtobufField> next();

  // Error(data): `what`, the place that is reached, the problem.
  [[noreturn]] void reject(std::string_view problem) const;

 private:
  uint64_t varint();
  std::string_view take(uint64_t size, std::string_view problem);

  std::string_view bytes_;
  const std::string& what_;
  size_t begin_;
  size_t at_ = 0;
};

void append_number(std::string& to, uint32_t field, int64_t value);
void append_bytes(std::string& to, uint32_t field, std::string_view bytes);
void append_float(std::string& to, uint32_t field, float value);

}  // namespace mora
