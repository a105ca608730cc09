// The gradient of attention, recomputing the weights P from the saved log-sum-exp
// (FlashAttention-2, Algorithm 2). One task is one head of one segment, so no two tasks write the
// same memory; with grouped queries each query head keeps its own dk, dv, which are added in the
// order of heads afterwards. Sums are in the working type: those of bf16 have a place of their own.
#include <algorithm>

#include "backend/cpu/attention_amx.hpp"
#include "backend/cpu/head_sums.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

size_t sums_bytes(const Type& q) {
  return scratch_room(q.shape.elements(), working_of(q.dtype));
}

size_t starts_bytes(int64_t tokens) {
  return scratch_room(tokens + 1, DType::i32);
}

size_t deltas_bytes(const Type& lse) {
  return scratch_room(lse.shape.elements(), lse.dtype);
}

}  // namespace

Prepared prepare_attention_grad(const OpCall& call, MatmulProvider provider) {
  check_head_dim(call);
  if (takes_amx_attention(call, provider)) return prepare_attention_grad_amx(call);
  size_t bytes = starts_bytes(call.in[0].shape[0]) + deltas_bytes(call.in[5]);
  // dk, dv and dq per query head; without groups only what nobody reads, or what is bf16, needs a
  // place.
  bytes += 3 * sums_bytes(call.in[0]);
  return {bytes, nullptr};
}

namespace {

template <class S>
struct Backward {
  using T = Working<S>;
  using Room = typename AttentionView<S>::Room;
  AttentionView<S> view;
  const S *q, *k, *v, *y, *dy;
  const T* lse;
  T* deltas;        // [T, H]: dy * y
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
    for (int64_t t = start; t < stop; ++t)
      deltas[t * view.heads + h] = dot(view.row(dy, t, h), view.row(y, t, h), view.head_dim);
    zero(dq, start, stop, h);
    zero(dk, start, stop, h);
    zero(dv, start, stop, h);
    for (int64_t s = start; s < stop; s += kAttentionBlock) {
      const int64_t m = std::min(kAttentionBlock, stop - s);
      view.kv_transposed(k, s, m, h, keys, kAttentionBlock);
      view.kv_transposed(v, s, m, h, values, kAttentionBlock);
      // Of the first square half is never seen: a quarter is left out.
      const int64_t upper = std::min(kAttentionBlock / 2, m);
      square(s, upper, s, upper, h, keys, values);
      if (upper < m) square(s + upper, m - upper, s, m, h, keys, values);
      for (int64_t t = s + kAttentionBlock; t < stop; t += kAttentionBlock)
        square(t, std::min(kAttentionBlock, stop - t), s, m, h, keys, values);
    }
  }

  // Queries [t, t + n) against keys [s, s + m):
  //   P = exp(scale q k^T - lse),  dv += P^T dy,  dS = scale * P * (dy v^T - sum(dy * y)),  dq +=
  //   dS k,  dk += dS^T q
  void square(int64_t t, int64_t n, int64_t s, int64_t m, int64_t h, const T* keys,
              const T* values) const {
    const int64_t head_dim = view.head_dim, ld = kAttentionBlock;
    alignas(64) T p[kAttentionBlock * kAttentionBlock], dp[kAttentionBlock * kAttentionBlock];
    Room q_room, dy_room, k_room;
    const Strided<T> qs = view.rows(q, t, n, h, q_room), dys = view.rows(dy, t, n, h, dy_room),
                     ks = view.kv_rows(k, s, m, h, k_room);
    block_gemm<T>(n, m, head_dim, qs, keys, ld, p, ld, Store::assign);
    block_gemm<T>(n, m, head_dim, dys, values, ld, dp, ld, Store::assign);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t visible = std::clamp<int64_t>(t + i - s + 1, 0, m);
      const T shift = lse[(t + i) * view.heads + h];
      const T delta = deltas[(t + i) * view.heads + h];
      T *pr = p + i * ld, *dr = dp + i * ld;
      for (int64_t j = 0; j < visible; j += kLanes<T>) {  // whole vectors: there is room
        const Vec<T> weight = exponential_of_negative(view.scale * load(pr + j) - shift);
        store(pr + j, weight);
        store(dr + j, view.scale * weight * (load(dr + j) - delta));
      }
      std::fill(pr + visible, pr + m, T(0));
      std::fill(dr + visible, dr + m, T(0));
    }
    const Strided<T> p_t{p, 1, ld}, ds{dp, ld, 1}, ds_t{dp, 1, ld};
    block_gemm<T>(m, head_dim, n, p_t, dys.data, dys.row, grad_row(dv, s, h), view.width,
                  Store::add);
    block_gemm<T>(m, head_dim, n, ds_t, qs.data, qs.row, grad_row(dk, s, h), view.width,
                  Store::add);
    block_gemm<T>(n, head_dim, m, ds, ks.data, ks.row, grad_row(dq, t, h), view.width, Store::add);
  }
};

// The place of a sum: the output itself where it has the same form and somebody reads it.
template <class T, class S>
T* place_of(S* out, bool same_form, T* own) {
  if constexpr (std::is_same_v<S, T>) {
    if (same_form && out != nullptr) return out;
  }
  return own;
}

}  // namespace

template <class S>
void attention_grad(const KernelArgs& args) {
  if (args.state != nullptr) return attention_grad_amx(args);
  using T = Working<S>;
  const int64_t tokens = args.in[0].shape()[0];
  const size_t sums = sums_bytes(args.in[0].type) / sizeof(T);
  auto* starts = static_cast<int32_t*>(args.scratch);
  auto* deltas = static_cast<std::byte*>(args.scratch) + starts_bytes(tokens);
  auto* own = reinterpret_cast<T*>(deltas + deltas_bytes(args.in[5].type));
  auto *dq = ptr<S>(args.out[0]), *dk = ptr<S>(args.out[1]), *dv = ptr<S>(args.out[2]);
  const AttentionView<S> view(args);
  const bool alone = view.group == 1;
  const Backward<S> backward{.view = view,
                             .q = ptr<const S>(args.in[0]),
                             .k = ptr<const S>(args.in[1]),
                             .v = ptr<const S>(args.in[2]),
                             .y = ptr<const S>(args.in[4]),
                             .dy = ptr<const S>(args.in[6]),
                             .lse = ptr<const T>(args.in[5]),
                             .deltas = reinterpret_cast<T*>(deltas),
                             .dq = place_of(dq, true, own),
                             .dk = place_of(dk, alone, own + sums),
                             .dv = place_of(dv, alone, own + 2 * sums)};
  const int64_t segments = find_segments(ptr<const int32_t>(args.in[3]), tokens, starts);
  parallel_for(segments * view.heads, [&](int64_t task) {
    const int64_t s = task / view.heads;
    backward.segment(starts[s], starts[s + 1], task % view.heads);
  });
  constexpr bool narrow = !std::is_same_v<S, T>;
  if (narrow) sum_groups(view, backward.dq, tokens, 1, dq);
  if (narrow || !alone) {
    sum_groups(view, backward.dk, tokens, view.group, dk);
    sum_groups(view, backward.dv, tokens, view.group, dv);
  }
}

MORA_CPU_ACTIVATION_KERNEL(attention_grad)

}  // namespace mora::cpu
