// The gradient of attention as attention_grad.cpp has it, one head of one segment a task, over bf16
// by AMX. Scores and what follows from them stand transposed, a row for each key: so they are rows
// of A for dk and dv, and lse is a vector along the queries.
#include <algorithm>
#include <memory>

#include "backend/cpu/attention_amx.hpp"
#include "backend/cpu/head_sums.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

constexpr int64_t kQueries = 64, kKeys = 64;  // of a square, which stays in the nearest cache
constexpr int64_t kKeyBlock = 256;            // keys that share the packed queries

// A block of queries as the products want it.
struct Queries {
  int64_t first, n;
  alignas(64) bf16 q_t[kQueries * kMaxHeadDim], dy_t[kQueries * kMaxHeadDim];  // [K, n]
  alignas(64) bf16 q[kQueries * kMaxHeadDim], dy[kQueries * kMaxHeadDim];      // [n, K]
  float lse[kQueries], delta[kQueries];
};

// A block of keys and its gradients.
struct Keys {
  int64_t first, m;
  alignas(64) bf16 packed[kKeyBlock * kMaxHeadDim];  // [m, K]
  alignas(64) float dk[kKeyBlock * kMaxHeadDim], dv[kKeyBlock * kMaxHeadDim];
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
  float* deltas;   // [T, H]: dy * y

  // The segment [start, stop), head h; sums: of dq, [stop - start, K].
  void segment(int64_t start, int64_t stop, int64_t h, float* sums) const {
    const int64_t head_dim = view.head_dim;
    for (int64_t t = start; t < stop; ++t)
      deltas[t * view.heads + h] = dot(view.row(dy, t, h), view.row(y, t, h), head_dim);
    std::fill_n(sums, (stop - start) * head_dim, 0.0f);
    Keys keys;
    Queries queries;
    amx::Tiles tiles;
    for (keys.first = start; keys.first < stop; keys.first += kKeyBlock) {
      keys.m = std::min(kKeyBlock, stop - keys.first);
      amx::pack_b(amx::Rows{view.kv_row(k, keys.first, h), view.kv_width}, Transpose::no, keys.m,
                  head_dim, keys.packed);
      std::fill_n(keys.dk, keys.m * head_dim, 0.0f);
      std::fill_n(keys.dv, keys.m * head_dim, 0.0f);
      for (int64_t t = keys.first; t < stop; t += kQueries) {
        take(t, std::min(kQueries, stop - t), h, queries);
        against(queries, keys, h, sums + (t - start) * head_dim, tiles);
      }
      copy_rows(keys.dk, keys, h, dk);
      copy_rows(keys.dv, keys, h, dv);
    }
    for (int64_t t = start; dq != nullptr && t < stop; ++t) {
      for (int64_t d = 0; d < head_dim; d += kLanes<float>)
        store(dq + t * view.width + h * head_dim + d, load(sums + (t - start) * head_dim + d));
    }
  }

  void copy_rows(const float* from, const Keys& keys, int64_t h, float* to) const {
    for (int64_t j = 0; j < keys.m; ++j)
      std::copy_n(from + j * view.head_dim, view.head_dim,
                  to + (keys.first + j) * view.width + h * view.head_dim);
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
      x.lse[i] = lse[(t + i) * view.heads + h];
      x.delta[i] = deltas[(t + i) * view.heads + h];
    }
  }

  // Queries against the keys that they see; dq: of the queries, [n, K].
  void against(const Queries& x, Keys& keys, int64_t h, float* dq_sums, amx::Tiles& tiles) const {
    const int64_t head_dim = view.head_dim, m = std::min(keys.m, x.first + x.n - keys.first);
    alignas(64) bf16 ds[kQueries * kKeyBlock];  // [n, m]
    Square square;
    for (int64_t j = 0; j < m; j += kKeys) {
      const int64_t rows = std::min(kKeys, m - j);
      weigh(x, keys.first + j, rows, h, square, tiles);
      amx::multiply(tiles, rows, head_dim, {x.n, {square.weights, kQueries}, x.dy},
                    keys.dv + j * head_dim, head_dim, Store::add);
      amx::multiply(tiles, rows, head_dim, {x.n, {square.ds, kQueries}, x.q},
                    keys.dk + j * head_dim, head_dim, Store::add);
      amx::transpose_a({square.ds, kQueries}, x.n, rows, ds + j, kKeyBlock);
    }
    // dq += dS k
    amx::multiply(tiles, x.n, head_dim, {m, {ds, kKeyBlock}, keys.packed, keys.m}, dq_sums,
                  head_dim, Store::add);
  }

  // P = exp(scale * score - lse),  dS = scale * P * (dP - delta), of keys [s, s + m), transposed
  void weigh(const Queries& x, int64_t s, int64_t m, int64_t h, Square& square,
             amx::Tiles& tiles) const {
    const int64_t head_dim = view.head_dim;
    amx::multiply(tiles, m, x.n, {head_dim, {view.kv_row(k, s, h), view.kv_width}, x.q_t}, square.p,
                  kQueries, Store::assign);
    amx::multiply(tiles, m, x.n, {head_dim, {view.kv_row(v, s, h), view.kv_width}, x.dy_t},
                  square.dp, kQueries, Store::assign);
    // Queries in front of a key do not see it, and behind the last one nothing was multiplied.
    const int64_t multiplied = rounded_up(x.n, amx::kTile);
    for (int64_t j = 0; j < m; ++j) {
      float *p = square.p + j * kQueries, *dp = square.dp + j * kQueries;
      if (s + j > x.first)
        std::fill_n(p, std::min(x.n, s + j - x.first), -std::numeric_limits<float>::infinity());
      for (int64_t i = multiplied; i < kQueries; ++i) p[i] = dp[i] = 0.0f;
      for (int64_t i = 0; i < kQueries; i += kLanes<float>) {
        const Vec<float> weight =
            exponential_of_negative(view.scale * load(p + i) - load(x.lse + i));
        store(square.weights + j * kQueries + i, weight);
        store(square.ds + j * kQueries + i,
              view.scale * weight * (load(dp + i) - load(x.delta + i)));
      }
    }
  }
};

// Where what stands in scratch memory, one behind the other.
struct Places {
  size_t starts, deltas, sums;  // sums: of dk and of dv, so many bytes each
  size_t slot;                  // sums of dq of a task
  int64_t slots = thread_count();
};

}  // namespace

Prepared prepare_attention_grad_amx(const OpCall& call) {
  const int64_t tokens = call.in[0].shape[0], heads = call.attrs.as<AttentionAttrs>().heads;
  auto places = std::make_shared<Places>();
  places->starts = scratch_room(tokens + 1, DType::i32);
  places->deltas = scratch_room(tokens * heads, DType::f32);
  places->sums = scratch_room(call.in[0].shape.elements(), DType::f32);
  places->slot =
      scratch_room(call.in[0].shape.elements() / std::max<int64_t>(heads, 1), DType::f32);
  return {places->starts + places->deltas + 2 * places->sums +
              places->slot * static_cast<size_t>(places->slots),
          places};
}

void attention_grad_amx(const KernelArgs& args) {
  const auto& places = *static_cast<const Places*>(args.state);
  const int64_t tokens = args.in[0].shape()[0];
  auto* scratch = static_cast<std::byte*>(args.scratch);
  auto* starts = reinterpret_cast<int32_t*>(scratch);
  auto* deltas = scratch + places.starts;
  auto *dk = deltas + places.deltas, *dv = dk + places.sums, *slots = dv + places.sums;
  const BackwardAmx backward{.view = AttentionView<bf16>(args),
                             .q = ptr<const bf16>(args.in[0]),
                             .k = ptr<const bf16>(args.in[1]),
                             .v = ptr<const bf16>(args.in[2]),
                             .y = ptr<const bf16>(args.in[4]),
                             .dy = ptr<const bf16>(args.in[6]),
                             .lse = ptr<const float>(args.in[5]),
                             .dq = ptr<bf16>(args.out[0]),
                             .dk = reinterpret_cast<float*>(dk),
                             .dv = reinterpret_cast<float*>(dv),
                             .deltas = reinterpret_cast<float*>(deltas)};
  const AttentionView<bf16>& view = backward.view;
  const int64_t segments = find_segments(ptr<const int32_t>(args.in[3]), tokens, starts);
  for_panels(segments * view.heads, places.slots, [&](int64_t task, int64_t slot) {
    const int64_t s = task / view.heads;
    backward.segment(starts[s], starts[s + 1], task % view.heads,
                     reinterpret_cast<float*>(slots + static_cast<size_t>(slot) * places.slot));
  });
  sum_groups(view, backward.dk, tokens, view.group, ptr<bf16>(args.out[1]));
  sum_groups(view, backward.dv, tokens, view.group, ptr<bf16>(args.out[2]));
}

}  // namespace mora::cpu
