// A signed permutation of features: y[t, j] = s_j x[t, p_j], or its transpose.
//
// Rows pass through shared memory, where any order is fast, so that memory is read and written in
// its own.
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/row_blocks.hpp"

namespace mora::cuda {

namespace {

constexpr size_t kMostRowBytes = 96 << 10;  // of shared memory

// Where an element is found or put, and its sign.
struct Place {
  int64_t at;
  bool negative;
};

__device__ inline Place place_of(int32_t order) {
  return order < 0 ? Place{-1 - int64_t{order}, true} : Place{order, false};
}

template <class S>
__device__ S signed_as(const Place& place, S x) {
  return place.negative ? value_as<S>(-value_as<Working<S>>(x)) : x;
}

template <class L, class S>
__global__ void __launch_bounds__(kMostRowThreads)
    permute_kernel(const S* x, const int32_t* order, S* y, int64_t width, Direction direction) {
  S* row = dynamic_shared<S>();
  x += blockIdx.x * width;
  y += blockIdx.x * width;
  // The places of a pack in the row: as ordered, or as they are.
  const auto places = [&](Direction ordered, int64_t column) {
    if (direction == ordered) {
      const auto pack = read_pack(order + column, L{});
      return vec_of<L::kCount>([&](int i) { return place_of(pack.v[i]); });
    }
    return vec_of<L::kCount>([&](int i) { return Place{column + i, false}; });
  };
  each_pack_of_row(width, L{}, [&](int, int64_t column) {
    const auto pack = read_pack(x + column, L{});
    const auto to = places(Direction::backward, column);
    for (int i = 0; i < L::kCount; ++i) row[to.at[i].at] = signed_as(to.at[i], pack.v[i]);
  });
  __syncthreads();
  each_pack_of_row(width, L{}, [&](int, int64_t column) {
    Pack<S, L::kCount> pack;
    const auto from = places(Direction::forward, column);
    for (int i = 0; i < L::kCount; ++i) pack.v[i] = signed_as(from.at[i], row[from.at[i].at]);
    write_pack(y + column, pack, L{});
  });
}

// Without shared memory.
template <class S>
void permute_wide(const KernelArgs& args) {
  const auto direction = args.attrs.as<PermuteAttrs>().direction;
  const auto* x = ptr<const S>(args.in[0]);
  const auto* order = ptr<const int32_t>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t rows = args.in[0].shape()[0], width = args.in[0].shape().last();
  over_rows<1>({rows, width, width}, Access::packed,
               [=] __device__(int64_t t, int64_t column, auto) {
                 const Place place = place_of(order[column]);
                 const bool forward = direction == Direction::forward;
                 const int64_t from = t * width + (forward ? place.at : column),
                               to = t * width + (forward ? column : place.at);
                 y[to] = signed_as(place, x[from]);
               });
}

}  // namespace

template <class S>
void permute(const KernelArgs& args) {
  const auto* x = ptr<const S>(args.in[0]);
  const auto* order = ptr<const int32_t>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t rows = args.in[0].shape()[0], width = args.in[0].shape().last();
  const size_t row_bytes = static_cast<size_t>(width) * sizeof(S);
  if (row_bytes > kMostRowBytes) return permute_wide<S>(args);
  Grid grid = row_blocks(rows, width);
  grid.shared_bytes = row_bytes;
  const auto direction = args.attrs.as<PermuteAttrs>().direction;
  with_lanes<kLanes<S>>(width, access_to(x, order, y), [&](auto lanes) {
    launch(grid, &permute_kernel<decltype(lanes), S>, x, order, y, width, direction);
  });
}

MORA_CUDA_ACTIVATION_KERNEL(permute)

}  // namespace mora::cuda
