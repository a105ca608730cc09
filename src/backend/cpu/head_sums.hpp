// Gradients of query heads, in the working type, as gradients of the heads that they share.
#pragma once

#include <algorithm>

#include "backend/cpu/attention_block.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

// out[t, g] = sum of x[t, h] over the `group` heads h of g
template <class S>
void sum_groups(const AttentionView<S>& view, const Working<S>* x, int64_t tokens, int64_t group,
                S* out) {
  using T = Working<S>;
  if (out == nullptr) return;
  const int64_t head_dim = view.head_dim, groups = view.heads / group;
  parallel_pieces(tokens, rows_per_piece(view.width), [&](int64_t begin, int64_t end) {
    T sum[kMaxHeadDim];
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t g = 0; g < groups; ++g) {
        std::fill_n(sum, head_dim, T(0));
        for (int64_t h = g * group; h < (g + 1) * group; ++h)
          axpy(T(1), x + t * view.width + h * head_dim, sum, head_dim);
        S* to = out + (t * groups + g) * head_dim;
        for (int64_t d = 0; d < head_dim; ++d) to[d] = value_as<S>(sum[d]);
      }
    }
  });
}

}  // namespace mora::cpu
