#include "backend/cpu/attention_amx.hpp"

#include <algorithm>
#include <memory>
#include <numbers>

#include "backend/cpu/softmax_lanes.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

constexpr int64_t kQueries = kLaneQueries, kKeys = 64;  // whose scores stay in the nearest cache

// To the nearest number of the upper 16 bits.
Words rounded(Vec<float> v) {
  return words_of(v) + 0x8000u;
}

// Takes in scores, -infinity where they do not count; returns by how much what was summed before
// shrinks. Weights, relative to the largest score so far, go to the packed B of the next product as
// rounded pairs of keys.
Vec<float> absorb(SoftmaxLanes<float>& lanes, const float* scores, int64_t keys, float scale,
                  bf16* weights) {
  const Vec<float> top = lanes.top(scores, keys),
                   shrink = power_of_two(scale * (lanes.largest - top)), shift = scale * top;
  Vec<float> even{}, odd{};
  for (int64_t j = 0; j < keys; j += 2) {
    const float* row = scores + j * kQueries;
    const Vec<float> first = power_of_two(scale * load(row) - shift),
                     second = power_of_two(scale * load(row + kQueries) - shift);
    even += first;
    odd += second;
    store_words(weights + j * amx::kTile, rounded(first) >> 16 | (rounded(second) & 0xffff0000u));
  }
  lanes.add(top, shrink, even + odd);
  return shrink;
}

struct ForwardAmx {
  AttentionView<bf16> view;
  const bf16 *q, *k, *v;
  bf16* y;
  float* lse;

  // Queries [begin, end) of one segment that starts at `start`, head h.
  void block(int64_t start, int64_t begin, int64_t end, int64_t h) const {
    const int64_t n = end - begin, head_dim = view.head_dim;
    alignas(64) bf16 queries[kQueries * kMaxHeadDim], values[kMaxHeadDim * kKeys],
        weights[kKeys * kQueries];
    alignas(64) float scores[kKeys * kQueries], sum[kMaxHeadDim * kQueries];
    SoftmaxLanes<float> lanes[kQueries / amx::kTile];
    std::fill_n(sum, head_dim * kQueries, 0.0f);
    amx::pack_b(amx::Rows{view.row(q, begin, h), view.width}, Transpose::yes, head_dim, n, queries);
    amx::Tiles tiles;
    for (int64_t s = start; s < end; s += kKeys) {
      const int64_t m = std::min(kKeys, end - s), keys = rounded_up(m, amx::kDepth);
      // Queries of blocks in front of these keys see none of them.
      const int64_t first = std::max<int64_t>(0, s - begin) / amx::kBlock * amx::kBlock;
      amx::multiply(tiles, m, n - first,
                    {head_dim,
                     {view.kv_row(k, s, h), view.kv_width},
                     queries + amx::packed_elements(head_dim, first)},
                    scores + first, kQueries, Store::assign);
      hide(scores, s - begin, m, keys);
      for (int64_t i = first; i < n; i += amx::kTile) {
        shrink_sums(sum + i, head_dim,
                    absorb(lanes[i / amx::kTile], scores + i, keys,
                           std::numbers::log2e_v<float> * view.scale,
                           weights + amx::packed_elements(keys, i)));
      }
      amx::transpose_a({view.kv_row(v, s, h), view.kv_width}, head_dim, m, values, kKeys);
      amx::multiply(tiles, head_dim, n - first,
                    {keys, {values, kKeys}, weights + amx::packed_elements(keys, first)},
                    sum + first, kQueries, Store::add);
    }
    for (int64_t i = 0; i < n; i += amx::kTile)
      write(begin + i, std::min(amx::kTile, n - i), h, lanes[i / amx::kTile], sum + i);
  }

  // n queries from t on.
  void write(int64_t t, int64_t n, int64_t h, const SoftmaxLanes<float>& lanes,
             const float* sums) const {
    if (y != nullptr) write_lanes(view, t, n, h, sums, 1.0f / lanes.total, y);
    for (int64_t i = 0; lse != nullptr && i < n; ++i)
      lse[(t + i) * view.heads + h] = view.scale * lanes.largest[i] + std::log(lanes.total[i]);
  }
};

}  // namespace

Prepared prepare_attention_amx(const OpCall& call) {
  // The state says only which way to go.
  return {scratch_room(call.in[0].shape[0] + 1, DType::i32), std::make_shared<int>()};
}

void attention_amx(const KernelArgs& args) {
  const ForwardAmx forward{.view = AttentionView<bf16>(args),
                           .q = ptr<const bf16>(args.in[0]),
                           .k = ptr<const bf16>(args.in[1]),
                           .v = ptr<const bf16>(args.in[2]),
                           .y = ptr<bf16>(args.out[0]),
                           .lse = ptr<float>(args.out[1])};
  const auto* segment_start = ptr<const int32_t>(args.in[3]);
  auto* starts = static_cast<int32_t*>(args.scratch);
  const int64_t heads = forward.view.heads;
  const int64_t blocks = find_query_blocks(segment_start, args.in[0].shape()[0], kQueries, starts);
  parallel_for(blocks * heads, [&](int64_t task) {
    const int64_t b = task / heads;
    forward.block(segment_start[starts[b]], starts[b], starts[b + 1], task % heads);
  });
}

}  // namespace mora::cpu
