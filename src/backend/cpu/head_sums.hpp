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
    for (int64_t row = begin * groups; row < end * groups; ++row) {
      const T* from = x + row * group * head_dim;
      S* to = out + row * head_dim;
      int64_t d = 0;
      for (; d + kLanes<T> <= head_dim; d += kLanes<T>) {
        Vec<T> sum = load(from + d);
        for (int64_t h = 1; h < group; ++h) sum += load(from + h * head_dim + d);
        store(to + d, sum);
      }
      for (; d < head_dim; ++d) {
        T sum = from[d];
        for (int64_t h = 1; h < group; ++h) sum += from[h * head_dim + d];
        to[d] = value_as<S>(sum);
      }
    }
  });
}

}  // namespace mora::cpu
