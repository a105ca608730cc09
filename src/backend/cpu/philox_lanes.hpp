// Philox for counters in a row, in vectors of 64-bit lanes: of a lane, the low half is a word of
// the generator's state, and what stands above it does not count.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "backend/cpu/vec.hpp"
#include "mora/core/random.hpp"

namespace mora::cpu {

using WideLanes = Vec<uint64_t>;

// The 64-bit products of the low halves with b.
inline WideLanes low_products(const WideLanes& a, uint32_t b) {
#if defined(__AVX512F__)
  const __m512i product = _mm512_maskz_mul_epu32(0xFF, reinterpret_cast<const __m512i&>(a),
                                                 _mm512_set1_epi64(static_cast<int64_t>(b)));
  return reinterpret_cast<const WideLanes&>(product);
#elif defined(__AVX2__)
  const __m256i factor = _mm256_set1_epi64x(static_cast<int64_t>(b));
  WideLanes product;
  each_part([&](size_t i) {
    const __m256i part = _mm256_mul_epu32(reinterpret_cast<const __m256i&>(a.part[i]), factor);
    product.part[i] = reinterpret_cast<const Register<uint64_t>&>(part);
  });
  return product;
#else
  return (a & 0xFFFFFFFFu) * b;
#endif
}

constexpr int kPhiloxRun = 64;

// The bits of kPhiloxRun numbers: those of philox() at counter and the ones that follow in its
// first word, four numbers each.
inline void philox_run(const std::array<uint32_t, 4>& counter, std::array<uint32_t, 2> key,
                       uint32_t* bits) {
  constexpr int kWords = kLanes<uint64_t>, kVectors = kPhiloxRun / 4 / kWords;
  WideLanes c[kVectors][4];
  for (int v = 0; v < kVectors; ++v) {
    constexpr uint64_t steps[kWords] = {0, 1, 2, 3, 4, 5, 6, 7};
    c[v][0] = load(steps) + (counter[0] + static_cast<uint64_t>(v * kWords));
    for (size_t w = 1; w < 4; ++w) c[v][w] = WideLanes{} + counter[w];
  }
  for (int round = 0; round < 10; ++round) {
    for (WideLanes(&words)[4] : c) {
      const WideLanes a = low_products(words[0], kPhiloxFactors[0]),
                      b = low_products(words[2], kPhiloxFactors[1]);
      words[0] = b >> 32 ^ words[1] ^ key[0];
      words[1] = b;
      words[2] = a >> 32 ^ words[3] ^ key[1];
      words[3] = a;
    }
    key = next_philox_key(key);
  }
  for (const WideLanes(&words)[4] : c) {
    const WideLanes low = (words[0] & 0xFFFFFFFFu) | words[1] << 32,
                    high = (words[2] & 0xFFFFFFFFu) | words[3] << 32;
    const WideLanes blocks[2] = {interleave_low<uint64_t>(low, high),
                                 interleave_high<uint64_t>(low, high)};
    std::memcpy(bits, blocks, sizeof blocks);
    bits += kPhiloxRun / kVectors;
  }
}

}  // namespace mora::cpu
