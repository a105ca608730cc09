// Attention over bf16 where the processor multiplies it: the same blocks, their products made by
// the library, their weights rounded to bf16 between two products. Sums, softmax and lse are f32.
#pragma once

#include "backend/cpu/attention_block.hpp"
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/product.hpp"

namespace mora::cpu {

inline bool takes_bf16_attention(const OpCall& call, MatmulProvider provider) {
  return call.in[0].dtype == DType::bf16 && provider != MatmulProvider::eigen && multiplies_bf16();
}

Prepared prepare_attention_bf16(const OpCall& call);
void attention_bf16(const KernelArgs& args);
Prepared prepare_attention_grad_bf16(const OpCall& call);
void attention_grad_bf16(const KernelArgs& args);

// Rows [begin, begin + n) of `width` numbers, `stride` apart, as a block of `rows`, the rest zeros.
inline void copy_block(const bf16* from, int64_t stride, int64_t n, int64_t rows, int64_t width,
                       bf16* to) {
  for (int64_t i = 0; i < n; ++i) std::copy_n(from + i * stride, width, to + i * width);
  std::fill(to + n * width, to + rows * width, bf16(0.0f));
}

}  // namespace mora::cpu
