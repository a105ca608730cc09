// Attention in bf16 on tensor cores (FlashAttention-2): four warps with 32 queries each, so that
// what is read of keys and values serves two rows of fragments. The next keys and values are copied
// while these are in use; scores and weights stay in registers. Formulas stand at attention.cu.
#include <cmath>
#include <limits>

#include "backend/cuda/attention_fragments.hpp"

namespace mora::cuda {

bool takes_tensor_cores(const AttentionShape& shape) {
  return shape.access == RowAccess::packs && shape.head_dim <= 128 && shape.scale > 0;
}

namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr int kRowTiles = 2, kOwnQueries = 16 * kRowTiles;  // of a warp
constexpr int kQueries = kWarps * kOwnQueries;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <int Keys>
using Scores = Fragments<kRowTiles, Keys / 8>;

struct Operands {
  const bf16 *q, *k, *v;
  const int32_t* segment_start;
  bf16* y;     // null: not read
  float* lse;  // null: not read
};

// Over the four lanes that share rows.
__device__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// The queries of a warp, from `first` on.
struct OwnQueries {
  const int32_t* segment_start;
  int first, tokens, start, last_start;  // of the segments of the first and of the last query

  __device__ OwnQueries(const int32_t* segment_start_, int first_, int tokens_)
      : segment_start(segment_start_), first(first_), tokens(tokens_) {
    start = start_of(first);
    last_start = start_of(first + kOwnQueries - 1);
  }

  __device__ int start_of(int t) const { return segment_start[t < tokens ? t : tokens - 1]; }
  __device__ int row(int m, int i) const { return first + 16 * m + fragment_row(2 * i); }
  // Of the keys [s, end).
  __device__ bool see_any(int s, int end) const { return s < first + kOwnQueries && end > start; }
  __device__ bool see_all(int s, int end) const { return end - 1 <= first && s >= last_start; }

  template <int Keys>
  __device__ void hide(int s, Scores<Keys>& scores) const {
    MORA_UNROLL
    for (int m = 0; m < kRowTiles; ++m) {
      MORA_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int t = row(m, i), first_seen = start_of(t);
        MORA_UNROLL
        for (int n = 0; n < Keys / 8; ++n) {
          MORA_UNROLL
          for (int e = 2 * i; e < 2 * i + 2; ++e) {
            const int key = s + 8 * n + fragment_column(e);
            if (key < first_seen || key > t) scores[m][n][e] = -kInfinity;
          }
        }
      }
    }
  }
};

// The streaming softmax of a lane's rows; total: of its own columns.
struct Softmax {
  float largest[kRowTiles][2], total[kRowTiles][2];

  __device__ Softmax() {
    MORA_UNROLL
    for (int m = 0; m < kRowTiles; ++m) {
      MORA_UNROLL
      for (int i = 0; i < 2; ++i) {
        largest[m][i] = -kInfinity;
        total[m][i] = 0;
      }
    }
  }

  // Turns scores before scaling, -inf where a key is not seen, into weights relative to the largest
  // so far. factor: scale * log2(e), so that 2^x does.
  template <int Keys, int N>
  __device__ void absorb(float factor, Scores<Keys>& scores, Fragments<kRowTiles, N>& sums) {
    MORA_UNROLL
    for (int m = 0; m < kRowTiles; ++m) {
      MORA_UNROLL
      for (int i = 0; i < 2; ++i) {
        float top = -kInfinity;
        MORA_UNROLL
        for (int n = 0; n < Keys / 8; ++n)
          top = fmaxf(top, fmaxf(scores[m][n][2 * i], scores[m][n][2 * i + 1]));
        top = fmaxf(quad_max(top), largest[m][i]);
        const float shift = top == -kInfinity ? 0 : top * factor;  // -inf: nothing seen so far
        const float shrink = fast_exp2(largest[m][i] * factor - shift);
        float sum = 0;
        MORA_UNROLL
        for (int n = 0; n < Keys / 8; ++n) {
          MORA_UNROLL
          for (int e = 2 * i; e < 2 * i + 2; ++e) {
            scores[m][n][e] = fast_exp2(scores[m][n][e] * factor - shift);
            sum += scores[m][n][e];
          }
        }
        total[m][i] = total[m][i] * shrink + sum;
        largest[m][i] = top;
        MORA_UNROLL
        for (int n = 0; n < N; ++n) {
          sums[m][n][2 * i] *= shrink;
          sums[m][n][2 * i + 1] *= shrink;
        }
      }
    }
  }
};

// Keys at a time: so many that scores and sums still fit in registers.
constexpr int keys_of(int head_dim) {
  return head_dim > 64 ? 32 : 64;
}

template <int D>
__global__ void __launch_bounds__(kThreads) attention_mma_kernel(AttentionShape a, Operands x) {
  using Tile = HeadTile<D>;
  constexpr int kKeys = keys_of(D);
  bf16* queries = dynamic_shared<bf16>();
  bf16 *keys = queries + kQueries * D, *values = keys + 2 * kKeys * D;  // two blocks each
  // The last queries of a segment see most keys: they begin first.
  const int h = static_cast<int>(blockIdx.x) % a.heads,
            begin = static_cast<int>(gridDim.x - 1 - blockIdx.x) / a.heads * kQueries,
            end = begin + kQueries < a.tokens ? begin + kQueries : a.tokens,
            first_key = x.segment_start[begin], own_row = warp_id() * kOwnQueries;
  const HeadRows<const bf16> k = a.kv_head(x.k, h / a.group()), v = a.kv_head(x.v, h / a.group());
  const float factor = static_cast<float>(a.scale) * kLog2E;
  Tile::template begin_load<kQueries, kThreads>(a.head(x.q, h), begin, queries);
  Tile::template begin_load<kKeys, kThreads>(k, first_key, keys);
  Tile::template begin_load<kKeys, kThreads>(v, first_key, values);
  const OwnQueries own(x.segment_start, begin + own_row, a.tokens);
  Softmax softmax;
  Fragments<kRowTiles, Tile::kChunks> sums;
  clear<kRowTiles, Tile::kChunks>(sums);
  int now = 0;  // where the blocks in use begin
  for (int s = first_key; s < end; s += kKeys) {
    const int next = now ^ kKeys * D;
    wait_for_copies();
    __syncthreads();  // these are there, and nobody reads those before
    if (s + kKeys < end) {
      Tile::template begin_load<kKeys, kThreads>(k, s + kKeys, keys + next);
      Tile::template begin_load<kKeys, kThreads>(v, s + kKeys, values + next);
    }
    if (own.see_any(s, s + kKeys)) {
      Scores<kKeys> scores;
      Tile::template multiply<kRowTiles, kKeys / 8>(queries, own_row, keys + now, scores);
      if (!own.see_all(s, s + kKeys)) own.template hide<kKeys>(s, scores);
      softmax.template absorb<kKeys>(factor, scores, sums);
      Tile::template add<kRowTiles, kKeys / 8>(scores, values + now, sums);
    }
    now = next;
  }
  MORA_UNROLL
  for (int m = 0; m < kRowTiles; ++m) {
    MORA_UNROLL
    for (int i = 0; i < 2; ++i) {
      const float total = quad_sum(softmax.total[m][i]);
      const float inverse = 1 / total;
      MORA_UNROLL
      for (int n = 0; n < Tile::kChunks; ++n) {
        sums[m][n][2 * i] *= inverse;
        sums[m][n][2 * i + 1] *= inverse;
      }
      const int t = own.row(m, i);
      if (x.lse != nullptr && lane_id() % 4 == 0 && t < a.tokens) {
        x.lse[int64_t{t} * a.heads + h] =
            softmax.largest[m][i] * static_cast<float>(a.scale) + std::log(total);
      }
    }
  }
  if (x.y != nullptr)
    Tile::template write<kRowTiles>(sums, queries, own_row, own.first, a.head(x.y, h));
}

template <int D>
void attention_of(const KernelArgs& args, const AttentionShape& shape) {
  const Operands operands{.q = ptr<const bf16>(args.in[0]),
                          .k = ptr<const bf16>(args.in[1]),
                          .v = ptr<const bf16>(args.in[2]),
                          .segment_start = ptr<const int32_t>(args.in[3]),
                          .y = ptr<bf16>(args.out[0]),
                          .lse = ptr<float>(args.out[1])};
  const int blocks = (shape.tokens + kQueries - 1) / kQueries * shape.heads;
  launch({.blocks = dim3(static_cast<unsigned>(blocks)),
          .threads = dim3(kThreads),
          .shared_bytes = (kQueries + 4 * keys_of(D)) * D * sizeof(bf16)},
         &attention_mma_kernel<D>, shape, operands);
}

}  // namespace

void attention_mma(const KernelArgs& args) {
  const AttentionShape shape = attention_shape<bf16>(args);
  if (shape.head_dim <= 64) return attention_of<64>(args, shape);
  attention_of<128>(args, shape);
}

}  // namespace mora::cuda
