// Element types. f32 is the working type, bf16 and f16 are storage types, f64 exists for gradient
// checks, i32 for ids and positions. Activations may be stored in bf16: kernels then read it, work
// in f32 and round what they write.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <type_traits>

#include "mora/core/half.hpp"

namespace mora {

enum class DType : uint8_t { f32, bf16, f16, f64, i32 };

// Whether values of the type are only stored: products widen them to f32, which is exact.
constexpr bool is_narrow(DType dtype) {
  return dtype == DType::bf16 || dtype == DType::f16;
}

size_t size_of(DType dtype);
std::string_view name_of(DType dtype);
inline std::ostream& operator<<(std::ostream& out, DType dtype) {
  return out << name_of(dtype);
}

// The upper half of an IEEE float; conversion rounds to nearest even and keeps NaN a NaN.
struct bf16 {
  uint16_t bits;

  bf16() = default;
  constexpr explicit bf16(float value) : bits(0) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = nan ? static_cast<uint16_t>((u >> 16) | 0x40u)
               : static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  constexpr explicit operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
};

// IEEE half precision; conversion rounds to nearest even, and what is too large becomes infinite.
struct f16 {
  uint16_t bits;

  f16() = default;
  constexpr explicit f16(float value) : bits(half_of_float(value)) {}
  constexpr explicit operator float() const { return float_of_half(bits); }
};

template <class T>
inline constexpr bool kNarrow = std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

// What kernels compute in over elements stored as S.
template <class S>
using Working = std::conditional_t<kNarrow<S>, float, S>;
constexpr DType working_of(DType dtype) {
  return is_narrow(dtype) ? DType::f32 : dtype;
}

// x as To, narrow types by way of f32.
template <class To, class From>
constexpr To value_as(From x) {
  if constexpr (std::is_same_v<From, To>) {
    return x;
  } else if constexpr (kNarrow<From>) {
    return value_as<To>(static_cast<float>(x));
  } else if constexpr (kNarrow<To>) {
    return To(static_cast<float>(x));
  } else {
    return static_cast<To>(x);
  }
}

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<bf16>() {
  return DType::bf16;
}
template <>
constexpr DType dtype_of<f16>() {
  return DType::f16;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::f64;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::i32;
}

}  // namespace mora
