// How the attention kernels see their operands: heads are slices of rows.
#pragma once

#include "backend/cpu/block_gemm.hpp"
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/segments.hpp"

namespace mora::cpu {

constexpr int64_t kMaxHeadDim = 256;  // blocks live on the stack

inline void check_head_dim(const OpCall& call) {
  const int64_t head_dim = call.in[0].shape.last() / call.attrs.as<AttentionAttrs>().heads;
  if (head_dim > kMaxHeadDim) {
    fail(ErrorKind::data, "head_dim is ", head_dim, "; attention on the CPU takes at most ",
         kMaxHeadDim);
  }
}

template <class T>
struct AttentionView {
  int64_t heads, group, head_dim, width, kv_width;
  T scale;

  explicit AttentionView(const KernelArgs& args) {
    const auto attrs = args.attrs.as<AttentionAttrs>();
    heads = attrs.heads;
    group = attrs.heads / attrs.kv_heads;
    width = args.in[0].shape().last();
    head_dim = width / heads;
    kv_width = attrs.kv_heads * head_dim;
    scale = static_cast<T>(attrs.scale);
  }

  const T* kv_row(const T* x, int64_t token, int64_t h) const {
    return x + token * kv_width + h / group * head_dim;
  }
  const T* row(const T* x, int64_t token, int64_t h) const {
    return x + token * width + h * head_dim;
  }

  // out[i, :] = scale * q[begin + i, h]
  void scaled_queries(const T* q, int64_t begin, int64_t n, int64_t h, T* out) const {
    for (int64_t i = 0; i < n; ++i) {
      const T* from = row(q, begin + i, h);
      for (int64_t d = 0; d < head_dim; ++d) out[i * head_dim + d] = scale * from[d];
    }
  }

  // out[d, j] = x[begin + j, h'][d], rows of kAttentionBlock
  void transposed(const T* x, int64_t begin, int64_t n, int64_t h, T* out) const {
    for (int64_t j = 0; j < n; ++j) {
      const T* from = kv_row(x, begin + j, h);
      for (int64_t d = 0; d < head_dim; ++d) out[d * kAttentionBlock + j] = from[d];
    }
  }
};

}  // namespace mora::cpu
