// The header of a safetensors file: JSON to tensors, every rule of the format checked on the way.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "mora/io/safetensors.hpp"

namespace mora {

inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;  // the format's own limit

struct SafetensorsHeader {
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
};

// Parses `json`, the header of `source`, and checks that the tensors tile exactly `data_size`
// bytes.
SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_size,
                                           const std::string& source);

// Bits of one element; 0 if the format has no such type.
uint64_t safetensors_bits(std::string_view dtype);

bool is_safetensors_name(std::string_view name);

}  // namespace mora
