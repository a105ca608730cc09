// Block layouts. All numbers are little-endian and unaligned; a scale is an F16. Four-bit values
// come in pairs: the low halves of the bytes are the first half of a run, the high halves the
// second.
#include "mora/io/ggml_types.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "mora/core/dtype.hpp"
#include "mora/core/error.hpp"
#include "mora/core/half.hpp"

namespace mora {

namespace {

constexpr int kShort = 32, kLong = 256;  // values in a block of the plain and of the "K" types

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

float half_at(const std::byte* at) {
  return float_of_half(load<uint16_t>(at));
}

int low(std::byte b) {
  return std::to_integer<int>(b & std::byte{15});
}

int high(std::byte b) {
  return std::to_integer<int>(b >> 4);
}

void unpack_f32(const std::byte* block, float* y) {
  *y = load<float>(block);
}

void unpack_f16(const std::byte* block, float* y) {
  *y = half_at(block);
}

void unpack_bf16(const std::byte* block, float* y) {
  *y = static_cast<float>(load<bf16>(block));
}

void unpack_q8_0(const std::byte* block, float* y) {
  const float scale = half_at(block);
  for (int i = 0; i < kShort; ++i) y[i] = scale * static_cast<float>(load<int8_t>(block + 2 + i));
}

// Q4_0 and Q4_1: 16 bytes of halves. Q5_0 and Q5_1: 32 fifth bits before them. The second of each
// pair has a minimum to be added instead of the middle to be taken off.
template <int kBits, bool kHasMinimum>
void unpack_short(const std::byte* block, float* y) {
  const float scale = half_at(block);
  const float minimum = kHasMinimum ? half_at(block + 2) : 0.0f;
  const std::byte* at = block + (kHasMinimum ? 4 : 2);
  uint32_t fifth = 0;
  if constexpr (kBits == 5) {
    fifth = load<uint32_t>(at);
    at += 4;
  }
  constexpr int kMiddle = kHasMinimum ? 0 : 1 << (kBits - 1);
  for (int i = 0; i < kShort; ++i) {
    const int four = i < kShort / 2 ? low(at[i]) : high(at[i - kShort / 2]);
    const int q = four | static_cast<int>((fifth >> i & 1u) << 4);
    const float product = scale * static_cast<float>(q - kMiddle);
    y[i] = kHasMinimum ? product + minimum : product;
  }
}

// Eight 6-bit scales and eight 6-bit minima in 12 bytes: those of the runs 0 to 3 stand in the low
// six bits of bytes 0 to 3 and 4 to 7; those of 4 to 7 have four bits in bytes 8 to 11 (scale low,
// minimum high) and their two upper ones where the first left room.
struct ScaleAndMinimum {
  int scale, minimum;
};
ScaleAndMinimum scale_of_run(const std::byte* packed, int run) {
  auto byte = [&](int i) { return std::to_integer<int>(packed[i]); };
  if (run < 4) return {byte(run) & 63, byte(run + 4) & 63};
  return {(byte(run + 4) & 15) | (byte(run - 4) >> 6 << 4),
          (byte(run + 4) >> 4) | (byte(run) >> 6 << 4)};
}

// Eight runs of 32 values; runs 2k and 2k + 1 are the low and high halves of the same 32 bytes.
void unpack_q4_k(const std::byte* block, float* y) {
  constexpr int kRun = 32;
  const float scale = half_at(block), minimum = half_at(block + 2);
  const std::byte *packed = block + 4, *values = block + 16;
  for (int run = 0; run < kLong / kRun; ++run) {
    const ScaleAndMinimum six = scale_of_run(packed, run);
    const float d = scale * static_cast<float>(six.scale);
    const float m = minimum * static_cast<float>(six.minimum);
    const std::byte* bytes = values + run / 2 * kRun;
    for (int i = 0; i < kRun; ++i) {
      const int q = run % 2 == 0 ? low(bytes[i]) : high(bytes[i]);
      y[run * kRun + i] = d * static_cast<float>(q) - m;
    }
  }
}

// Two halves of 128 values, each four runs of 32: low four bits in 64 bytes, upper two bits in 32
// bytes (run r has bits 2r and 2r + 1), one int8 scale for every 16 values.
void unpack_q6_k(const std::byte* block, float* y) {
  constexpr int kRun = 32, kRunsOfHalf = 4, kScaled = 16, kMiddle = 32;
  const std::byte *fours = block, *twos = block + 128, *scales = block + 192;
  const float scale = half_at(block + 208);
  for (int at = 0; at < kLong; ++at) {
    const int half = at / (kRun * kRunsOfHalf), run = at / kRun % kRunsOfHalf, i = at % kRun;
    const std::byte four = fours[half * 64 + run % 2 * kRun + i];
    const int upper = std::to_integer<int>(twos[half * 32 + i]) >> (2 * run) & 3;
    const int q = (run < 2 ? low(four) : high(four)) | upper << 4;
    const float d = scale * static_cast<float>(load<int8_t>(scales + at / kScaled));
    y[at] = d * static_cast<float>(q - kMiddle);
  }
}

constexpr std::array kTypes = {
    GgmlType{0, "F32", 1, 4, unpack_f32},
    GgmlType{1, "F16", 1, 2, unpack_f16},
    GgmlType{30, "BF16", 1, 2, unpack_bf16},
    GgmlType{8, "Q8_0", kShort, 34, unpack_q8_0},
    GgmlType{2, "Q4_0", kShort, 18, unpack_short<4, false>},
    GgmlType{3, "Q4_1", kShort, 20, unpack_short<4, true>},
    GgmlType{6, "Q5_0", kShort, 22, unpack_short<5, false>},
    GgmlType{7, "Q5_1", kShort, 24, unpack_short<5, true>},
    GgmlType{12, "Q4_K", kLong, 144, unpack_q4_k},
    GgmlType{14, "Q6_K", kLong, 210, unpack_q6_k},
    GgmlType{9, "Q8_1", kShort, 40, nullptr},
    GgmlType{10, "Q2_K", kLong, 84, nullptr},
    GgmlType{11, "Q3_K", kLong, 110, nullptr},
    GgmlType{13, "Q5_K", kLong, 176, nullptr},
    GgmlType{15, "Q8_K", kLong, 292, nullptr},
    GgmlType{16, "IQ2_XXS", kLong, 66, nullptr},
    GgmlType{17, "IQ2_XS", kLong, 74, nullptr},
    GgmlType{18, "IQ3_XXS", kLong, 98, nullptr},
    GgmlType{19, "IQ1_S", kLong, 50, nullptr},
    GgmlType{20, "IQ4_NL", kShort, 18, nullptr},
    GgmlType{21, "IQ3_S", kLong, 110, nullptr},
    GgmlType{22, "IQ2_S", kLong, 82, nullptr},
    GgmlType{23, "IQ4_XS", kLong, 136, nullptr},
    GgmlType{24, "I8", 1, 1, nullptr},
    GgmlType{25, "I16", 1, 2, nullptr},
    GgmlType{26, "I32", 1, 4, nullptr},
    GgmlType{27, "I64", 1, 8, nullptr},
    GgmlType{28, "F64", 1, 8, nullptr},
    GgmlType{29, "IQ1_M", kLong, 56, nullptr},
    GgmlType{34, "TQ1_0", kLong, 54, nullptr},
    GgmlType{35, "TQ2_0", kLong, 66, nullptr},
    GgmlType{39, "MXFP4", kShort, 17, nullptr},
};

template <class T>
void store(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

bool quantize_q8_0(std::span<const float, kShort> x, std::byte* block) {
  float largest = 0;
  for (float value : x) largest = std::max(largest, std::fabs(value));
  const float scale = largest / 127.0f;
  const uint16_t half = half_of_float(scale);
  if (std::isinf(float_of_half(half))) return false;
  store(block, half);
  // The reciprocal of zero, and of some subnormals, is infinite; as F16 such a scale is zero.
  const float inverse = std::isinf(1.0f / scale) ? 0.0f : 1.0f / scale;
  for (int i = 0; i < kShort; ++i) {
    store(block + 2 + i, static_cast<int8_t>(std::round(x[static_cast<size_t>(i)] * inverse)));
  }
  return true;
}

}  // namespace

const GgmlType* find_ggml_type(uint32_t id) {
  const auto* found = std::ranges::find(kTypes, id, &GgmlType::id);
  return found == kTypes.end() ? nullptr : found;
}

const GgmlType& ggml_type(std::string_view name) {
  const auto* found = std::ranges::find(kTypes, name, &GgmlType::name);
  ensure(found != kTypes.end(), "no GGUF type ", name);
  return *found;
}

std::string readable_ggml_types() {
  std::string names;
  for (const GgmlType& type : kTypes) {
    if (type.unpack != nullptr) names += str(names.empty() ? "" : ", ", type.name);
  }
  return names;
}

void dequantize(const GgmlType& type, std::span<const std::byte> blocks, std::span<float> values) {
  ensure(type.unpack != nullptr && blocks.size() == type.bytes(values.size()) &&
             values.size() % static_cast<size_t>(type.block_values) == 0,
         "dequantising ", type, ": ", blocks.size(), " bytes for ", values.size(), " values");
  const std::byte* from = blocks.data();
  for (size_t i = 0; i < values.size(); i += static_cast<size_t>(type.block_values)) {
    type.unpack(from, values.data() + i);
    from += type.block_bytes;
  }
}

bool quantize(const GgmlType& type, std::span<const float> values, std::span<std::byte> blocks) {
  ensure(blocks.size() == type.bytes(values.size()) &&
             values.size() % static_cast<size_t>(type.block_values) == 0,
         "quantising ", type, ": ", blocks.size(), " bytes for ", values.size(), " values");
  if (!std::ranges::all_of(values, [](float v) { return std::isfinite(v); })) return false;
  std::byte* to = blocks.data();
  if (type.name == "F32") {
    std::memcpy(to, values.data(), blocks.size());
  } else if (type.name == "BF16") {
    for (size_t i = 0; i < values.size(); ++i) {
      const bf16 rounded(values[i]);
      if (std::isinf(static_cast<float>(rounded))) return false;
      store(to + 2 * i, rounded);
    }
  } else if (type.name == "F16") {
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t half = half_of_float(values[i]);
      if (std::isinf(float_of_half(half))) return false;
      store(to + 2 * i, half);
    }
  } else {
    ensure(type.name == "Q8_0", "no quantisation to ", type);
    for (size_t i = 0; i < values.size(); i += kShort, to += type.block_bytes) {
      if (!quantize_q8_0(values.subspan(i).first<kShort>(), to)) return false;
    }
  }
  return true;
}

}  // namespace mora
