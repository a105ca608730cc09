// Numbers that a thread writes, rounded to what they are stored in. To bf16 by the device's own
// instruction, which rounds as bf16() does.
#pragma once

#include <bit>
#include <cstdint>

#include "backend/cuda/pack.hpp"
#include "mora/core/dtype.hpp"

namespace mora::cuda {

struct Bf16Pair {
  bf16 low, high;
};

__device__ inline Bf16Pair bf16_pair(float low, float high) {
#ifdef __CUDACC__
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return std::bit_cast<Bf16Pair>(bits);
#else
  return {bf16(low), bf16(high)};
#endif
}

template <class S, class T, int kCount>
__device__ void round_to(const T (&x)[kCount], Pack<S, kCount>& pack) {
  if constexpr (std::is_same_v<S, bf16> && std::is_same_v<T, float> && kCount % 2 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 2) {
      const Bf16Pair pair = bf16_pair(x[i], x[i + 1]);
      pack.v[i] = pair.low;
      pack.v[i + 1] = pair.high;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) pack.v[i] = value_as<S>(x[i]);
  }
}

}  // namespace mora::cuda
