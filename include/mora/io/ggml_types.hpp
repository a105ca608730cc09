// The element types of GGUF files: which there are, how large their blocks are, and the values of
// those that this program reads.
//
// A row is a whole number of blocks. Every product below is exact in a float, so each value is
// rounded at most once and equals the reference's bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <span>
#include <string>
#include <string_view>

namespace mora {

struct GgmlType {
  using Unpack = void (*)(const std::byte* block, float* values);

  uint32_t id;            // the number in the file
  std::string_view name;  // "Q4_K"
  int64_t block_values;   // values per block
  int64_t block_bytes;
  Unpack unpack;  // one block; null where only the sizes are known

  uint64_t bytes(uint64_t values) const {  // of whole blocks
    return values / static_cast<uint64_t>(block_values) * static_cast<uint64_t>(block_bytes);
  }
};

inline std::ostream& operator<<(std::ostream& out, const GgmlType& type) {
  return out << type.name;
}

const GgmlType* find_ggml_type(uint32_t id);       // null if there is none of that number
const GgmlType& ggml_type(std::string_view name);  // one that exists, "F32"
std::string readable_ggml_types();                 // "F32, F16, ..." for messages

// The values of whole blocks; the type must be readable, the sizes fitting.
void dequantize(const GgmlType& type, std::span<const std::byte> blocks, std::span<float> values);

// Into F32, F16, BF16 or Q8_0 (32 values to a block: scale max|x| / 127 as F16, quotients rounded
// half away from zero), appended to nothing: `blocks` has exactly the bytes. False if a value is
// not finite or too large for the type.
bool quantize(const GgmlType& type, std::span<const float> values, std::span<std::byte> blocks);

}  // namespace mora
