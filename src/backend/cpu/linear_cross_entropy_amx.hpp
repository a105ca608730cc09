// The loss of linear_cross_entropy.cpp over bf16 by AMX, where nobody reads dW. Logits never leave
// the cache and are made once: as attention sums values, block by block of the vocabulary, dh sums
// rows of W by weights that are relative to the largest logit so far. Tokens without weight are not
// computed at all.
#pragma once

#include "backend/cpu/kernels.hpp"

namespace mora::cpu {

bool takes_amx_loss(const OpCall& call, MatmulProvider provider);
Prepared prepare_loss_amx(const OpCall& call);
void loss_amx(const KernelArgs& args, const void* state);

}  // namespace mora::cpu
