// Kernels that give each row of a matrix to a block, whose threads go over it more than once.
#pragma once

#include "backend/cuda/over_packs.hpp"

namespace mora::cuda {

// What a thread has room for in its registers, and the threads that a block may have then.
constexpr int kKeptNumbers = 16, kMostRowThreads = 512;
template <class L>
constexpr int kept_packs = kKeptNumbers / L::kCount;

inline Grid row_blocks(int64_t rows, int64_t width) {
  const int64_t warps = (width + kKeptNumbers * kWarp - 1) / (kKeptNumbers * kWarp);
  return {
      .blocks = dim3(static_cast<unsigned>(width == 0 ? 0 : rows)),
      .threads = dim3(static_cast<unsigned>(std::min<int64_t>(warps * kWarp, kMostRowThreads)))};
}

// body(pack, column) for the thread's packs of its row, the first of which may be kept: pack counts
// to kept_packs, in an unrolled loop, and stays there.
template <class L, class Body>
__device__ void each_pack_of_row(int64_t width, L, const Body& body) {
  const int64_t step = int64_t{L::kCount} * blockDim.x;
  int64_t column = int64_t{L::kCount} * threadIdx.x;
#pragma unroll
  for (int pack = 0; pack < kept_packs<L>; ++pack, column += step) {
    if (column < width) body(pack, column);
  }
  for (; column < width; column += step) body(kept_packs<L>, column);
}

}  // namespace mora::cuda
