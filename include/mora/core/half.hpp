// The bits of IEEE half precision ("F16") and of floats. constexpr, so that kernels of every backend
// may use them.
#pragma once

#include <bit>
#include <cstdint>

namespace mora {

// Without branches, so that loops over it become vector code.
constexpr float float_of_half(uint16_t half) {
  const uint32_t magnitude = half & 0x7fffu;
  // As bits of a float this is 2^-112 of the value, subnormal or not; the product is exact.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  const uint32_t special = magnitude >= 0x7c00u ? 0x7f800000u : 0u;  // infinity or NaN
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | special | sign);
}

// Rounds to nearest even; what is too large becomes infinite, NaN stays NaN.
constexpr uint16_t half_of_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // from 65520 on
  if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24
    // The sum has no room for fractions, so that it is rounded to a whole number.
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24f + 0x1p23f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(scaled) & 0x7fffffu));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

}  // namespace mora
