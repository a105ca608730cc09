// Kernels that go over tensors once, a pack of elements a thread: of a tensor as a whole, and of
// the rows of matrices.
#pragma once

#include "backend/cuda/launch.hpp"
#include "backend/cuda/vectors.hpp"

namespace mora::cuda {

// body(i, lanes) for the elements of every pack from i on, and the last elements one by one.
template <class L, class Body>
__device__ void each_pack(int64_t n, L lanes, const Body& body) {
  const int64_t packs = n / L::kCount;
  for (int64_t i = grid_index(); i < packs; i += grid_size()) body(i * L::kCount, lanes);
  const int64_t rest = packs * L::kCount + grid_index();
  if (rest < n) body(rest, OneLane{});
}

template <class L, class Body>
__global__ void over_packs_kernel(int64_t n, Body body) {
  each_pack(n, L{}, body);
}

// Calls f(lanes) with kCount lanes for that access.
template <int kCount, class F>
void with_access(Access access, const F& f) {
  if (access == Access::packed) return f(Lanes<kCount, Access::packed>{});
  f(Lanes<kCount, Access::single>{});
}

// For n elements. Body: [=] __device__ (int64_t i, auto lanes) {...}
template <int kCount, class Body>
void over_packs(int64_t n, Access access, const Body& body) {
  constexpr int kThreads = 256;
  const Grid grid{.blocks = dim3(blocks_for((n + kCount - 1) / kCount, kThreads)),
                  .threads = dim3(kThreads)};
  with_access<kCount>(access, [&](auto lanes) {
    launch(grid, &over_packs_kernel<decltype(lanes), Body>, n, body);
  });
}

// Rows of a result. Columns that are neighbours in it are neighbours in all tensors as long as they
// are of the same run, whose length divides the width.
struct Rows {
  int64_t count, width, run;
};

template <class L, class Body>
__global__ void over_rows_kernel(Rows rows, Body body) {
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * L::kCount;
  if (column >= rows.width) return;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  for (int64_t t = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; t < rows.count;
       t += step)
    body(t, column, L{});
}

template <class L, class Body>
void launch_over_rows(const Rows& rows, const Body& body) {
  constexpr int64_t kThreads = 256;
  const int64_t packs = (rows.width + L::kCount - 1) / L::kCount;
  int64_t across = 1;
  while (across < packs && across < kThreads) across *= 2;
  const dim3 blocks(blocks_for(rows.count, kThreads / across),
                    static_cast<unsigned>((packs + across - 1) / across));
  launch({.blocks = blocks,
          .threads = dim3(static_cast<unsigned>(across), static_cast<unsigned>(kThreads / across))},
         &over_rows_kernel<L, Body>, rows, body);
}

// Calls f(lanes): kCount of them where runs are made of such packs, else one.
template <int kCount, class F>
void with_lanes(int64_t run, Access access, const F& f) {
  if constexpr (kCount > 1) {
    if (run % kCount == 0) return with_access<kCount>(access, f);
  }
  f(OneLane{});
}

// For every pack of every row. Body: [=] __device__ (int64_t t, int64_t column, auto lanes) {...}
template <int kCount, class Body>
void over_rows(const Rows& rows, Access access, const Body& body) {
  with_lanes<kCount>(rows.run, access,
                     [&](auto lanes) { launch_over_rows<decltype(lanes)>(rows, body); });
}

}  // namespace mora::cuda
