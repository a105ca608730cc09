// Attention of a few new tokens against a cache, and the cache's writer: the decoding half of
// attention.
//                                              q, y: [T, H*K]  caches: [S, C, H_kv*K]  slots,
//                                              positions: [T]
#include <algorithm>
#include <limits>

#include "backend/cpu/attention_block.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

// One token and head over the cache rows [0, last]; the same streaming softmax as attention, one
// query at a time.
template <class T>
void attend(const AttentionView<T>& view, const T* q, const T* k, const T* v, int64_t last, T* y) {
  T scores[kAttentionBlock];
  T largest = -std::numeric_limits<T>::infinity(), total = 0;
  std::fill_n(y, view.head_dim, T(0));
  for (int64_t s = 0; s <= last; s += kAttentionBlock) {
    const int64_t m = std::min(kAttentionBlock, last + 1 - s);
    T top = largest;
    for (int64_t j = 0; j < m; ++j) {
      scores[j] = view.scale * dot(q, k + (s + j) * view.kv_width, view.head_dim);
      top = std::max(top, scores[j]);
    }
    const T shrink = exponential(largest - top);
    total *= shrink;
    for (int64_t d = 0; d < view.head_dim; ++d) y[d] *= shrink;
    for (int64_t j = 0; j < m; ++j) {
      const T weight = exponential(scores[j] - top);
      total += weight;
      axpy(weight, v + (s + j) * view.kv_width, y, view.head_dim);
    }
    largest = top;
  }
  for (int64_t d = 0; d < view.head_dim; ++d) y[d] /= total;
}

}  // namespace

// y[t, h] = softmax over s = 0..positions[t] of slot slots[t]; rows with a negative slot are 0
template <class T>
void cached_attention(const KernelArgs& args) {
  const AttentionView<T> view(args);
  const auto *q = ptr<const T>(args.in[0]), *k = ptr<const T>(args.in[1]),
             *v = ptr<const T>(args.in[2]);
  const auto *slots = ptr<const int32_t>(args.in[3]), *positions = ptr<const int32_t>(args.in[4]);
  auto* y = ptr<T>(args.out[0]);
  const int64_t capacity = args.in[1].shape()[1];
  parallel_for(args.in[0].shape()[0] * view.heads, [&](int64_t task) {
    const int64_t t = task / view.heads, h = task % view.heads;
    T* out = y + t * view.width + h * view.head_dim;
    if (slots[t] < 0) {
      std::fill_n(out, view.head_dim, T(0));
      return;
    }
    const int64_t first = int64_t{slots[t]} * capacity;
    attend(view, view.row(q, t, h), view.kv_row(k, first, h), view.kv_row(v, first, h),
           positions[t], out);
  });
}

// cache[slots[t], positions[t], :] = x[t, :]; rows with a negative slot are skipped
template <class T>
void cache_write(const KernelArgs& args) {
  auto* cache = ptr<T>(args.in[0]);
  const auto* x = ptr<const T>(args.in[1]);
  const auto *slots = ptr<const int32_t>(args.in[2]), *positions = ptr<const int32_t>(args.in[3]);
  const int64_t capacity = args.in[0].shape()[1], width = args.in[1].shape().last();
  for (int64_t t = 0; t < args.in[1].shape()[0]; ++t) {
    if (slots[t] < 0) continue;
    T* row = cache + (int64_t{slots[t]} * capacity + positions[t]) * width;
    std::copy_n(x + t * width, width, row);
  }
}

MORA_CPU_KERNEL(cached_attention)
MORA_CPU_KERNEL(cache_write)

}  // namespace mora::cpu
