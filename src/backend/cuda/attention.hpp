// What the kernels of attention share: how heads lie in rows, and which keys a query sees.
//
// q, y: [T, H*K]; k, v: [T, H_kv*K]; query head h reads key-value head h / (H / H_kv). Token t sees
// the keys [segment_start[t], t], and segment_start never falls from one token to the next: keys
// that a block of queries sees, and queries that see a block of keys, are without gaps.
#pragma once

#include <algorithm>

#include "backend/cuda/kernels.hpp"
#include "backend/cuda/pack.hpp"

// What must be unrolled, as its variables live in registers.
#ifdef __CUDACC__
#define MORA_UNROLL _Pragma("unroll")
#else
#define MORA_UNROLL
#endif

namespace mora::cuda {

constexpr int kMaxHeadDim = 256;  // as on the CPU: blocks of heads live in shared memory

inline int head_dim_of(const OpCall& call) {
  const auto attrs = call.attrs.as<AttentionAttrs>();
  return static_cast<int>(call.in[0].shape.last() / attrs.heads);
}

// Neighbours that are read or written at once.
template <class T>
constexpr int kPack = kPackBytes / static_cast<int>(sizeof(T));

// A head's slices of all rows.
template <class S>
struct HeadRows {
  S* data;
  int stride, tokens, head_dim;

  __device__ S* row(int t) const { return data + int64_t{t} * stride; }
};

enum class RowAccess : uint8_t { elements, packs };  // packs: rows begin and end at 16 bytes

struct AttentionShape {
  int tokens, heads, kv_heads, head_dim;
  RowAccess access;
  double scale;

  __device__ int group() const { return heads / kv_heads; }
  template <class S>
  __device__ HeadRows<S> head(S* x, int h) const {
    return {x + int64_t{h} * head_dim, heads * head_dim, tokens, head_dim};
  }
  template <class S>
  __device__ HeadRows<S> kv_head(S* x, int kv) const {
    return {x + int64_t{kv} * head_dim, kv_heads * head_dim, tokens, head_dim};
  }
};

template <class S>
bool lies_in_packs(std::span<const Tensor> tensors, int head_dim) {
  return head_dim % kPack<S> == 0 && std::ranges::all_of(tensors, [](const Tensor& x) {
           return x.dtype() != dtype_of<S>() || is_packed(x.data);
         });
}

template <class S>
AttentionShape attention_shape(const KernelArgs& args) {
  const auto attrs = args.attrs.as<AttentionAttrs>();
  const Shape& q = args.in[0].shape();
  const auto head_dim = static_cast<int>(q.last() / attrs.heads);
  const bool packs = lies_in_packs<S>(args.in, head_dim) && lies_in_packs<S>(args.out, head_dim);
  return {.tokens = static_cast<int>(q[0]),
          .heads = static_cast<int>(attrs.heads),
          .kv_heads = static_cast<int>(attrs.kv_heads),
          .head_dim = head_dim,
          .access = packs ? RowAccess::packs : RowAccess::elements,
          .scale = attrs.scale};
}

// Behind the last query that sees a key up to `last`.
__device__ inline int end_of_queries(const int32_t* segment_start, int last, int tokens) {
  int low = last + 1, high = tokens;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (segment_start[middle] <= last) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Operands of attention_grad.
template <class S>
struct AttentionGradIn {
  const S *q, *k, *v, *dy;
  const int32_t* segment_start;
  const Working<S>*lse, *delta;  // [T, H]
};

template <class S>
AttentionGradIn<S> attention_grad_in(const KernelArgs& args) {
  return {.q = ptr<const S>(args.in[0]),
          .k = ptr<const S>(args.in[1]),
          .v = ptr<const S>(args.in[2]),
          .dy = ptr<const S>(args.in[6]),
          .segment_start = ptr<const int32_t>(args.in[3]),
          .lse = ptr<const Working<S>>(args.in[5]),
          .delta = static_cast<const Working<S>*>(args.scratch)};
}

// In bf16 on tensor cores. Heads lie in packs, which are what they copy; the largest score is the
// largest product, which it is for a positive scale. The gradient finds delta in its scratch
// memory.
bool takes_tensor_cores(const AttentionShape& shape);
void attention_mma(const KernelArgs& args);
void attention_grad_mma(const KernelArgs& args);

}  // namespace mora::cuda
