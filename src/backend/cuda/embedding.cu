// Rows of a table, and their gradient.
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/over_packs.hpp"
#include "backend/cuda/reduce.hpp"

namespace mora::cuda {

namespace {

template <class Stored, class T>
void gather(const KernelArgs& args) {
  const auto* table = ptr<const Stored>(args.in[0]);
  const auto* ids = ptr<const int32_t>(args.in[1]);
  auto* y = ptr<T>(args.out[0]);
  const int64_t width = args.out[0].shape().last();
  over_rows<kLanes<T, Stored>>({args.out[0].shape()[0], width, width}, access_to(table, y),
                               [=] __device__(int64_t t, int64_t column, auto lanes) {
                                 const Stored* row = table + int64_t{ids[t]} * width;
                                 store(y + t * width + column, load(row + column, lanes), lanes);
                               });
}

}  // namespace

// y[t, :] = table[ids[t], :]
template <class T>
void embedding(const KernelArgs& args) {
  if constexpr (std::is_same_v<T, float>) {
    if (args.in[0].dtype() == DType::bf16) return gather<bf16, T>(args);
    if (args.in[0].dtype() == DType::f16) return gather<f16, T>(args);
  }
  gather<T, T>(args);
}

namespace {

// A block has so many rows of the table, and reads the ids in chunks, a part of which each of its
// warps searches.
constexpr int kTableRows = 32, kGradientThreads = 256, kWarps = kGradientThreads / kWarp,
              kPart = 256;

// A token whose id is one of the block's rows.
struct Match {
  int32_t token, row;
};

// Those of a chunk, in the order of tokens: by warps, each of which found its part's.
struct Matches {
  Match found[kWarps][kPart];
  int count[kWarps];
};

// Of the tokens [begin, end), at most kPart, those that belong to table rows from `first` on.
// Called by a warp.
__device__ inline int find_matches(const int32_t* ids, int64_t begin, int64_t end, int64_t first,
                                   Match* found) {
  const int lane = threadIdx.x % kWarp;
  int count = 0;
  for (int64_t from = begin; from < end; from += kWarp) {
    const int64_t t = from + lane;
    const int64_t row = t < end ? ids[t] - first : -1;
    const bool matches = row >= 0 && row < kTableRows;
    const unsigned all = __ballot_sync(kAllLanes, matches);
    const int before = __popc(all & ((1u << lane) - 1));
    if (matches) found[count + before] = {static_cast<int32_t>(t), static_cast<int32_t>(row)};
    count += __popc(all);
  }
  return count;
}

// Sum of dy[t, column] over the tokens of one row; `any` tells whether there were some.
template <class L, class T>
__device__ Vec<T, L::kCount> sum_matches(const Matches& matches, int row, const T* dy,
                                         int64_t width, bool& any) {
  Vec<T, L::kCount> sum{};
  any = false;
  for (int warp = 0; warp < kWarps; ++warp) {
    for (int i = 0; i < matches.count[warp]; ++i) {
      const Match match = matches.found[warp][i];
      if (match.row != row) continue;
      sum = sum + load(dy + match.token * width, L{});
      any = true;
    }
  }
  return sum;
}

struct TableGradient {
  int64_t tokens, width, rows;
};

template <class L, class T>
__global__ void table_gradient_kernel(TableGradient size, const int32_t* ids, const T* dy, T* out) {
  __shared__ Matches matches;
  constexpr int64_t kChunk = kWarps * kPart;
  const int64_t first = int64_t{blockIdx.x} * kTableRows;
  const int64_t column = (int64_t{blockIdx.y} * kGradientThreads + threadIdx.x) * L::kCount;
  const int rows = static_cast<int>(std::min<int64_t>(kTableRows, size.rows - first));
  const int warp = threadIdx.x / kWarp;
  for (int64_t chunk = 0; chunk == 0 || chunk < size.tokens; chunk += kChunk) {
    const int64_t begin = chunk + int64_t{warp} * kPart;
    const int count =
        find_matches(ids, begin, std::min(begin + kPart, size.tokens), first, matches.found[warp]);
    if (threadIdx.x % kWarp == 0) matches.count[warp] = count;
    __syncthreads();
    for (int row = 0; row < rows && column < size.width; ++row) {
      T* to = out + (first + row) * size.width + column;
      bool any = false;
      const auto sum = sum_matches<L>(matches, row, dy + column, size.width, any);
      if (chunk == 0) {
        store(to, sum, L{});
      } else if (any) {
        store(to, load(to, L{}) + sum, L{});
      }
    }
    __syncthreads();
  }
}

}  // namespace

// dtable[v, :] = sum of dy[t, :] over t with ids[t] = v, in the order of t. Every element has a
// thread of its own, so that nothing depends on which block comes first.
template <class T>
void embedding_grad(const KernelArgs& args) {
  const auto* dy = ptr<const T>(args.in[0]);
  const auto* ids = ptr<const int32_t>(args.in[1]);
  auto* out = ptr<T>(args.out[0]);
  const TableGradient size{.tokens = args.in[0].shape()[0],
                           .width = args.in[0].shape().last(),
                           .rows = args.out[0].shape()[0]};
  with_lanes<kLanes<T>>(size.width, access_to(dy, out), [&](auto lanes) {
    using L = decltype(lanes);
    constexpr int64_t kColumns = kGradientThreads * L::kCount;
    const dim3 blocks(static_cast<unsigned>((size.rows + kTableRows - 1) / kTableRows),
                      static_cast<unsigned>((size.width + kColumns - 1) / kColumns));
    launch({.blocks = blocks, .threads = dim3(kGradientThreads)}, &table_gradient_kernel<L, T>,
           size, ids, dy, out);
  });
}

MORA_CUDA_KERNEL(embedding)
MORA_CUDA_KERNEL(embedding_grad)

}  // namespace mora::cuda
