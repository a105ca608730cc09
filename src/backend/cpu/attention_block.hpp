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

  // out[d, j] = factor * x[begin + j, h][d] of n tokens, rows `stride` apart, or of the head of
  // keys that h reads.
  void transposed(const S* x, int64_t begin, int64_t n, int64_t h, T factor, T* out,
                  int64_t stride) const {
    transpose_rows(row(x, begin, h), width, n, factor, out, stride);
  }
  void kv_transposed(const S* x, int64_t begin, int64_t n, int64_t h, T* out,
                     int64_t stride) const {
    transpose_rows(kv_row(x, begin, h), kv_width, n, T(1), out, stride);
  }

 private:
  void transpose_rows(const S* first, int64_t from_stride, int64_t n, T factor, T* out,
                      int64_t stride) const {
    int64_t done = 0;  // tokens, in squares
    if constexpr (std::is_same_v<T, float>) {
      constexpr int64_t side = 16;
      if (head_dim % side == 0) done = n / side * side;
      for (int64_t j = 0; j < done; j += side) {
        for (int64_t d = 0; d < head_dim; d += side) {
          Vec<float> square[side];
          for (int64_t r = 0; r < side; ++r)
            square[r] = factor * load(first + (j + r) * from_stride + d);
          transpose(square);
          for (int64_t r = 0; r < side; ++r) store(out + (d + r) * stride + j, square[r]);
        }
      }
    }
    for (int64_t j = done; j < n; ++j) {
      for (int64_t d = 0; d < head_dim; ++d)
        out[d * stride + j] = factor * value_as<T>(first[j * from_stride + d]);
    }
  }

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
