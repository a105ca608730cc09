#include "backend/cpu/attention_bf16.hpp"

#include <algorithm>
#include <memory>

#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

// Larger than the blocks of fp32: each product is a call of the library.
constexpr int64_t kQueries = 128, kKeys = 256;

struct ForwardProducts {
  int64_t slots;
  std::unique_ptr<BlockProduct> scores, weighted;  // Q K^T,  sum += P V
  size_t starts_bytes, slot_bytes;
};

struct ForwardBf16 {
  AttentionView<bf16> view;
  const ForwardProducts& products;
  const bf16 *q, *k, *v;
  bf16* y;
  float* lse;

  // Queries [begin, end) of one segment that starts at `start`, head h.
  void block(int64_t start, int64_t begin, int64_t end, int64_t h, int64_t slot,
             void* scratch) const {
    const int64_t n = end - begin, head_dim = view.head_dim;
    alignas(64) bf16 queries[kQueries * kMaxHeadDim], rows[kKeys * kMaxHeadDim],
        weights[kQueries * kKeys];
    alignas(64) float scores[kQueries * kKeys], sum[kQueries * kMaxHeadDim];
    StreamingSoftmax<float, kQueries> softmax;
    copy_block(view.row(q, begin, h), view.width, n, kQueries, head_dim, queries);
    std::fill_n(sum, kQueries * head_dim, 0.0f);
    for (int64_t s = start; s < end; s += kKeys) {
      const int64_t m = std::min(kKeys, end - s);
      copy_block(view.kv_row(k, s, h), view.kv_width, m, kKeys, head_dim, rows);
      products.scores->run(slot, queries, rows, scores, scratch);
      for (int64_t i = 0; i < n; ++i) {
        float* row = scores + i * kKeys;
        const int64_t visible = std::min(m, begin + i - s + 1);
        for (int64_t j = 0; j < visible; ++j) row[j] *= view.scale;
        softmax.absorb(i, row, visible, kKeys, sum + i * head_dim, head_dim);
        for (int64_t j = 0; j < kKeys; ++j) weights[i * kKeys + j] = bf16(row[j]);
      }
      std::fill(weights + n * kKeys, weights + kQueries * kKeys, bf16(0.0f));
      copy_block(view.kv_row(v, s, h), view.kv_width, m, kKeys, head_dim, rows);
      products.weighted->run(slot, weights, rows, sum, scratch);
    }
    for (int64_t i = 0; i < n; ++i) {
      if (y != nullptr) {
        bf16* out = y + (begin + i) * view.width + h * head_dim;
        const float inverse = 1 / softmax.total[i];
        for (int64_t d = 0; d < head_dim; ++d) out[d] = bf16(sum[i * head_dim + d] * inverse);
      }
      if (lse != nullptr) lse[(begin + i) * view.heads + h] = softmax.lse(i);
    }
  }
};

}  // namespace

Prepared prepare_attention_bf16(const OpCall& call) {
  const int64_t head_dim = call.in[0].shape.last() / call.attrs.as<AttentionAttrs>().heads;
  const ProductShape scores{.m = kQueries,
                            .k = head_dim,
                            .n = kKeys,
                            .tb = Transpose::yes,
                            .dtype = DType::bf16,
                            .b_dtype = DType::bf16};
  const ProductShape weighted{.m = kQueries,
                              .k = kKeys,
                              .n = head_dim,
                              .addend = Addend::result,
                              .dtype = DType::bf16,
                              .b_dtype = DType::bf16};
  auto products = std::make_shared<ForwardProducts>();
  products->slots = thread_count();
  products->scores = onednn_block_product(scores, products->slots);
  products->weighted = onednn_block_product(weighted, products->slots);
  products->starts_bytes = scratch_room(call.in[0].shape[0] + 1, DType::i32);
  products->slot_bytes =
      std::max(products->scores->scratch_bytes(), products->weighted->scratch_bytes());
  return {products->starts_bytes + products->slot_bytes * static_cast<size_t>(products->slots),
          products};
}

void attention_bf16(const KernelArgs& args) {
  const auto& products = *static_cast<const ForwardProducts*>(args.state);
  const ForwardBf16 forward{.view = AttentionView<bf16>(args),
                            .products = products,
                            .q = ptr<const bf16>(args.in[0]),
                            .k = ptr<const bf16>(args.in[1]),
                            .v = ptr<const bf16>(args.in[2]),
                            .y = ptr<bf16>(args.out[0]),
                            .lse = ptr<float>(args.out[1])};
  const auto* segment_start = ptr<const int32_t>(args.in[3]);
  auto* starts = static_cast<int32_t*>(args.scratch);
  auto* scratch = static_cast<std::byte*>(args.scratch) + products.starts_bytes;
  const int64_t heads = forward.view.heads;
  const int64_t blocks = find_query_blocks(segment_start, args.in[0].shape()[0], kQueries, starts);
  for_panels(blocks * heads, products.slots, [&](int64_t task, int64_t slot) {
    const int64_t b = task / heads;
    forward.block(segment_start[starts[b]], starts[b], starts[b + 1], task % heads, slot,
                  scratch + static_cast<size_t>(slot) * products.slot_bytes);
  });
}

}  // namespace mora::cpu
