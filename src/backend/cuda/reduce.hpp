// Sums and maxima over the lanes of a warp and the threads of a block, in an order that never
// changes. Every thread gets the result.
#pragma once

#include "backend/cuda/launch.hpp"

namespace mora::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

template <class T>
__device__ T warp_sum(T x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(kAllLanes, x, offset);
  return x;
}

template <class T>
__device__ T warp_max(T x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, x, offset);
    x = other > x ? other : x;
  }
  return x;
}

// Of all threads of a block, whose number is a multiple of 32. `warps`: shared memory of 32
// elements for this; the next call may use it again at once.
template <class T>
__device__ T block_sum(T x, T* warps) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, count = blockDim.x / kWarp;
  x = warp_sum(x);
  if (lane == 0) warps[warp] = x;
  __syncthreads();
  x = warp_sum(lane < count ? warps[lane] : T(0));
  __syncthreads();
  return x;
}

template <class T>
__device__ T block_max(T x, T* warps) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, count = blockDim.x / kWarp;
  x = warp_max(x);
  if (lane == 0) warps[warp] = x;
  __syncthreads();
  x = warp_max(warps[lane < count ? lane : 0]);
  __syncthreads();
  return x;
}

}  // namespace mora::cuda
