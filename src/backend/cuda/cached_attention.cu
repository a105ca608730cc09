// Attention of a few new tokens against a cache, and the cache's writer: the decoding half of
// attention.
//                                  q, y: [T, H*K]  caches: [S, C, H_kv*K]  slots, positions: [T]
#include <cmath>
#include <limits>

#include "backend/cuda/attention.hpp"
#include "backend/cuda/reduce.hpp"

namespace mora::cuda {

namespace {

constexpr int kWarps = 8;
constexpr int kKeys = 4;                        // that a warp reads at once
constexpr int kLaneDims = kMaxHeadDim / kWarp;  // of a lane: its number, and every 32nd behind

// The streaming softmax over a part of the keys, dimensions spread over the lanes of a warp.
template <class T>
struct PartOfSoftmax {
  T largest = -std::numeric_limits<T>::infinity(), total = 0, sums[kLaneDims] = {};

  __device__ void shrink_to(T top) {
    const T shrink = std::exp(largest - top);
    total *= shrink;
    MORA_UNROLL
    for (T& sum : sums) sum *= shrink;
    largest = top;
  }
};

template <class T>
struct CachedOperands {
  const T *q, *k, *v;
  const int32_t *slots, *positions;
  T* y;
  int64_t capacity;
};

// A lane's dimensions of a head; zeros behind the last.
template <class T>
__device__ void load_lane(const T* head, int head_dim, T (&x)[kLaneDims]) {
  MORA_UNROLL
  for (int e = 0; e < kLaneDims; ++e) {
    const int d = static_cast<int>(threadIdx.x) % kWarp + e * kWarp;
    x[e] = d < head_dim ? head[d] : T(0);
  }
}

// The keys [s, s + kKeys) of those up to `last`.
template <class T>
__device__ void absorb_keys(const HeadRows<const T>& k, const HeadRows<const T>& v, int s, int last,
                            const T (&q)[kLaneDims], PartOfSoftmax<T>& part) {
  T scores[kKeys], top = part.largest;
  MORA_UNROLL
  for (int j = 0; j < kKeys; ++j) {
    T key[kLaneDims], dot = 0;
    load_lane(k.row(std::min(s + j, last)), k.head_dim, key);
    MORA_UNROLL
    for (int e = 0; e < kLaneDims; ++e) dot += q[e] * key[e];
    scores[j] = warp_sum(dot);
    top = scores[j] > top ? scores[j] : top;
  }
  part.shrink_to(top);
  MORA_UNROLL
  for (int j = 0; j < kKeys; ++j) {
    T value[kLaneDims];
    load_lane(v.row(std::min(s + j, last)), v.head_dim, value);
    const T weight = s + j <= last ? std::exp(scores[j] - top) : T(0);
    part.total += weight;
    MORA_UNROLL
    for (int e = 0; e < kLaneDims; ++e) part.sums[e] += weight * value[e];
  }
}

// y[t, h] = softmax over s = 0..positions[t] of slot slots[t]; rows with a negative slot are 0. A
// block is a token and head; its warps take keys in turn, and their parts are added in order.
template <class T>
__global__ void __launch_bounds__(kWarps* kWarp, 1)
    cached_attention_kernel(AttentionShape a, CachedOperands<T> x) {
  __shared__ T largest[kWarps], totals[kWarps], sums[kWarps][kMaxHeadDim];
  const int t = static_cast<int>(blockIdx.x) / a.heads, h = static_cast<int>(blockIdx.x) % a.heads,
            warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  T* y = a.head(x.y, h).row(t);
  if (x.slots[t] < 0) {
    for (int d = threadIdx.x; d < a.head_dim; d += kWarps * kWarp) y[d] = 0;
    return;
  }
  const int kv = h / a.group(), last = x.positions[t];
  HeadRows<const T> k = a.kv_head(x.k, kv), v = a.kv_head(x.v, kv);
  k.data += x.slots[t] * x.capacity * k.stride;
  v.data += x.slots[t] * x.capacity * v.stride;
  T q[kLaneDims];
  load_lane(a.head(x.q, h).row(t), a.head_dim, q);
  MORA_UNROLL
  for (T& value : q) value *= static_cast<T>(a.scale);
  PartOfSoftmax<T> part;
  for (int s = warp * kKeys; s <= last; s += kWarps * kKeys) absorb_keys(k, v, s, last, q, part);
  if (lane == 0) {
    largest[warp] = part.largest;
    totals[warp] = part.total;
  }
  MORA_UNROLL
  for (int e = 0; e < kLaneDims; ++e) sums[warp][lane + e * kWarp] = part.sums[e];
  __syncthreads();
  T top = largest[0], total = 0;
  for (int w = 1; w < kWarps; ++w) top = largest[w] > top ? largest[w] : top;
  for (int w = 0; w < kWarps; ++w) total += totals[w] * std::exp(largest[w] - top);
  for (int d = threadIdx.x; d < a.head_dim; d += kWarps * kWarp) {
    T sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += sums[w][d] * std::exp(largest[w] - top);
    y[d] = sum / total;
  }
}

}  // namespace

template <class T>
void cached_attention(const KernelArgs& args) {
  const AttentionShape shape = attention_shape<T>(args);
  const CachedOperands<T> operands{.q = ptr<const T>(args.in[0]),
                                   .k = ptr<const T>(args.in[1]),
                                   .v = ptr<const T>(args.in[2]),
                                   .slots = ptr<const int32_t>(args.in[3]),
                                   .positions = ptr<const int32_t>(args.in[4]),
                                   .y = ptr<T>(args.out[0]),
                                   .capacity = args.in[1].shape()[1]};
  launch({.blocks = dim3(static_cast<unsigned>(shape.tokens * shape.heads)),
          .threads = dim3(kWarps * kWarp)},
         &cached_attention_kernel<T>, shape, operands);
}

// cache[slots[t], positions[t], :] = x[t, :]; rows with a negative slot are skipped
template <class T>
void cache_write(const KernelArgs& args) {
  auto* cache = ptr<T>(args.in[0]);
  const auto* x = ptr<const T>(args.in[1]);
  const auto *slots = ptr<const int32_t>(args.in[2]), *positions = ptr<const int32_t>(args.in[3]);
  const int64_t capacity = args.in[0].shape()[1], width = args.in[1].shape().last();
  over_elements(args.in[1].elements(), [=] __device__(int64_t i) {
    const int64_t t = i / width, slot = slots[t];
    if (slot >= 0) cache[(slot * capacity + positions[t]) * width + i % width] = x[i];
  });
}

MORA_CUDA_KERNEL(cached_attention)
MORA_CUDA_KERNEL(cache_write)

}  // namespace mora::cuda
