// The gradient of attention, recomputing the weights P from the saved log-sum-exp
// (FlashAttention-2, Algorithm 2). One task is one head of one segment, so no two tasks write the
// same memory; with grouped queries each query head keeps its own dk, dv, which are added in the
// order of heads afterwards.
#include <algorithm>

#include "backend/cpu/attention_block.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

size_t aligned(size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

bool grouped(const AttentionAttrs& attrs) {
  return attrs.heads != attrs.kv_heads;
}

size_t starts_bytes(int64_t tokens) {
  return aligned(static_cast<size_t>(tokens + 1) * sizeof(int32_t));
}

}  // namespace

Prepared prepare_attention_grad(const OpCall& call) {
  check_head_dim(call);
  size_t bytes = starts_bytes(call.in[0].shape[0]);
  // dk and dv per query head; without groups only the outputs that nobody reads need a place.
  bytes += 2 * aligned(call.in[0].bytes());
  bytes += aligned(call.in[0].bytes());  // dq, in case nobody reads it
  return {bytes, nullptr};
}

namespace {

template <class T>
struct Backward {
  AttentionView<T> view;
  const T *q, *k, *v, *y, *lse, *dy;
  T *dq, *dk, *dv;  // [T, H*K] each

  T* grad_row(T* x, int64_t token, int64_t h) const {
    return x + token * view.width + h * view.head_dim;
  }

  void zero(T* x, int64_t begin, int64_t end, int64_t h) const {
    for (int64_t t = begin; t < end; ++t) std::fill_n(grad_row(x, t, h), view.head_dim, T(0));
  }

  // The segment [start, stop), head h.
  void segment(int64_t start, int64_t stop, int64_t h) const {
    alignas(64) T keys[kMaxHeadDim * kAttentionBlock], values[kMaxHeadDim * kAttentionBlock];
    zero(dq, start, stop, h);
    zero(dk, start, stop, h);
    zero(dv, start, stop, h);
    for (int64_t s = start; s < stop; s += kAttentionBlock) {
      const int64_t m = std::min(kAttentionBlock, stop - s);
      view.transposed(k, s, m, h, keys);
      view.transposed(v, s, m, h, values);
      for (int64_t t = s; t < stop; t += kAttentionBlock) {
        square(t, std::min(kAttentionBlock, stop - t), s, m, h, keys, values);
      }
    }
  }

  // Queries [t, t + n) against keys [s, s + m):
  //   P = exp(scale q k^T - lse),  dv += P^T dy,  dS = scale * P * (dy v^T - sum(dy * y)),  dq +=
  //   dS k,  dk += dS^T q
  void square(int64_t t, int64_t n, int64_t s, int64_t m, int64_t h, const T* keys,
              const T* values) const {
    const int64_t head_dim = view.head_dim, ld = kAttentionBlock;
    alignas(64) T p[kAttentionBlock * kAttentionBlock], dp[kAttentionBlock * kAttentionBlock];
    block_gemm<T>(n, m, head_dim, {view.row(q, t, h), view.width, 1}, keys, ld, p, ld,
                  Store::assign);
    block_gemm<T>(n, m, head_dim, {view.row(dy, t, h), view.width, 1}, values, ld, dp, ld,
                  Store::assign);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t visible = std::clamp<int64_t>(t + i - s + 1, 0, m);
      const T shift = lse[(t + i) * view.heads + h];
      const T delta = dot(view.row(dy, t + i, h), view.row(y, t + i, h), head_dim);
      T *pr = p + i * ld, *dr = dp + i * ld;
      for (int64_t j = 0; j < visible; ++j) {
        pr[j] = exponential(view.scale * pr[j] - shift);
        dr[j] = view.scale * pr[j] * (dr[j] - delta);
      }
      std::fill(pr + visible, pr + m, T(0));
      std::fill(dr + visible, dr + m, T(0));
    }
    const Strided<T> p_t{p, 1, ld}, ds{dp, ld, 1}, ds_t{dp, 1, ld};
    block_gemm<T>(m, head_dim, n, p_t, view.row(dy, t, h), view.width, grad_row(dv, s, h),
                  view.width, Store::add);
    block_gemm<T>(m, head_dim, n, ds_t, view.row(q, t, h), view.width, grad_row(dk, s, h),
                  view.width, Store::add);
    block_gemm<T>(n, head_dim, m, ds, view.kv_row(k, s, h), view.kv_width, grad_row(dq, t, h),
                  view.width, Store::add);
  }
};

// out[t, g] = sum of x[t, h] over the query heads h of key-value head g
template <class T>
void sum_groups(const AttentionView<T>& view, const T* x, int64_t tokens, T* out) {
  if (out == nullptr) return;
  parallel_pieces(tokens, rows_per_piece(view.width), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      std::fill_n(out + t * view.kv_width, view.kv_width, T(0));
      for (int64_t h = 0; h < view.heads; ++h) {
        axpy(T(1), view.row(x, t, h), out + t * view.kv_width + h / view.group * view.head_dim,
             view.head_dim);
      }
    }
  });
}

}  // namespace

template <class T>
void attention_grad(const KernelArgs& args) {
  const int64_t tokens = args.in[0].shape()[0];
  const size_t block = aligned(args.in[0].bytes());
  auto* starts = static_cast<int32_t*>(args.scratch);
  auto* spare = static_cast<std::byte*>(args.scratch) + starts_bytes(tokens);
  const bool groups = grouped(args.attrs.as<AttentionAttrs>());
  auto* own = reinterpret_cast<T*>(spare);
  auto place = [&](const Tensor& out, size_t slot, bool may_be_output) {
    return may_be_output && out ? ptr<T>(out) : own + slot * block / sizeof(T);
  };
  const Backward<T> backward{.view = AttentionView<T>(args),
                             .q = ptr<const T>(args.in[0]),
                             .k = ptr<const T>(args.in[1]),
                             .v = ptr<const T>(args.in[2]),
                             .y = ptr<const T>(args.in[4]),
                             .lse = ptr<const T>(args.in[5]),
                             .dy = ptr<const T>(args.in[6]),
                             .dq = place(args.out[0], 2, true),
                             .dk = place(args.out[1], 0, !groups),
                             .dv = place(args.out[2], 1, !groups)};
  const int64_t heads = backward.view.heads;
  const int64_t segments = find_segments(ptr<const int32_t>(args.in[3]), tokens, starts);
  parallel_for(segments * heads, [&](int64_t task) {
    const int64_t s = task / heads;
    backward.segment(starts[s], starts[s + 1], task % heads);
  });
  if (groups) {
    sum_groups(backward.view, backward.dk, tokens, ptr<T>(args.out[1]));
    sum_groups(backward.view, backward.dv, tokens, ptr<T>(args.out[2]));
  }
}

MORA_CPU_KERNEL(attention_grad)

}  // namespace mora::cpu
