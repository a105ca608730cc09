// GGUF files put together by hand, so that each part can be wrong on its own.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mora/io/gguf.hpp"

namespace mora::testing {

template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

inline std::string gguf_text(std::string_view text) {
  return raw(uint64_t{text.size()}) + std::string(text);
}

inline std::string gguf_value(std::string_view key, uint32_t type, const std::string& payload) {
  return gguf_text(key) + raw(type) + payload;
}

inline std::string gguf_value(std::string_view key, GgufType type, const std::string& payload) {
  return gguf_value(key, static_cast<uint32_t>(type), payload);
}

inline std::string gguf_array(std::string_view key, GgufType element, uint64_t count,
                              const std::string& payload) {
  return gguf_value(key, GgufType::array,
                    raw(static_cast<uint32_t>(element)) + raw(count) + payload);
}

// Dimensions in the file's order: the fastest first.
inline std::string gguf_tensor(std::string_view name, const std::vector<int64_t>& sizes,
                               uint32_t type, uint64_t offset) {
  std::string bytes = gguf_text(name) + raw(static_cast<uint32_t>(sizes.size()));
  for (int64_t size : sizes) bytes += raw(size);
  return bytes + raw(type) + raw(offset);
}

struct GgufBytes {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> tensor_count, value_count;  // other than there are
  std::vector<std::string> values = {
      gguf_value("general.architecture", GgufType::string, gguf_text("llama")),
      gguf_value("answer", GgufType::u32, raw(uint32_t{42}))};
  std::vector<std::string> tensors = {gguf_tensor("a", {4, 2}, 0, 0), gguf_tensor("b", {3}, 0, 32)};
  size_t alignment = 32;
  std::string data = std::string(32 + 12, '\0');

  std::string header() const {
    std::string bytes = magic + raw(version) + raw(tensor_count.value_or(tensors.size())) +
                        raw(value_count.value_or(values.size()));
    for (const std::string& value : values) bytes += value;
    for (const std::string& tensor : tensors) bytes += tensor;
    return bytes;
  }
  std::string bytes() const {
    std::string all = header();
    all.resize((all.size() + alignment - 1) / alignment * alignment, '\0');
    return all + data;
  }
};

// A value of every type.
inline GgufBytes with_all_types() {
  GgufBytes f;
  f.values = {
      gguf_value("u8", GgufType::u8, raw(uint8_t{200})),
      gguf_value("i8", GgufType::i8, raw(int8_t{-100})),
      gguf_value("u16", GgufType::u16, raw(uint16_t{60000})),
      gguf_value("i16", GgufType::i16, raw(int16_t{-30000})),
      gguf_value("u32", GgufType::u32, raw(uint32_t{4000000000})),
      gguf_value("i32", GgufType::i32, raw(int32_t{-2000000000})),
      gguf_value("u64", GgufType::u64, raw(uint64_t{1} << 62)),
      gguf_value("i64", GgufType::i64, raw(int64_t{-1} << 62)),
      gguf_value("u64 beyond", GgufType::u64, raw(UINT64_MAX)),
      gguf_value("f32", GgufType::f32, raw(0.5f)),
      gguf_value("f64", GgufType::f64, raw(0.1)),
      gguf_value("nan", GgufType::f32, raw(std::nanf(""))),
      gguf_value("yes", GgufType::boolean, "\1"),
      gguf_value("text", GgufType::string, gguf_text("line\nbreak")),
      gguf_array("i32s", GgufType::i32, 3, raw(int32_t{1}) + raw(int32_t{-2}) + raw(int32_t{3})),
      gguf_array("f32s", GgufType::f32, 2, raw(1.5f) + raw(-0.25f)),
      gguf_array("texts", GgufType::string, 3, gguf_text("a") + gguf_text("") + gguf_text("c d")),
      gguf_array("none", GgufType::string, 0, "")};
  return f;
}

}  // namespace mora::testing
