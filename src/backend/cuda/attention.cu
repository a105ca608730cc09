// Causal attention with a streaming softmax (FlashAttention-2's loop order; Milakov & Gimelshein
// 2018 for the softmax): a block of queries of one head visits the keys of its segments block by
// block, so that only a tile of scores ever exists. For every type; of bf16, what tensor cores take
// goes there.
#include <cmath>
#include <limits>

#include "backend/cuda/attention.hpp"
#include "backend/cuda/attention_tile.hpp"

namespace mora::cuda {

Prepared prepare_attention(const OpCall& call) {
  const int head_dim = head_dim_of(call);
  if (head_dim > kMaxHeadDim) {
    fail(ErrorKind::data, "head_dim is ", head_dim, "; attention with CUDA takes at most ",
         kMaxHeadDim);
  }
  return {};
}

namespace {

// The streaming softmax of a thread's rows, of whose columns it has a part.
template <class Tile, class T>
struct RowSoftmax {
  T largest[Tile::kOwn], total[Tile::kOwn];  // total: of the thread's own columns

  __device__ RowSoftmax() {
    for (int i = 0; i < Tile::kOwn; ++i) {
      largest[i] = -std::numeric_limits<T>::infinity();
      total[i] = 0;
    }
  }

  // Turns scores, -inf where a key is not seen, into weights relative to the largest so far, and
  // shrinks the sums to it.
  __device__ void absorb(typename Tile::Scores& scores, typename Tile::Sums& sums) {
    MORA_UNROLL
    for (int i = 0; i < Tile::kOwn; ++i) {
      T top = scores[i][0];
      MORA_UNROLL
      for (int j = 1; j < Tile::kOwn; ++j) top = scores[i][j] > top ? scores[i][j] : top;
      top = Tile::row_max(top);
      top = largest[i] > top ? largest[i] : top;
      const bool none = top == -std::numeric_limits<T>::infinity();  // seen so far
      const T shrink = none ? T(1) : std::exp(largest[i] - top);
      T sum = 0;
      MORA_UNROLL
      for (int j = 0; j < Tile::kOwn; ++j) {
        scores[i][j] = none ? T(0) : std::exp(scores[i][j] - top);
        sum += scores[i][j];
      }
      total[i] = total[i] * shrink + sum;
      largest[i] = top;
      MORA_UNROLL
      for (int e = 0; e < Tile::kDims; ++e) sums[i][e] *= shrink;
    }
  }
};

template <class S>
struct ForwardOperands {
  const S *q, *k, *v;
  const int32_t* segment_start;
  S* y;             // null: not read
  Working<S>* lse;  // null: not read
};

// y[t, h] = sum_{s = segment_start[t]}^{t} softmax_s(scale * q[t, h] . k[s, h']) v[s, h'],
// lse[t, h] = log sum_s exp(scale * q[t, h] . k[s, h']),   h' = h / (H / H_kv)
template <class S, int D>
__global__ void __launch_bounds__(256, AttentionTile<Working<S>, D>::kResident)
    attention_kernel(AttentionShape a, ForwardOperands<S> x) {
  using T = Working<S>;
  using Tile = AttentionTile<T, D>;
  T* queries = dynamic_shared<T>();
  T *keys = queries + Tile::kElements, *values = keys + Tile::kElements,
    *weights = values + Tile::kElements;
  // The last queries of a segment see most keys: they begin first.
  const int h = static_cast<int>(blockIdx.x) % a.heads, kv = h / a.group(),
            begin = static_cast<int>(gridDim.x - 1 - blockIdx.x) / a.heads * Tile::kRows,
            end = std::min(begin + Tile::kRows, a.tokens);
  Tile::load(a.head(x.q, h), a.access, begin, static_cast<T>(a.scale), queries);
  RowSoftmax<Tile, T> softmax;
  typename Tile::Sums sums;
  Tile::clear(sums);
  for (int s = x.segment_start[begin]; s < end; s += Tile::kRows) {
    __syncthreads();
    Tile::load(a.kv_head(x.k, kv), a.access, s, T(1), keys);
    Tile::load(a.kv_head(x.v, kv), a.access, s, T(1), values);
    __syncthreads();
    typename Tile::Scores scores;
    Tile::multiply(queries, keys, a.head_dim, scores);
    MORA_UNROLL
    for (int i = 0; i < Tile::kOwn; ++i) {
      const int t = begin + Tile::row(i), start = x.segment_start[std::min(t, end - 1)];
      MORA_UNROLL
      for (int j = 0; j < Tile::kOwn; ++j) {
        const int key = s + Tile::column(j);
        if (key < start || key > t) scores[i][j] = -std::numeric_limits<T>::infinity();
      }
    }
    softmax.absorb(scores, sums);
    Tile::store(scores, weights);
    __syncthreads();
    Tile::add(weights, values, sums);
  }
  MORA_UNROLL
  for (int i = 0; i < Tile::kOwn; ++i) {
    const int t = begin + Tile::row(i);
    const T total = Tile::row_sum(softmax.total[i]);
    MORA_UNROLL
    for (int e = 0; e < Tile::kDims; ++e) sums[i][e] /= total;
    if (x.lse != nullptr && Tile::x() == 0 && t < end)
      x.lse[int64_t{t} * a.heads + h] = softmax.largest[i] + std::log(total);
  }
  if (x.y != nullptr) Tile::write(sums, begin, a.head(x.y, h));
}

template <class S, int D>
void attention_of(const KernelArgs& args, const AttentionShape& shape) {
  using Tile = AttentionTile<Working<S>, D>;
  const ForwardOperands<S> operands{.q = ptr<const S>(args.in[0]),
                                    .k = ptr<const S>(args.in[1]),
                                    .v = ptr<const S>(args.in[2]),
                                    .segment_start = ptr<const int32_t>(args.in[3]),
                                    .y = ptr<S>(args.out[0]),
                                    .lse = ptr<Working<S>>(args.out[1])};
  const int blocks = (shape.tokens + Tile::kRows - 1) / Tile::kRows * shape.heads;
  launch({.blocks = dim3(static_cast<unsigned>(blocks)),
          .threads = dim3(Tile::kThreads),
          .shared_bytes = Tile::bytes(3)},
         &attention_kernel<S, D>, shape, operands);
}

}  // namespace

template <class S>
void attention(const KernelArgs& args) {
  const AttentionShape shape = attention_shape<S>(args);
  if (std::is_same_v<S, bf16> && takes_tensor_cores(shape)) return attention_mma(args);
  if (shape.head_dim <= 64) return attention_of<S, 64>(args, shape);
  if (shape.head_dim <= 128) return attention_of<S, 128>(args, shape);
  attention_of<S, 256>(args, shape);
}

MORA_CUDA_ACTIVATION_KERNEL(attention)

}  // namespace mora::cuda
