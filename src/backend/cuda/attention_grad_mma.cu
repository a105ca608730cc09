// The gradient of attention in bf16 on tensor cores (FlashAttention-2, algorithm 2, without
// atomics): four warps with 16 keys each sum dk and dv over the queries that see them, and four
// warps with 16 queries each dq. The rows of the other side come in blocks, the next one copied
// while this one is in use. Scores are made with the rows of the result as rows, so that weights
// are in registers what the next product needs. Formulas stand at attention_grad.cu.
#include "backend/cuda/attention_fragments.hpp"

namespace mora::cuda {

namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr int kOwn = 16, kRows = kWarps * kOwn;  // of a warp and of a block

// Rows of the other side at a time: so many that two blocks fit in a multiprocessor.
constexpr int others_of(int head_dim) {
  return head_dim > 64 ? 32 : 64;
}

using In = AttentionGradIn<bf16>;

// q . k as P and dy . v as dS / scale.
__device__ void recompute(float factor, float lse, float delta, bool sees, float& p, float& ds) {
  p = sees ? fast_exp2(p * factor - lse * kLog2E) : 0;
  ds = sees ? p * (ds - delta) : 0;
}

template <int N>
__device__ void scale_by(float factor, Fragments<1, N>& x) {
  MORA_UNROLL
  for (int n = 0; n < N; ++n) {
    MORA_UNROLL
    for (int e = 0; e < 4; ++e) x[0][n][e] *= factor;
  }
}

// A block of queries of one head, on its way to shared memory.
template <int D>
struct QueryBlock {
  static constexpr int kQueries = others_of(D);

  bf16 q[kQueries * D], dy[kQueries * D];
  float lse[kQueries], delta[kQueries];
  int32_t start[kQueries];

  // Behind the last token q, dy, lse and delta are 0, and so is what they add.
  __device__ void begin_load(const AttentionShape& a, const In& x, int h, int t) {
    HeadTile<D>::template begin_load<kQueries, kThreads>(a.head(x.q, h), t, q);
    HeadTile<D>::template begin_load<kQueries, kThreads>(a.head(x.dy, h), t, dy);
    if (const int i = static_cast<int>(threadIdx.x); i < kQueries) {
      const bool inside = t + i < a.tokens;
      const int query = inside ? t + i : a.tokens - 1;
      const int64_t at = int64_t{query} * a.heads + h;
      const Copied what = inside ? Copied::data : Copied::zeros;
      begin_copy<4>(lse + i, x.lse + at, what);
      begin_copy<4>(delta + i, x.delta + at, what);
      begin_copy<4>(start + i, x.segment_start + query, Copied::data);
    }
  }
};

template <int D>
struct KeyGrad {
  using Tile = HeadTile<D>;
  static constexpr int kQueries = others_of(D);
  Fragments<1, Tile::kChunks> dk, dv;

  // Adds what the queries from t on do to a warp's keys, from `first` on, its rows of keys and
  // values from `row` on.
  __device__ void add(float factor, const bf16* keys, const bf16* values, int row, int first,
                      const QueryBlock<D>& queries, int t) {
    if (t + kQueries <= first || queries.start[0] >= first + kOwn) return;
    const bool all = t >= first + kOwn - 1 && queries.start[kQueries - 1] <= first;
    Fragments<1, kQueries / 8> p, ds;
    Tile::template multiply<1, kQueries / 8>(keys, row, queries.q, p);
    Tile::template multiply<1, kQueries / 8>(values, row, queries.dy, ds);
    MORA_UNROLL
    for (int n = 0; n < kQueries / 8; ++n) {
      MORA_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int i = 8 * n + fragment_column(e), key = first + fragment_row(e);
        const bool sees = all || (queries.start[i] <= key && key <= t + i);
        recompute(factor, queries.lse[i], queries.delta[i], sees, p[0][n][e], ds[0][n][e]);
      }
    }
    Tile::template add<1, kQueries / 8>(p, queries.dy, dv);
    Tile::template add<1, kQueries / 8>(ds, queries.q, dk);
  }
};

template <int D>
__global__ void __launch_bounds__(kThreads)
    attention_grad_kv_mma_kernel(AttentionShape a, In x, bf16* dk, bf16* dv) {
  using Tile = HeadTile<D>;
  auto* blocks = dynamic_shared<QueryBlock<D>>();
  bf16 *keys = reinterpret_cast<bf16*>(blocks + 2), *values = keys + kRows * D;
  const int kv = static_cast<int>(blockIdx.x) % a.kv_heads,
            s = static_cast<int>(blockIdx.x) / a.kv_heads * kRows,
            last = (s + kRows < a.tokens ? s + kRows : a.tokens) - 1,
            end = end_of_queries(x.segment_start, last, a.tokens), row = warp_id() * kOwn;
  const float factor = static_cast<float>(a.scale) * kLog2E;
  Tile::template begin_load<kRows, kThreads>(a.kv_head(x.k, kv), s, keys);
  Tile::template begin_load<kRows, kThreads>(a.kv_head(x.v, kv), s, values);
  int h = kv * a.group(), t = s, now = 0;
  const int end_of_heads = h + a.group();
  blocks[now].begin_load(a, x, h, t);
  KeyGrad<D> grad;
  clear<1, Tile::kChunks>(grad.dk);
  clear<1, Tile::kChunks>(grad.dv);
  while (h < end_of_heads) {
    const int this_t = t;
    t += QueryBlock<D>::kQueries;
    if (t >= end) {
      t = s;
      ++h;
    }
    wait_for_copies();
    __syncthreads();  // these are there, and nobody reads those before
    if (h < end_of_heads) blocks[1 - now].begin_load(a, x, h, t);
    grad.add(factor, keys, values, row, s + row, blocks[now], this_t);
    now = 1 - now;
  }
  scale_by(static_cast<float>(a.scale), grad.dk);
  if (dk != nullptr) Tile::template write<1>(grad.dk, keys, row, s + row, a.kv_head(dk, kv));
  if (dv != nullptr) Tile::template write<1>(grad.dv, values, row, s + row, a.kv_head(dv, kv));
}

// What belongs to a lane's rows of queries.
struct LaneQueries {
  int t[2], start[2];
  float lse[2], delta[2];

  __device__ LaneQueries(const AttentionShape& a, const In& x, int h, int first) {
    MORA_UNROLL
    for (int i = 0; i < 2; ++i) {
      t[i] = first + fragment_row(2 * i);
      const int query = t[i] < a.tokens ? t[i] : a.tokens - 1;
      const int64_t at = int64_t{query} * a.heads + h;
      start[i] = x.segment_start[query];
      lse[i] = x.lse[at];
      delta[i] = x.delta[at];
    }
  }
};

template <int D>
__global__ void __launch_bounds__(kThreads)
    attention_grad_q_mma_kernel(AttentionShape a, In x, bf16* dq) {
  using Tile = HeadTile<D>;
  constexpr int kKeys = others_of(D);
  bf16* queries = dynamic_shared<bf16>();
  bf16 *dys = queries + kRows * D, *keys = dys + kRows * D,
       *values = keys + 2 * kKeys * D;  // two blocks each
  const int h = static_cast<int>(blockIdx.x) % a.heads,
            begin = static_cast<int>(gridDim.x - 1 - blockIdx.x) / a.heads * kRows,
            end = begin + kRows < a.tokens ? begin + kRows : a.tokens, row = warp_id() * kOwn,
            first = begin + row;
  const HeadRows<const bf16> k = a.kv_head(x.k, h / a.group()), v = a.kv_head(x.v, h / a.group());
  const float factor = static_cast<float>(a.scale) * kLog2E;
  const auto start_of = [&](int t) { return x.segment_start[t < a.tokens ? t : a.tokens - 1]; };
  const int first_key = start_of(begin), first_start = start_of(first),
            last_start = start_of(first + kOwn - 1);
  Tile::template begin_load<kRows, kThreads>(a.head(x.q, h), begin, queries);
  Tile::template begin_load<kRows, kThreads>(a.head(x.dy, h), begin, dys);
  Tile::template begin_load<kKeys, kThreads>(k, first_key, keys);
  Tile::template begin_load<kKeys, kThreads>(v, first_key, values);
  const LaneQueries lane(a, x, h, first);
  Fragments<1, Tile::kChunks> sums;
  clear<1, Tile::kChunks>(sums);
  int now = 0;  // where the blocks in use begin
  for (int s = first_key; s < end; s += kKeys) {
    const int next = now ^ kKeys * D;
    wait_for_copies();
    __syncthreads();  // these are there, and nobody reads those before
    if (s + kKeys < end) {
      Tile::template begin_load<kKeys, kThreads>(k, s + kKeys, keys + next);
      Tile::template begin_load<kKeys, kThreads>(v, s + kKeys, values + next);
    }
    if (s < first + kOwn && s + kKeys > first_start) {
      const bool all = s + kKeys - 1 <= first && s >= last_start;
      Fragments<1, kKeys / 8> p, ds;
      Tile::template multiply<1, kKeys / 8>(queries, row, keys + now, p);
      Tile::template multiply<1, kKeys / 8>(dys, row, values + now, ds);
      MORA_UNROLL
      for (int n = 0; n < kKeys / 8; ++n) {
        MORA_UNROLL
        for (int e = 0; e < 4; ++e) {
          const int key = s + 8 * n + fragment_column(e), i = e / 2;
          const bool sees = all || (lane.start[i] <= key && key <= lane.t[i]);
          recompute(factor, lane.lse[i], lane.delta[i], sees, p[0][n][e], ds[0][n][e]);
        }
      }
      Tile::template add<1, kKeys / 8>(ds, keys + now, sums);
    }
    now = next;
  }
  scale_by(static_cast<float>(a.scale), sums);
  Tile::template write<1>(sums, queries, row, first, a.head(dq, h));
}

template <int D>
void attention_grad_of(const KernelArgs& args, const AttentionShape& shape) {
  const In in = attention_grad_in<bf16>(args);
  auto *dq = ptr<bf16>(args.out[0]), *dk = ptr<bf16>(args.out[1]), *dv = ptr<bf16>(args.out[2]);
  const int blocks = (shape.tokens + kRows - 1) / kRows;
  if (dk != nullptr || dv != nullptr) {
    launch({.blocks = dim3(static_cast<unsigned>(blocks * shape.kv_heads)),
            .threads = dim3(kThreads),
            .shared_bytes = 2 * sizeof(QueryBlock<D>) + 2 * kRows * D * sizeof(bf16)},
           &attention_grad_kv_mma_kernel<D>, shape, in, dk, dv);
  }
  if (dq == nullptr) return;
  launch({.blocks = dim3(static_cast<unsigned>(blocks * shape.heads)),
          .threads = dim3(kThreads),
          .shared_bytes = (2 * kRows + 4 * others_of(D)) * D * sizeof(bf16)},
         &attention_grad_q_mma_kernel<D>, shape, in, dq);
}

}  // namespace

void attention_grad_mma(const KernelArgs& args) {
  const AttentionShape shape = attention_shape<bf16>(args);
  if (shape.head_dim <= 64) return attention_grad_of<64>(args, shape);
  attention_grad_of<128>(args, shape);
}

}  // namespace mora::cuda
