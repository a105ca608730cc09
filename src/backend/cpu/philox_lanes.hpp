// Philox for counters in a row, in vectors of 64-bit lanes: of a lane, the low half is a word of
// the generator's state, and what stands above it does not count.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "mora/core/random.hpp"

namespace mora::cpu {

typedef uint64_t WideLanes __attribute__((vector_size(64)));

// The 64-bit products of the low halves with b.
inline WideLanes low_products(const WideLanes& a, uint32_t b) {
#if defined(__AVX512F__)
  return reinterpret_cast<WideLanes>(_mm512_maskz_mul_epu32(
      0xFF, reinterpret_cast<__m512i>(a), _mm512_set1_epi64(static_cast<int64_t>(b))));
#elif defined(__AVX2__)
  const __m256i factor = _mm256_set1_epi64x(static_cast<int64_t>(b));
  __m256i halves[2];
  std::memcpy(halves, &a, sizeof a);
  for (__m256i& half : halves) half = _mm256_mul_epu32(half, factor);
  WideLanes product;
  std::memcpy(&product, halves, sizeof product);
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
  constexpr int kLanes = 8, kVectors = kPhiloxRun / 4 / kLanes;
  WideLanes c[kVectors][4];
  for (int v = 0; v < kVectors; ++v) {
    c[v][0] = WideLanes{0, 1, 2, 3, 4, 5, 6, 7} + counter[0] + static_cast<uint64_t>(v * kLanes);
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
    const WideLanes blocks[2] = {__builtin_shufflevector(low, high, 0, 8, 1, 9, 2, 10, 3, 11),
                                 __builtin_shufflevector(low, high, 4, 12, 5, 13, 6, 14, 7, 15)};
    std::memcpy(bits, blocks, sizeof blocks);
    bits += kPhiloxRun / kVectors;
  }
}

}  // namespace mora::cpu
