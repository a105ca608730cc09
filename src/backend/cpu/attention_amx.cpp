#include "backend/cpu/attention_amx.hpp"

#include <algorithm>
#include <memory>

#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

constexpr int64_t kQueries = 128, kKeys = 64;  // the scores of a block stay in the nearest cache

// 16 queries, which are the lanes.
struct Lanes {
  Vec<float> largest = Vec<float>{} - std::numeric_limits<float>::infinity(), total{};

  // Of scores in rows kQueries apart, -infinity where they do not count; returns by how much what
  // was summed before shrinks. Weights, relative to the largest score so far, go to the packed B of
  // the next product as rounded pairs of keys.
  Vec<float> absorb(const float* scores, int64_t keys, float scale, bf16* weights) {
    Vec<float> top = largest;
    for (int64_t j = 0; j < keys; ++j) {
      const Vec<float> v = load(scores + j * kQueries);
      top = v > top ? v : top;
    }
    const Vec<float> shrink = exponential_of_negative(scale * (largest - top));
    Vec<float> even{}, odd{};
    for (int64_t j = 0; j < keys; j += 2) {
      const float* row = scores + j * kQueries;
      const Vec<float> first = exponential_of_negative(scale * (load(row) - top)),
                       second = exponential_of_negative(scale * (load(row + kQueries) - top));
      even += first;
      odd += second;
      store(reinterpret_cast<uint32_t*>(weights + j * amx::kTile),
            rounded(first) >> 16 | (rounded(second) & 0xffff0000u));
    }
    total = total * shrink + (even + odd);
    largest = top;
    return shrink;
  }

 private:
  // To nearest even, to the upper 16 bits.
  static Words rounded(Vec<float> v) {
    const Words u = reinterpret_cast<const Words&>(v);
    return u + 0x7fffu + (u >> 16 & 1u);
  }
  static void store(uint32_t* to, Words words) { *reinterpret_cast<Words*>(to) = words; }
};

bool any_shrinks(Vec<float> shrink) {
  const auto differs = shrink != 1.0f;
  return std::ranges::any_of(reinterpret_cast<const int32_t(&)[16]>(differs),
                             [](int32_t lane) { return lane != 0; });
}

// Scores and sums stand transposed, queries along the rows: so the softmax needs no sums across
// lanes.
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
    Lanes lanes[kQueries / amx::kTile];
    std::fill_n(sum, head_dim * kQueries, 0.0f);
    amx::pack_b(amx::Rows{view.row(q, begin, h), view.width}, Transpose::yes, head_dim, n, queries);
    amx::Tiles tiles;
    for (int64_t s = start; s < end; s += kKeys) {
      const int64_t m = std::min(kKeys, end - s),
                    keys = (m + amx::kDepth - 1) / amx::kDepth * amx::kDepth;
      amx::multiply(tiles, m, n, {head_dim, {view.kv_row(k, s, h), view.kv_width}, queries}, scores,
                    kQueries, Store::assign);
      hide(scores, s - begin, m, keys);
      for (int64_t i = 0; i < n; i += amx::kTile) {
        const Vec<float> shrink = lanes[i / amx::kTile].absorb(
            scores + i, keys, view.scale, weights + amx::packed_elements(keys, i));
        if (!any_shrinks(shrink)) continue;
        for (int64_t d = 0; d < head_dim; ++d)
          store(sum + d * kQueries + i, shrink * load(sum + d * kQueries + i));
      }
      amx::transpose_a({view.kv_row(v, s, h), view.kv_width}, head_dim, m, values, kKeys);
      amx::multiply(tiles, head_dim, n, {keys, {values, kKeys}, weights}, sum, kQueries,
                    Store::add);
    }
    for (int64_t i = 0; i < n; i += amx::kTile)
      write(begin + i, std::min(amx::kTile, n - i), h, lanes[i / amx::kTile], sum + i);
  }

  // Keys behind a query, the first of them `ahead` of the first query, and those behind m.
  static void hide(float* scores, int64_t ahead, int64_t m, int64_t keys) {
    constexpr float kNever = -std::numeric_limits<float>::infinity();
    for (int64_t j = std::max<int64_t>(0, 1 - ahead); j < m; ++j)
      std::fill_n(scores + j * kQueries, std::min(kQueries, ahead + j), kNever);
    std::fill(scores + m * kQueries, scores + keys * kQueries, kNever);
  }

  // n queries from t on.
  void write(int64_t t, int64_t n, int64_t h, const Lanes& lanes, const float* sum) const {
    const Vec<float> inverse = 1.0f / lanes.total;
    for (int64_t d = 0; y != nullptr && d < view.head_dim; d += amx::kTile) {
      Vec<float> rows[amx::kTile];
      for (int64_t i = 0; i < amx::kTile; ++i) rows[i] = inverse * load(sum + (d + i) * kQueries);
      transpose(rows);
      for (int64_t i = 0; i < n; ++i)
        store(y + (t + i) * view.width + h * view.head_dim + d, rows[i]);
    }
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
