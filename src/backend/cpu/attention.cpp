// Causal attention with a streaming softmax (Milakov & Gimelshein 2018; FlashAttention-2's loop
// order): for a block of queries the keys of its segment are visited in blocks, so only kQueries *
// kAttentionBlock scores ever exist.
//                                         q, y: [T, H*K]  k, v: [T, H_kv*K]  lse: [T, H]
#include <algorithm>

#include "backend/cpu/attention_amx.hpp"
#include "backend/cpu/attention_block.hpp"
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/segments.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

Prepared prepare_attention(const OpCall& call, MatmulProvider provider) {
  check_head_dim(call);
  if (takes_amx_attention(call, provider)) return prepare_attention_amx(call);
  return {static_cast<size_t>(call.in[0].shape[0] + 1) * sizeof(int32_t), nullptr};
}

namespace {

constexpr int64_t kQueries = 2 * kAttentionBlock;  // share a transposed block of keys

template <class S>
struct Forward {
  using T = Working<S>;
  AttentionView<S> view;
  const S *q, *k, *v;
  S* y;
  T* lse;

  // Queries [begin, end) of one segment that starts at `start`, head h.
  void block(int64_t start, int64_t begin, int64_t end, int64_t h) const {
    const int64_t n = end - begin, head_dim = view.head_dim;
    alignas(64) T queries[kQueries * kMaxHeadDim], keys[kMaxHeadDim * kAttentionBlock];
    alignas(64) T sum[kQueries * kMaxHeadDim], scores[kQueries * kAttentionBlock];
    typename AttentionView<S>::Room room;
    StreamingSoftmax<T, kQueries> softmax;
    std::fill(sum, sum + n * head_dim, T(0));
    view.scaled_queries(q, begin, n, h, queries);
    for (int64_t s = start; s < end; s += kAttentionBlock) {
      const int64_t m = std::min(kAttentionBlock, end - s);
      view.transposed(k, s, m, h, keys);
      block_gemm<T>(n, m, head_dim, {queries, head_dim, 1}, keys, kAttentionBlock, scores,
                    kAttentionBlock, Store::assign);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t visible = std::min(m, begin + i - s + 1);
        softmax.absorb(i, scores + i * kAttentionBlock, visible, m, sum + i * head_dim, head_dim);
      }
      const Strided<T> values = view.kv_rows(v, s, m, h, room);
      block_gemm<T>(n, head_dim, m, {scores, kAttentionBlock, 1}, values.data, values.row, sum,
                    head_dim, Store::add);
    }
    for (int64_t i = 0; i < n; ++i) {
      if (y != nullptr) {
        S* out = y + (begin + i) * view.width + h * head_dim;
        const T inverse = T(1) / softmax.total[i];
        for (int64_t d = 0; d < head_dim; ++d)
          out[d] = value_as<S>(sum[i * head_dim + d] * inverse);
      }
      if (lse != nullptr) lse[(begin + i) * view.heads + h] = softmax.lse(i);
    }
  }
};

}  // namespace

// y[t, h] = sum_{s = segment_start[t]}^{t} softmax_s(scale * q[t, h] . k[s, h']) v[s, h'],   h' = h
// / (H / H_kv)
template <class S>
void attention(const KernelArgs& args) {
  if (args.state != nullptr) return attention_amx(args);
  const Forward<S> forward{.view = AttentionView<S>(args),
                           .q = ptr<const S>(args.in[0]),
                           .k = ptr<const S>(args.in[1]),
                           .v = ptr<const S>(args.in[2]),
                           .y = ptr<S>(args.out[0]),
                           .lse = ptr<Working<S>>(args.out[1])};
  const auto* segment_start = ptr<const int32_t>(args.in[3]);
  auto* starts = static_cast<int32_t*>(args.scratch);
  const int64_t heads = forward.view.heads;
  const int64_t blocks = find_query_blocks(segment_start, args.in[0].shape()[0], kQueries, starts);
  parallel_for(blocks * heads, [&](int64_t task) {
    const int64_t b = task / heads;
    forward.block(segment_start[starts[b]], starts[b], starts[b + 1], task % heads);
  });
}

MORA_CPU_ACTIVATION_KERNEL(attention)

}  // namespace mora::cpu
