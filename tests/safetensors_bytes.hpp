// Safetensors files put together by hand, so that each part can be wrong on its own.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

namespace mora::testing {

inline std::string with_length(uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}

inline std::string file_of(const std::string& header, size_t data_bytes) {
  return with_length(header.size(), header + std::string(data_bytes, '\1'));
}

inline std::string file_of(const std::string& header, const std::string& data) {
  return with_length(header.size(), header + data);
}

inline std::string entry(const std::string& name, const std::string& dtype,
                         const std::string& shape, const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

}  // namespace mora::testing
