// The parts of a GGUF header as they are read from a span of bytes: shared by the sources of this
// module only.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "mora/io/gguf.hpp"

namespace mora {

inline constexpr uint64_t kGgufAlignment = 32;
inline constexpr size_t kMaxGgufName = 63;    // bytes of a tensor's name
inline constexpr size_t kMaxGgufKey = 65535;  // bytes of a key
inline constexpr size_t kMaxGgufDims = 4;
inline constexpr const char* kGgufAlignmentKey = "general.alignment";

inline uint64_t round_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// Bytes of one element; 0 for strings and arrays, which have no fixed size.
size_t size_of(GgufType type);

// Reads forward through the bytes; what does not fit is Error(data) with file and place.
class GgufCursor {
 public:
  GgufCursor(std::span<const std::byte> bytes, std::string file)
      : bytes_(bytes), file_(std::move(file)) {}

  template <class T>
  T number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }
  std::string_view text(std::string_view what);  // a length and so many bytes
  std::span<const std::byte> take(uint64_t size, std::string_view what);
  // How many of something follow; each takes at least `least` bytes of what is left.
  uint64_t counted(uint64_t least, std::string_view what);

  uint64_t at() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }

  template <class... Parts>
  [[noreturn]] void reject(const Parts&... parts) const {
    fail(ErrorKind::data, file_, ": ", parts...);
  }

 private:
  std::span<const std::byte> bytes_;
  std::string file_;
  uint64_t at_ = 0;
};

}  // namespace mora
