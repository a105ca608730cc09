// RoPE's angles, as transformers' modeling_rope_utils.py computes them: in float32 throughout,
// whatever the model's precision.
#pragma once

#include <vector>

#include "mora/models/llama.hpp"

namespace mora {

// The head_dim / 2 angles per position. `longest`: positions of the longest sequence, which only
// dynamic RoPE looks at.
std::vector<float> rope_frequencies(const LlamaConfig& config, int64_t longest);

// [longest, head_dim]; row p = cos(p f_0), cos(p f_1), ... then the sines, as the op rope wants it.
OwnedTensor make_rope_table(const LlamaConfig& config, int64_t longest, DType dtype);

}  // namespace mora
