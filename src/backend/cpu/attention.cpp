// Causal attention with a streaming softmax (Milakov & Gimelshein 2018; FlashAttention-2's loop
// order): for a block of queries the keys of its segment are visited in blocks, so only a
// kAttentionBlock^2 square of scores ever exists.
//                                                       q, y: [T, H*K]  k, v: [T, H_kv*K]  lse: [T,
//                                                       H]
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/attention_block.hpp"
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/segments.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

Prepared prepare_attention(const OpCall& call) {
  check_head_dim(call);
  return {static_cast<size_t>(call.in[0].shape[0] + 1) * sizeof(int32_t), nullptr};
}

namespace {

template <class T>
struct Forward {
  AttentionView<T> view;
  const T *q, *k, *v;
  T *y, *lse;

  // Queries [begin, end) of one segment that starts at `start`, head h.
  void block(int64_t start, int64_t begin, int64_t end, int64_t h) const {
    const int64_t n = end - begin, head_dim = view.head_dim;
    alignas(64) T queries[kAttentionBlock * kMaxHeadDim], keys[kMaxHeadDim * kAttentionBlock];
    alignas(64) T sum[kAttentionBlock * kMaxHeadDim], scores[kAttentionBlock * kAttentionBlock];
    T largest[kAttentionBlock], total[kAttentionBlock];
    std::fill(largest, largest + n, -std::numeric_limits<T>::infinity());
    std::fill(total, total + n, T(0));
    std::fill(sum, sum + n * head_dim, T(0));
    view.scaled_queries(q, begin, n, h, queries);
    for (int64_t s = start; s < end; s += kAttentionBlock) {
      const int64_t m = std::min(kAttentionBlock, end - s);
      view.transposed(k, s, m, h, keys);
      block_gemm<T>(n, m, head_dim, {queries, head_dim, 1}, keys, kAttentionBlock, scores,
                    kAttentionBlock, Store::assign);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t visible = std::min(m, begin + i - s + 1);
        T* row = scores + i * kAttentionBlock;
        softmax_row(row, visible, m, largest[i], total[i], sum + i * head_dim);
      }
      block_gemm<T>(n, head_dim, m, {scores, kAttentionBlock, 1}, view.kv_row(v, s, h),
                    view.kv_width, sum, head_dim, Store::add);
    }
    for (int64_t i = 0; i < n; ++i) {
      if (y != nullptr) {
        T* out = y + (begin + i) * view.width + h * head_dim;
        const T inverse = T(1) / total[i];
        for (int64_t d = 0; d < head_dim; ++d) out[d] = sum[i * head_dim + d] * inverse;
      }
      if (lse != nullptr) lse[(begin + i) * view.heads + h] = largest[i] + std::log(total[i]);
    }
  }

  // Turns a row of scores into weights relative to the largest score so far and rescales what was
  // summed before.
  void softmax_row(T* row, int64_t visible, int64_t m, T& largest, T& total, T* sum) const {
    if (visible <= 0) {
      std::fill(row, row + m, T(0));
      return;
    }
    T top = largest;
    for (int64_t j = 0; j < visible; ++j) top = std::max(top, row[j]);
    const T shrink = exponential(largest - top);
    for (int64_t j = 0; j < visible; ++j) row[j] = exponential(row[j] - top);
    std::fill(row + visible, row + m, T(0));
    T block_total = 0;
    for (int64_t j = 0; j < visible; ++j) block_total += row[j];
    total = total * shrink + block_total;
    if (shrink != T(1)) {
      for (int64_t d = 0; d < view.head_dim; ++d) sum[d] *= shrink;
    }
    largest = top;
  }
};

}  // namespace

// y[t, h] = sum_{s = segment_start[t]}^{t} softmax_s(scale * q[t, h] . k[s, h']) v[s, h'],   h' = h
// / (H / H_kv)
template <class T>
void attention(const KernelArgs& args) {
  const Forward<T> forward{.view = AttentionView<T>(args),
                           .q = ptr<const T>(args.in[0]),
                           .k = ptr<const T>(args.in[1]),
                           .v = ptr<const T>(args.in[2]),
                           .y = ptr<T>(args.out[0]),
                           .lse = ptr<T>(args.out[1])};
  const auto* segment_start = ptr<const int32_t>(args.in[3]);
  auto* starts = static_cast<int32_t*>(args.scratch);
  const int64_t heads = forward.view.heads;
  const int64_t blocks = find_query_blocks(segment_start, args.in[0].shape()[0], starts);
  parallel_for(blocks * heads, [&](int64_t task) {
    const int64_t b = task / heads;
    forward.block(segment_start[starts[b]], starts[b], starts[b + 1], task % heads);
  });
}

MORA_CPU_KERNEL(attention)

}  // namespace mora::cpu
