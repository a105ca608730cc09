// How the attention kernels see their operands: heads are slices of rows, stored as S.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

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

// The softmax of a block of queries over keys that come in blocks.
template <class T, int64_t kQueries>
struct StreamingSoftmax {
  T largest[kQueries], total[kQueries];

  StreamingSoftmax() {
    std::fill_n(largest, kQueries, -std::numeric_limits<T>::infinity());
    std::fill_n(total, kQueries, T(0));
  }

  // Turns the next m scores of query i, of which the first `visible` count, into weights relative
  // to the largest score so far, and rescales what was summed before.
  void absorb(int64_t i, T* scores, int64_t visible, int64_t m, T* sum, int64_t head_dim) {
    if (visible <= 0) {
      std::fill_n(scores, m, T(0));
      return;
    }
    const T top = std::max(largest[i], cpu::largest(scores, visible));
    const T shrink = exponential(largest[i] - top);
    total[i] = total[i] * shrink + exponentials(scores, visible, top);
    std::fill(scores + visible, scores + m, T(0));
    if (shrink != T(1)) {
      for (int64_t d = 0; d < head_dim; ++d) sum[d] *= shrink;
    }
    largest[i] = top;
  }

  T lse(int64_t i) const { return largest[i] + std::log(total[i]); }
};

template <class S>
struct AttentionView {
  using T = Working<S>;
  // Room for a block of rows in the working type, where they are not stored in it.
  struct Room {
    alignas(64) T data[std::is_same_v<S, T> ? 1 : kAttentionBlock * kMaxHeadDim];
  };

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

  const S* kv_row(const S* x, int64_t token, int64_t h) const {
    return x + token * kv_width + h / group * head_dim;
  }
  const S* row(const S* x, int64_t token, int64_t h) const {
    return x + token * width + h * head_dim;
  }

  // Rows [begin, begin + n) of head h in the working type: where they are, or in `room`.
  Strided<T> rows(const S* x, int64_t begin, int64_t n, int64_t h, Room& room) const {
    return wide(row(x, begin, h), width, n, room);
  }
  Strided<T> kv_rows(const S* x, int64_t begin, int64_t n, int64_t h, Room& room) const {
    return wide(kv_row(x, begin, h), kv_width, n, room);
  }

  // out[i, :] = scale * q[begin + i, h]
  void scaled_queries(const S* q, int64_t begin, int64_t n, int64_t h, T* out) const {
    for (int64_t i = 0; i < n; ++i) {
      const S* from = row(q, begin + i, h);
      for (int64_t d = 0; d < head_dim; ++d) out[i * head_dim + d] = scale * value_as<T>(from[d]);
    }
  }

  // out[d, j] = x[begin + j, h'][d], rows of kAttentionBlock
  void transposed(const S* x, int64_t begin, int64_t n, int64_t h, T* out) const {
    for (int64_t j = 0; j < n; ++j) {
      const S* from = kv_row(x, begin + j, h);
      for (int64_t d = 0; d < head_dim; ++d) out[d * kAttentionBlock + j] = value_as<T>(from[d]);
    }
  }

 private:
  Strided<T> wide(const S* first, int64_t stride, int64_t n, Room& room) const {
    if constexpr (std::is_same_v<S, T>) {
      return {first, stride, 1};
    } else {
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t d = 0; d < head_dim; ++d)
          room.data[i * head_dim + d] = value_as<T>(first[i * stride + d]);
      }
      return {room.data, head_dim, 1};
    }
  }
};

}  // namespace mora::cpu
