// Attention over bf16 by AMX: its blocks are products of tiles, the weights between two products
// are rounded to bf16. Sums, softmax and lse are f32.
#pragma once

#include "backend/cpu/amx.hpp"
#include "backend/cpu/attention_block.hpp"
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/product.hpp"

namespace mora::cpu {

// Heads whose rows are not whole tiles of sums go the way of f32.
inline bool takes_amx_attention(const OpCall& call, MatmulProvider provider) {
  const int64_t head_dim = call.in[0].shape.last() / call.attrs.as<AttentionAttrs>().heads;
  return call.in[0].dtype == DType::bf16 && provider == MatmulProvider::automatic &&
         head_dim % amx::kTile == 0 && multiplies_by_amx();
}

Prepared prepare_attention_amx(const OpCall& call);
void attention_amx(const KernelArgs& args);
Prepared prepare_attention_grad_amx(const OpCall& call);
void attention_grad_amx(const KernelArgs& args);

}  // namespace mora::cpu
