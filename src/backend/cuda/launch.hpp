// Starting kernels on the stream, and the ways they share work among threads.
//
// A kernel's grid depends on shapes and on nothing else, so that sums always have the same order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/cuda/device.hpp"

namespace mora::cuda {

constexpr int kWarp = 32;

struct Grid {
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;  // beside what the kernel declares itself
};

// Blocks of `threads` for n pieces of work, each of which a loop over the grid may repeat.
inline unsigned blocks_for(int64_t n, int64_t threads) {
  constexpr int64_t kMost = 1 << 20;
  return static_cast<unsigned>(std::clamp<int64_t>((n + threads - 1) / threads, 0, kMost));
}

// What goes wrong is found by wait(): kernels never throw. An empty grid is no error, and nothing.
template <class... Parameters, class... Arguments>
void launch(const Grid& grid, void (*kernel)(Parameters...), Arguments... arguments) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
  constexpr size_t kGranted = 48 << 10;
  if (grid.shared_bytes > kGranted &&
      cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                           cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(grid.shared_bytes)) != cudaSuccess) {
    cudaGetLastError();  // which the next line says better
    note_failure("CUDA, starting a kernel",
                 "it needs more shared memory than this device gives a block; attention in fp32 "
                 "needs most: choose dtype bf16");
    return;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.shared_bytes;
  config.stream = stream();
  cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// The shared memory that Grid::shared_bytes asks for.
template <class T>
__device__ T* dynamic_shared() {
#ifdef __CUDACC__
  extern __shared__ __align__(16) unsigned char mora_dynamic_shared[];
  return reinterpret_cast<T*>(mora_dynamic_shared);
#else
  return reinterpret_cast<T*>(emulated::dynamic_shared());
#endif
}

// Index of this thread in the grid, and threads in it: for loops over elements.
__device__ inline int64_t grid_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t grid_size() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

template <class Body>
__global__ void over_elements_kernel(int64_t n, Body body) {
  for (int64_t i = grid_index(); i < n; i += grid_size()) body(i);
}

// body(i) for every i below n. Body: [=] __device__ (int64_t i) {...}
template <class Body>
void over_elements(int64_t n, const Body& body) {
  constexpr int kThreads = 256;
  launch({.blocks = dim3(blocks_for(n, kThreads)), .threads = dim3(kThreads)},
         &over_elements_kernel<Body>, n, body);
}

}  // namespace mora::cuda
