// The gradient of attention as attention_grad.cpp has it, one head of one segment a task, over
// bf16.
#include <algorithm>
#include <memory>

#include "backend/cpu/attention_bf16.hpp"
#include "backend/cpu/head_sums.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

constexpr int64_t kBlock = 128;  // as in attention_bf16.cpp, larger than that of fp32

struct BackwardProducts {
  int64_t slots;
  std::unique_ptr<BlockProduct> scores;                       // [B, K] [B, K]^T: q k^T and dy v^T
  std::unique_ptr<BlockProduct> keys;                         // += [B, B]^T [B, K]: dv and dk
  std::unique_ptr<BlockProduct> queries;                      // [B, B] [B, K]: dq
  size_t starts_bytes, sums_bytes, deltas_bytes, slot_bytes;  // deltas: [T, H] sums of dy * y
};

// Operands of a square of the scores, and what it makes.
struct Square {
  alignas(64) bf16 q[kBlock * kMaxHeadDim], dy[kBlock * kMaxHeadDim];
  alignas(64) bf16 k[kBlock * kMaxHeadDim], v[kBlock * kMaxHeadDim];
  alignas(64) float p[kBlock * kBlock], dp[kBlock * kBlock];
  alignas(64) bf16 weights[kBlock * kBlock], ds[kBlock * kBlock];
  alignas(64) float dk[kBlock * kMaxHeadDim], dv[kBlock * kMaxHeadDim], dq[kBlock * kMaxHeadDim];
};

struct BackwardBf16 {
  AttentionView<bf16> view;
  const BackwardProducts& products;
  const bf16 *q, *k, *v, *y, *dy;
  const float* lse;
  float *dq, *dk, *dv;  // [T, H*K] each
  float* deltas;

  float* grad_row(float* x, int64_t token, int64_t h) const {
    return x + token * view.width + h * view.head_dim;
  }

  // The segment [start, stop), head h.
  void segment(int64_t start, int64_t stop, int64_t h, int64_t slot, void* scratch) const {
    const int64_t head_dim = view.head_dim;
    for (int64_t t = start; t < stop; ++t) {
      std::fill_n(grad_row(dq, t, h), head_dim, 0.0f);
      deltas[t * view.heads + h] = dot(view.row(dy, t, h), view.row(y, t, h), head_dim);
    }
    Square square;
    for (int64_t s = start; s < stop; s += kBlock) {
      const int64_t m = std::min(kBlock, stop - s);
      copy_block(view.kv_row(k, s, h), view.kv_width, m, kBlock, head_dim, square.k);
      copy_block(view.kv_row(v, s, h), view.kv_width, m, kBlock, head_dim, square.v);
      std::fill_n(square.dk, kBlock * head_dim, 0.0f);
      std::fill_n(square.dv, kBlock * head_dim, 0.0f);
      for (int64_t t = s; t < stop; t += kBlock)
        queries(t, std::min(kBlock, stop - t), s, m, h, square, slot, scratch);
      for (int64_t j = 0; j < m; ++j) {
        std::copy_n(square.dk + j * head_dim, head_dim, grad_row(dk, s + j, h));
        std::copy_n(square.dv + j * head_dim, head_dim, grad_row(dv, s + j, h));
      }
    }
  }

  // Queries [t, t + n) against keys [s, s + m).
  void queries(int64_t t, int64_t n, int64_t s, int64_t m, int64_t h, Square& x, int64_t slot,
               void* scratch) const {
    const int64_t head_dim = view.head_dim;
    copy_block(view.row(q, t, h), view.width, n, kBlock, head_dim, x.q);
    copy_block(view.row(dy, t, h), view.width, n, kBlock, head_dim, x.dy);
    products.scores->run(slot, x.q, x.k, x.p, scratch);
    products.scores->run(slot, x.dy, x.v, x.dp, scratch);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t at = (t + i) * view.heads + h, visible = std::min(m, t + i - s + 1);
      weigh(x.p + i * kBlock, x.dp + i * kBlock, visible, lse[at], deltas[at],
            x.weights + i * kBlock, x.ds + i * kBlock);
    }
    std::fill(x.weights + n * kBlock, x.weights + kBlock * kBlock, bf16(0.0f));
    std::fill(x.ds + n * kBlock, x.ds + kBlock * kBlock, bf16(0.0f));
    products.keys->run(slot, x.weights, x.dy, x.dv, scratch);
    products.keys->run(slot, x.ds, x.q, x.dk, scratch);
    products.queries->run(slot, x.ds, x.k, x.dq, scratch);
    for (int64_t i = 0; i < n; ++i)
      axpy(1.0f, x.dq + i * head_dim, grad_row(dq, t + i, h), head_dim);
  }

  // P = exp(scale * score - lse),  dS = scale * P * (dP - delta), of one query
  void weigh(float* p, const float* dp, int64_t visible, float shift, float delta, bf16* weights,
             bf16* ds) const {
    for (int64_t j = 0; j < kBlock; ++j) p[j] = exponential(view.scale * p[j] - shift);
    for (int64_t j = 0; j < kBlock; ++j) {
      weights[j] = bf16(p[j]);
      ds[j] = bf16(view.scale * p[j] * (dp[j] - delta));
    }
    std::fill(weights + visible, weights + kBlock, bf16(0.0f));
    std::fill(ds + visible, ds + kBlock, bf16(0.0f));
  }
};

}  // namespace

Prepared prepare_attention_grad_bf16(const OpCall& call) {
  const int64_t heads = call.attrs.as<AttentionAttrs>().heads, tokens = call.in[0].shape[0],
                head_dim = call.in[0].shape.last() / heads;
  const DType type = DType::bf16;
  const ProductShape scores{.m = kBlock,
                            .k = head_dim,
                            .n = kBlock,
                            .tb = Transpose::yes,
                            .dtype = type,
                            .b_dtype = type};
  ProductShape queries{.m = kBlock, .k = kBlock, .n = head_dim, .dtype = type, .b_dtype = type};
  ProductShape keys = queries;
  keys.ta = Transpose::yes;
  keys.addend = Addend::result;
  auto products = std::make_shared<BackwardProducts>();
  products->slots = thread_count();
  products->scores = onednn_block_product(scores, products->slots);
  products->keys = onednn_block_product(keys, products->slots);
  products->queries = onednn_block_product(queries, products->slots);
  products->starts_bytes = scratch_room(tokens + 1, DType::i32);
  products->sums_bytes = scratch_room(call.in[0].shape.elements(), DType::f32);
  products->deltas_bytes = scratch_room(tokens * heads, DType::f32);
  products->slot_bytes =
      std::max({products->scores->scratch_bytes(), products->keys->scratch_bytes(),
                products->queries->scratch_bytes()});
  return {products->starts_bytes + 3 * products->sums_bytes + products->deltas_bytes +
              products->slot_bytes * static_cast<size_t>(products->slots),
          products};
}

void attention_grad_bf16(const KernelArgs& args) {
  const auto& products = *static_cast<const BackwardProducts*>(args.state);
  const int64_t tokens = args.in[0].shape()[0];
  auto* starts = static_cast<int32_t*>(args.scratch);
  auto* sums = static_cast<std::byte*>(args.scratch) + products.starts_bytes;
  auto place = [&](size_t i) { return reinterpret_cast<float*>(sums + i * products.sums_bytes); };
  auto* scratch = sums + 3 * products.sums_bytes + products.deltas_bytes;
  const BackwardBf16 backward{.view = AttentionView<bf16>(args),
                              .products = products,
                              .q = ptr<const bf16>(args.in[0]),
                              .k = ptr<const bf16>(args.in[1]),
                              .v = ptr<const bf16>(args.in[2]),
                              .y = ptr<const bf16>(args.in[4]),
                              .dy = ptr<const bf16>(args.in[6]),
                              .lse = ptr<const float>(args.in[5]),
                              .dq = place(0),
                              .dk = place(1),
                              .dv = place(2),
                              .deltas = place(3)};
  const AttentionView<bf16>& view = backward.view;
  const int64_t segments = find_segments(ptr<const int32_t>(args.in[3]), tokens, starts);
  for_panels(segments * view.heads, products.slots, [&](int64_t task, int64_t slot) {
    const int64_t s = task / view.heads;
    backward.segment(starts[s], starts[s + 1], task % view.heads, slot,
                     scratch + static_cast<size_t>(slot) * products.slot_bytes);
  });
  sum_groups(view, backward.dq, tokens, 1, ptr<bf16>(args.out[0]));
  sum_groups(view, backward.dk, tokens, view.group, ptr<bf16>(args.out[1]));
  sum_groups(view, backward.dv, tokens, view.group, ptr<bf16>(args.out[2]));
}

}  // namespace mora::cpu
