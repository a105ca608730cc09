// The gradient of attention as attention_grad.cpp has it, one head of one segment a task, over bf16
// by AMX. Scores and what follows from them stand transposed, a row for each key: so they are rows
// of A for dk and dv, and lse is a vector along the queries.
#include <algorithm>
#include <memory>
#include <numbers>

#include "backend/cpu/attention_amx.hpp"
#include "backend/cpu/head_sums.hpp"
#include "backend/cpu/softmax_lanes.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

constexpr int64_t kQueries = kLaneQueries, kKeys = 64;  // of a square
constexpr int64_t kKeyBlock = 256;                      // keys whose dS waits for the product of dq

// A block of queries as the products want it.
struct Queries {
  int64_t first, n;
  alignas(64) bf16 q_t[kQueries * kMaxHeadDim], dy_t[kQueries * kMaxHeadDim];  // [K, n]
  alignas(64) bf16 q[kQueries * kMaxHeadDim], dy[kQueries * kMaxHeadDim];      // [n, K]
  float lse[kQueries], delta[kQueries];                                        // lse: to base 2
  alignas(64) float dq[kMaxHeadDim * kQueries];                                // [K, n]
};

// What a head of a segment keeps: its keys, [K, kKeyBlock] of every block, and sums of [T, K].
struct Head {
  bf16* keys;
  float *dk, *dv;
};

struct Square {
  alignas(64) float p[kKeys * kQueries], dp[kKeys * kQueries];
  alignas(64) bf16 weights[kKeys * kQueries], ds[kKeys * kQueries];
};

struct BackwardAmx {
  AttentionView<bf16> view;
  const bf16 *q, *k, *v, *y, *dy;
  const float* lse;
  bf16* dq;        // [T, H*K], or null
  float *dk, *dv;  // [T, H*K] each

  // The segment [start, stop), head h.
  void segment(int64_t start, int64_t stop, int64_t h, const Head& head) const {
    const int64_t head_dim = view.head_dim, tokens = stop - start;
    for (int64_t s = 0; s < tokens; s += kKeyBlock)
      amx::transpose_a({view.kv_row(k, start + s, h), view.kv_width}, head_dim,
                       std::min(kKeyBlock, tokens - s), head.keys + s * head_dim, kKeyBlock);
    std::fill_n(head.dk, tokens * head_dim, 0.0f);
    std::fill_n(head.dv, tokens * head_dim, 0.0f);
    Queries queries;
    amx::Tiles tiles;
    for (int64_t t = start; t < stop; t += kQueries) {
      take(t, std::min(kQueries, stop - t), h, queries);
      for (int64_t s = start; s < t + queries.n; s += kKeyBlock)
        against(queries, start, s, std::min(kKeyBlock, t + queries.n - s), h, head, tiles);
      for (int64_t i = 0; dq != nullptr && i < queries.n; i += amx::kTile)
        write_lanes(view, t + i, std::min(amx::kTile, queries.n - i), h, queries.dq + i,
                    Vec<float>{} + view.scale, dq);
    }
    copy_rows(head.dk, start, tokens, h, view.scale, dk);
    copy_rows(head.dv, start, tokens, h, 1.0f, dv);
    finish_streaming();
  }

  // To where the heads are added up when all are there.
  void copy_rows(const float* from, int64_t start, int64_t tokens, int64_t h, float factor,
                 float* to) const {
    for (int64_t j = 0; j < tokens; ++j) {
      float* row = to + (start + j) * view.width + h * view.head_dim;
      for (int64_t d = 0; d < view.head_dim; d += kLanes<float>)
        stream(row + d, factor * load(from + j * view.head_dim + d));
    }
  }

  // Queries [t, t + n): those behind n get no weight.
  void take(int64_t t, int64_t n, int64_t h, Queries& x) const {
    const int64_t head_dim = view.head_dim;
    x.first = t;
    x.n = n;
    const amx::Rows queries{view.row(q, t, h), view.width}, grads{view.row(dy, t, h), view.width};
    amx::pack_b(queries, Transpose::yes, head_dim, n, x.q_t);
    amx::pack_b(grads, Transpose::yes, head_dim, n, x.dy_t);
    amx::pack_b(queries, Transpose::no, n, head_dim, x.q);
    amx::pack_b(grads, Transpose::no, n, head_dim, x.dy);
    std::fill_n(x.lse, kQueries, std::numeric_limits<float>::infinity());
    std::fill_n(x.delta, kQueries, 0.0f);
    for (int64_t i = 0; i < n; ++i) {
      x.lse[i] = std::numbers::log2e_v<float> * lse[(t + i) * view.heads + h];
      x.delta[i] = dot(view.row(dy, t + i, h), view.row(y, t + i, h), head_dim);
    }
    std::fill_n(x.dq, head_dim * kQueries, 0.0f);
  }

  // Queries against keys [s, s + m) of the segment from `start` on.
  void against(Queries& x, int64_t start, int64_t s, int64_t m, int64_t h, const Head& head,
               amx::Tiles& tiles) const {
    const int64_t head_dim = view.head_dim;
    alignas(64) bf16 ds[kKeyBlock * kQueries];  // [m, n]
    Square square;
    for (int64_t j = 0; j < m; j += kKeys) {
      const int64_t keys = std::min(kKeys, m - j), at = s + j - start;
      // Queries of blocks in front of these keys see none of them.
      const int64_t first = std::max<int64_t>(0, s + j - x.first) / amx::kBlock * amx::kBlock;
      weigh(x, first, s + j, keys, h, square, tiles);
      const int64_t rest = rounded_up(x.n, amx::kDepth) - first;
      amx::multiply(tiles, keys, head_dim,
                    {rest, {square.weights + first, kQueries}, x.dy + first * amx::kTile, x.n},
                    head.dv + at * head_dim, head_dim, Store::add);
      amx::multiply(tiles, keys, head_dim,
                    {rest, {square.ds + first, kQueries}, x.q + first * amx::kTile, x.n},
                    head.dk + at * head_dim, head_dim, Store::add);
      for (int64_t i = 0; i < x.n; i += amx::kTile) {
        bf16* to = ds + amx::packed_elements(kKeyBlock, i) + j * amx::kTile;
        if (i < first)
          std::fill_n(to, amx::packed_elements(keys, amx::kTile), bf16(0.0f));
        else
          amx::pack_b(amx::Rows{square.ds + i, kQueries}, Transpose::no, keys, amx::kTile, to);
      }
    }
    // dq += dS k
    amx::multiply(tiles, head_dim, x.n,
                  {rounded_up(m, amx::kDepth),
                   {head.keys + (s - start) * head_dim, kKeyBlock},
                   ds,
                   kKeyBlock},
                  x.dq, kQueries, Store::add);
  }

  // P = exp(scale * score - lse),  dS = P * (dP - delta), which lacks scale, of keys [s, s + m)
  // and queries from `first` on, transposed
  void weigh(const Queries& x, int64_t first, int64_t s, int64_t m, int64_t h, Square& square,
             amx::Tiles& tiles) const {
    const int64_t head_dim = view.head_dim, skipped = amx::packed_elements(head_dim, first);
    amx::multiply(tiles, m, x.n - first,
                  {head_dim, {view.kv_row(k, s, h), view.kv_width}, x.q_t + skipped},
                  square.p + first, kQueries, Store::assign);
    amx::multiply(tiles, m, x.n - first,
                  {head_dim, {view.kv_row(v, s, h), view.kv_width}, x.dy_t + skipped},
                  square.dp + first, kQueries, Store::assign);
    const float scale = std::numbers::log2e_v<float> * view.scale;
    // Behind the last query nothing was multiplied.
    const int64_t multiplied = rounded_up(x.n, amx::kTile), end = rounded_up(x.n, amx::kDepth);
    for (int64_t j = 0; j < m; ++j) {
      float *p = square.p + j * kQueries, *dp = square.dp + j * kQueries;
      for (int64_t i = multiplied; i < end; ++i) p[i] = dp[i] = 0.0f;
    }
    hide(square.p, s - x.first, m, m);
    for (int64_t j = 0; j < m; ++j) {
      const float *p = square.p + j * kQueries, *dp = square.dp + j * kQueries;
      for (int64_t i = first; i < end; i += kLanes<float>) {
        const Vec<float> weight = power_of_two(scale * load(p + i) - load(x.lse + i));
        store(square.weights + j * kQueries + i, weight);
        store(square.ds + j * kQueries + i, weight * (load(dp + i) - load(x.delta + i)));
      }
    }
  }
};

// Where what stands in scratch memory, one behind the other.
struct Places {
  size_t starts, sums;  // sums: of dk and of dv, so many bytes each
  size_t keys, head;    // of a task: its keys, and sums of dk and of dv
  int64_t slots = thread_count();

  size_t slot() const { return keys + 2 * head; }
};

}  // namespace

Prepared prepare_attention_grad_amx(const OpCall& call) {
  const int64_t tokens = call.in[0].shape[0], heads = call.attrs.as<AttentionAttrs>().heads,
                head_dim = call.in[0].shape.last() / heads;
  auto places = std::make_shared<Places>();
  places->starts = scratch_room(tokens + 1, DType::i32);
  places->sums = scratch_room(call.in[0].shape.elements(), DType::f32);
  places->keys = scratch_room(rounded_up(tokens, kKeyBlock) * head_dim, DType::bf16);
  places->head = scratch_room(tokens * head_dim, DType::f32);
  return {places->starts + 2 * places->sums + places->slot() * static_cast<size_t>(places->slots),
          places};
}

void attention_grad_amx(const KernelArgs& args) {
  const auto& places = *static_cast<const Places*>(args.state);
  const int64_t tokens = args.in[0].shape()[0];
  auto* scratch = static_cast<std::byte*>(args.scratch);
  auto* starts = reinterpret_cast<int32_t*>(scratch);
  auto *dk = scratch + places.starts, *dv = dk + places.sums, *slots = dv + places.sums;
  const BackwardAmx backward{.view = AttentionView<bf16>(args),
                             .q = ptr<const bf16>(args.in[0]),
                             .k = ptr<const bf16>(args.in[1]),
                             .v = ptr<const bf16>(args.in[2]),
                             .y = ptr<const bf16>(args.in[4]),
                             .dy = ptr<const bf16>(args.in[6]),
                             .lse = ptr<const float>(args.in[5]),
                             .dq = ptr<bf16>(args.out[0]),
                             .dk = reinterpret_cast<float*>(dk),
                             .dv = reinterpret_cast<float*>(dv)};
  const AttentionView<bf16>& view = backward.view;
  const int64_t segments = find_segments(ptr<const int32_t>(args.in[3]), tokens, starts);
  for_panels(segments * view.heads, places.slots, [&](int64_t task, int64_t slot) {
    const int64_t s = task / view.heads;
    auto* room = slots + static_cast<size_t>(slot) * places.slot();
    const Head head{reinterpret_cast<bf16*>(room), reinterpret_cast<float*>(room + places.keys),
                    reinterpret_cast<float*>(room + places.keys + places.head)};
    backward.segment(starts[s], starts[s + 1], task % view.heads, head);
  });
  sum_groups(view, backward.dk, tokens, view.group, ptr<bf16>(args.out[1]));
  sum_groups(view, backward.dv, tokens, view.group, ptr<bf16>(args.out[2]));
}

}  // namespace mora::cpu
