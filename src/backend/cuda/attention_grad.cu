// The gradient of attention, recomputing the weights P from the saved log-sum-exp
// (FlashAttention-2, algorithm 2), without atomics: one kernel over blocks of keys, which sums dk
// and dv over all query heads of a key-value head in order, and one over blocks of queries for dq.
// With delta = sum(dy * y):
//   P = exp(scale q k^T - lse)   dS = scale * P * (dy v^T - delta)
//   dv = P^T dy   dk = dS^T q   dq = dS k
#include <cmath>

#include "backend/cuda/attention_tile.hpp"

namespace mora::cuda {

Prepared prepare_attention_grad(const OpCall& call) {
  Prepared prepared = prepare_attention(call);
  prepared.scratch_bytes += scratch_room(call.in[5].shape.elements(), call.in[5].dtype);  // delta
  return prepared;
}

namespace {

// delta[row] = dy[row] . y[row] of the rows of all heads, summed in the order of a tile's products,
// so that the only key that a query sees gets no gradient.
template <class S, int N>
void write_delta(const KernelArgs& args, const AttentionShape& shape) {
  using T = Working<S>;
  const auto *y = ptr<const S>(args.in[4]), *dy = ptr<const S>(args.in[6]);
  auto* delta = static_cast<T*>(args.scratch);
  const int head_dim = shape.head_dim;
  over_elements(int64_t{shape.tokens} * shape.heads, [=] __device__(int64_t row) {
    T sum = 0;
    for (int d = 0; d < head_dim; d += N) {
      const auto a = *reinterpret_cast<const Pack<S, N>*>(dy + row * head_dim + d),
                 b = *reinterpret_cast<const Pack<S, N>*>(y + row * head_dim + d);
      MORA_UNROLL
      for (int e = 0; e < N; ++e) sum += value_as<T>(a.v[e]) * value_as<T>(b.v[e]);
    }
    delta[row] = sum;
  });
}

// Turns a tile's q k^T into P and dy v^T into dS, rows are the queries from t on, columns the keys
// from s on.
template <class S, int D>
__device__ void recompute(const AttentionShape& a, const AttentionGradIn<S>& x, int h, int t, int s,
                          typename AttentionTile<Working<S>, D>::Scores& p,
                          typename AttentionTile<Working<S>, D>::Scores& ds) {
  using T = Working<S>;
  using Tile = AttentionTile<T, D>;
  const T scale = static_cast<T>(a.scale);
  MORA_UNROLL
  for (int i = 0; i < Tile::kOwn; ++i) {
    const int query = t + Tile::row(i);
    const bool inside = query < a.tokens;
    const int64_t at = int64_t{inside ? query : t} * a.heads + h;
    const T lse = x.lse[at], delta = x.delta[at];
    const int start = x.segment_start[inside ? query : t];
    MORA_UNROLL
    for (int j = 0; j < Tile::kOwn; ++j) {
      const int key = s + Tile::column(j);
      const bool sees = inside && start <= key && key <= query;
      p[i][j] = sees ? std::exp(scale * p[i][j] - lse) : T(0);
      ds[i][j] = sees ? scale * p[i][j] * (ds[i][j] - delta) : T(0);
    }
  }
}

template <class S, int D>
__global__ void __launch_bounds__(256, 1)
    attention_grad_kv_kernel(AttentionShape a, AttentionGradIn<S> x, S* dk, S* dv) {
  using T = Working<S>;
  using Tile = AttentionTile<T, D>;
  T* keys = dynamic_shared<T>();
  T *values = keys + Tile::kElements, *queries = values + Tile::kElements,
    *dys = queries + Tile::kElements, *weights = dys + Tile::kElements;
  const int kv = static_cast<int>(blockIdx.x) % a.kv_heads,
            s = static_cast<int>(blockIdx.x) / a.kv_heads * Tile::kRows,
            end =
                end_of_queries(x.segment_start, std::min(s + Tile::kRows, a.tokens) - 1, a.tokens);
  Tile::load(a.kv_head(x.k, kv), a.access, s, T(1), keys);
  Tile::load(a.kv_head(x.v, kv), a.access, s, T(1), values);
  typename Tile::Sums dk_sums, dv_sums;
  Tile::clear(dk_sums);
  Tile::clear(dv_sums);
  for (int h = kv * a.group(); h < (kv + 1) * a.group(); ++h) {
    for (int t = s; t < end; t += Tile::kRows) {
      __syncthreads();
      Tile::load(a.head(x.q, h), a.access, t, T(1), queries);
      Tile::load(a.head(x.dy, h), a.access, t, T(1), dys);
      __syncthreads();
      typename Tile::Scores p, ds;
      Tile::multiply(queries, keys, a.head_dim, p);
      Tile::multiply(dys, values, a.head_dim, ds);
      recompute<S, D>(a, x, h, t, s, p, ds);
      Tile::store(p, weights);
      __syncthreads();
      Tile::add_transposed(weights, dys, dv_sums);
      __syncthreads();
      Tile::store(ds, weights);
      __syncthreads();
      Tile::add_transposed(weights, queries, dk_sums);
    }
  }
  if (dk != nullptr) Tile::write(dk_sums, s, a.kv_head(dk, kv));
  if (dv != nullptr) Tile::write(dv_sums, s, a.kv_head(dv, kv));
}

template <class S, int D>
__global__ void __launch_bounds__(256, 1)
    attention_grad_q_kernel(AttentionShape a, AttentionGradIn<S> x, S* dq) {
  using T = Working<S>;
  using Tile = AttentionTile<T, D>;
  T* queries = dynamic_shared<T>();
  T *dys = queries + Tile::kElements, *keys = dys + Tile::kElements,
    *values = keys + Tile::kElements, *weights = values + Tile::kElements;
  const int h = static_cast<int>(blockIdx.x) % a.heads, kv = h / a.group(),
            t = static_cast<int>(gridDim.x - 1 - blockIdx.x) / a.heads * Tile::kRows,
            end = std::min(t + Tile::kRows, a.tokens);
  Tile::load(a.head(x.q, h), a.access, t, T(1), queries);
  Tile::load(a.head(x.dy, h), a.access, t, T(1), dys);
  typename Tile::Sums sums;
  Tile::clear(sums);
  for (int s = x.segment_start[t]; s < end; s += Tile::kRows) {
    __syncthreads();
    Tile::load(a.kv_head(x.k, kv), a.access, s, T(1), keys);
    Tile::load(a.kv_head(x.v, kv), a.access, s, T(1), values);
    __syncthreads();
    typename Tile::Scores p, ds;
    Tile::multiply(queries, keys, a.head_dim, p);
    Tile::multiply(dys, values, a.head_dim, ds);
    recompute<S, D>(a, x, h, t, s, p, ds);
    Tile::store(ds, weights);
    __syncthreads();
    Tile::add(weights, keys, sums);
  }
  Tile::write(sums, t, a.head(dq, h));
}

template <class S, int D>
void attention_grad_of(const KernelArgs& args, const AttentionShape& shape) {
  using Tile = AttentionTile<Working<S>, D>;
  const AttentionGradIn<S> in = attention_grad_in<S>(args);
  auto *dq = ptr<S>(args.out[0]), *dk = ptr<S>(args.out[1]), *dv = ptr<S>(args.out[2]);
  const int tiles = (shape.tokens + Tile::kRows - 1) / Tile::kRows;
  Grid grid{.blocks = dim3(static_cast<unsigned>(tiles * shape.kv_heads)),
            .threads = dim3(Tile::kThreads),
            .shared_bytes = Tile::bytes(4)};
  if (dk != nullptr || dv != nullptr)
    launch(grid, &attention_grad_kv_kernel<S, D>, shape, in, dk, dv);
  grid.blocks = dim3(static_cast<unsigned>(tiles * shape.heads));
  if (dq != nullptr) launch(grid, &attention_grad_q_kernel<S, D>, shape, in, dq);
}

}  // namespace

template <class S>
void attention_grad(const KernelArgs& args) {
  const AttentionShape shape = attention_shape<S>(args);
  if (shape.access == RowAccess::packs) {
    write_delta<S, kPack<S>>(args, shape);
  } else {
    write_delta<S, 1>(args, shape);
  }
  if (std::is_same_v<S, bf16> && takes_tensor_cores(shape)) return attention_grad_mma(args);
  if (shape.head_dim <= 64) return attention_grad_of<S, 64>(args, shape);
  if (shape.head_dim <= 128) return attention_grad_of<S, 128>(args, shape);
  attention_grad_of<S, 256>(args, shape);
}

MORA_CUDA_ACTIVATION_KERNEL(attention_grad)

}  // namespace mora::cuda
