// Tensor cores and asynchronous copies: what PTX has for compute capability 8.0 and newer. All
// lanes of a warp call these together. On the processor they are what tests/emulated_cuda makes of
// the same layouts.
//
// Products of fragments, mma.m16n8k16: d[16, 8] += a[16, 16] b[16, 8]. With g = lane / 4 and
// c = 2 * (lane % 4) a lane holds
//   a[0] = a[g, c], a[g, c+1]        b[0] = b[c, g], b[c+1, g]         d[0] = d[g, c]
//   a[1] = a[g+8, c], a[g+8, c+1]    b[1] = b[c+8, g], b[c+9, g]       d[1] = d[g, c+1]
//   a[2] = a[g, c+8], a[g, c+9]                                        d[2] = d[g+8, c]
//   a[3] = a[g+8, c+8], a[g+8, c+9]                                    d[3] = d[g+8, c+1]
// where two bf16 share a register, the first in its lower half.
#pragma once

#include <bit>
#include <cstdint>

#include "backend/cuda/launch.hpp"
#include "backend/cuda/round.hpp"
#ifndef __CUDACC__
#include <emulated_tensor_cores.h>
#endif

namespace mora::cuda {

// d += a b, products of bf16 with sums in f32.
__device__ inline void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  ::emulated::mma(d, a, {b0, b1});
#endif
}

#ifdef __CUDACC__
__device__ inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

// Four matrices of 8 x 8 bf16 in shared memory. Lane l says where row l % 8 of matrix l / 8 lies:
// tile + at, aligned to its 16 bytes. Of matrix i it gets elements [g, c] and [g, c+1] in out[i].
__device__ inline void load_matrices(uint32_t (&out)[4], const bf16* tile, int at) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(tile) + 2 * at)
               : "memory");
#else
  ::emulated::load_matrices(out, tile + at);
#endif
}

// Of matrix i elements [c, g] and [c+1, g].
__device__ inline void load_matrices_transposed(uint32_t (&out)[4], const bf16* tile, int at) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(tile) + 2 * at)
               : "memory");
#else
  ::emulated::load_matrices_transposed(out, tile + at);
#endif
}

enum class Copied : uint8_t { data, zeros };

// Begins to copy Bytes from the device's memory to shared memory, aligned to themselves, or to put
// zeros there: `from` must be an address all the same. What a thread began is there for it after
// its wait_for_copies(), and for others after the barrier that follows.
template <int Bytes>
__device__ void begin_copy(void* to, const void* from, Copied what) {
  static_assert(Bytes == 4 || Bytes == 16);
  const int bytes = what == Copied::data ? Bytes : 0;
#ifdef __CUDACC__
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
  }
#else
  ::emulated::begin_copy(to, from, Bytes, bytes);
#endif
}

// For all copies that this thread began.
__device__ inline void wait_for_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_all;" ::: "memory");
#else
  ::emulated::wait_for_copies();
#endif
}

// bf16 of both, rounded to nearest even, the first in the lower half.
__device__ inline uint32_t pack_bf16(float low, float high) {
  return std::bit_cast<uint32_t>(bf16_pair(low, high));
}

// x, but what is computed from it is computed anew, and not kept in registers throughout a loop.
__device__ inline int anew(int x) {
#ifdef __CUDACC__
  asm volatile("" : "+r"(x));
#endif
  return x;
}

// 2^x within 2 units of the last place, as fast as the device can; 0 of -inf.
__device__ inline float fast_exp2(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

}  // namespace mora::cuda
