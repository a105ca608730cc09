// Causal attention with a streaming softmax (Milakov & Gimelshein 2018; FlashAttention-2's loop
// order): for a block of queries the keys of its segment are visited in blocks, so only kQueries *
// kKeys scores ever exist.
//                                         q, y: [T, H*K]  k, v: [T, H_kv*K]  lse: [T, H]
#include <algorithm>

#include "backend/cpu/attention_amx.hpp"
#include "backend/cpu/attention_block.hpp"
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/pieces.hpp"
#include "backend/cpu/segments.hpp"
#include "backend/cpu/softmax_lanes.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

Prepared prepare_attention(const OpCall& call, MatmulProvider provider) {
  check_head_dim(call);
  if (takes_amx_attention(call, provider)) return prepare_attention_amx(call);
  return {static_cast<size_t>(call.in[0].shape[0] + 1) * sizeof(int32_t), nullptr};
}

namespace {

// Keys whose scores stay in the nearest cache; fewer where some queries do not see all of them.
constexpr int64_t kQueries = kLaneQueries, kKeys = 64, kKeysInSight = 32;

template <class S>
struct Forward {
  using T = Working<S>;
  static constexpr int64_t kLane = kLanes<T>;
  AttentionView<S> view;
  const S *q, *k, *v;
  S* y;
  T* lse;

  // Queries [begin, end) of one segment that starts at `start`, head h.
  void block(int64_t start, int64_t begin, int64_t end, int64_t h) const {
    const int64_t head_dim = view.head_dim, n = rounded_up(end - begin, kLane);
    alignas(64) T queries[kMaxHeadDim * kQueries], scores[kKeys * kQueries],
        sums[kMaxHeadDim * kQueries];
    typename AttentionView<S>::Room room;
    SoftmaxLanes<T> lanes[kQueries / kLane];
    std::fill_n(sums, head_dim * kQueries, T(0));
    view.transposed(q, begin, end - begin, h, view.scale, queries, kQueries);
    for (int64_t d = 0; d < head_dim; ++d)
      std::fill(queries + d * kQueries + end - begin, queries + d * kQueries + n, T(0));
    for (int64_t s = start, m = 0; s < end; s += m) {
      m = std::min(s + kKeys <= begin ? kKeys : kKeysInSight, end - s);
      // The queries before see none of these keys.
      const int64_t first = std::max<int64_t>(0, s - begin) / kLane * kLane;
      const Strided<T> keys = view.kv_rows(k, s, m, h, room);
      block_gemm<T>(m, n - first, head_dim, keys, queries + first, kQueries, scores + first,
                    kQueries, Store::assign);
      hide(scores, s - begin, m, m);
      for (int64_t i = first; i < n; i += kLane)
        shrink_sums(sums + i, head_dim, absorb(lanes[i / kLane], scores + i, m));
      const Strided<T> values = view.kv_rows(v, s, m, h, room);
      block_gemm<T>(head_dim, n - first, m, {values.data, 1, values.row}, scores + first, kQueries,
                    sums + first, kQueries, Store::add);
    }
    for (int64_t i = 0; i < n; i += kLane)
      write(begin + i, std::min(kLane, end - begin - i), h, lanes[i / kLane], sums + i);
  }

  // Turns scores into weights relative to the largest so far; returns by how much what was summed
  // before shrinks.
  static Vec<T> absorb(SoftmaxLanes<T>& lanes, T* scores, int64_t keys) {
    const Vec<T> top = lanes.top(scores, keys),
                 shrink = exponential_of_negative(lanes.largest - top);
    Vec<T> sum{};
    for (int64_t j = 0; j < keys; ++j) {
      const Vec<T> weight = exponential_of_negative(load(scores + j * kQueries) - top);
      store(scores + j * kQueries, weight);
      sum += weight;
    }
    lanes.add(top, shrink, sum);
    return shrink;
  }

  // n queries from t on.
  void write(int64_t t, int64_t n, int64_t h, const SoftmaxLanes<T>& lanes, const T* sums) const {
    if (y != nullptr) write_lanes(view, t, n, h, sums, T(1) / lanes.total, y);
    for (int64_t i = 0; lse != nullptr && i < n; ++i)
      lse[(t + i) * view.heads + h] = lanes.largest[i] + std::log(lanes.total[i]);
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
