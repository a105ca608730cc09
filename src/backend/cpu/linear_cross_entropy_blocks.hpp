// The loss of linear_cross_entropy.cpp where nobody reads dW, in f32, and in bf16 by AMX. Logits
// never leave the cache and are made once: as attention sums values, block by block of the
// vocabulary, dh sums rows of W by weights that are relative to the largest logit so far. Tokens
// without weight are not computed at all.
#pragma once

#include "backend/cpu/kernels.hpp"

namespace mora::cpu {

bool takes_loss_by_blocks(const OpCall& call, MatmulProvider provider);
Prepared prepare_loss_by_blocks(const OpCall& call);
void loss_by_blocks(const KernelArgs& args, const void* state);

}  // namespace mora::cpu
