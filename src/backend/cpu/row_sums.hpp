// Rows of results that are sums, computed in the working type: in place where they are stored so,
// else in a row of scratch memory.
#pragma once

#include <type_traits>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

inline int64_t summing_pieces(int64_t rows, int64_t width) {
  const int64_t grain = rows_per_piece(width);
  return (rows + grain - 1) / grain;
}

// A row of scratch for every piece, where one is needed.
inline Prepared prepare_row_sums(const OpCall& call) {
  const DType stored = call.out[0].dtype, working = working_of(stored);
  if (stored == working) return {};
  const int64_t width = call.out[0].shape.last();
  const int64_t pieces =
      summing_pieces(call.out[0].shape[0], std::max(call.in[0].shape.last(), width));
  return {static_cast<size_t>(pieces * width) * size_of(working), nullptr};
}

// The last vector of a row of n >= lanes numbers overlaps the one before: no number is left over.

// sums += x
template <class S>
inline void add_row_to(Working<S>* sums, const S* x, int64_t n) {
  constexpr int64_t lanes = kLanes<Working<S>>;
  if (n < lanes) {
    for (int64_t i = 0; i < n; ++i) sums[i] += value_as<Working<S>>(x[i]);
    return;
  }
  const Vec<Working<S>> last = load(sums + n - lanes) + load(x + n - lanes);
  for (int64_t i = 0; i + lanes <= n; i += lanes) store(sums + i, load(sums + i) + load(x + i));
  store(sums + n - lanes, last);
}

// to = from, in another type
template <class From, class To>
inline void convert_row(const From* from, int64_t n, To* to) {
  constexpr int64_t lanes = kLanes<Working<From>>;
  if (n < lanes) {
    for (int64_t i = 0; i < n; ++i) to[i] = value_as<To>(from[i]);
    return;
  }
  for (int64_t i = 0; i + lanes <= n; i += lanes) store(to + i, load(from + i));
  store(to + n - lanes, load(from + n - lanes));
}

// row(x, y) for every row of input 0 and output 0, y in the working type.
template <class S, class Row>
void each_summed_row(const KernelArgs& args, const Row& row) {
  using T = Working<S>;
  const auto* x = ptr<const S>(args.in[0]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t n = args.in[0].shape().last(), m = args.out[0].shape().last(),
                grain = rows_per_piece(std::max(n, m));
  parallel_pieces(args.in[0].shape()[0], grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if constexpr (std::is_same_v<S, T>) {
        row(x + t * n, y + t * m);
      } else {
        T* sums = static_cast<T*>(args.scratch) + begin / grain * m;
        row(x + t * n, sums);
        convert_row(sums, m, y + t * m);
      }
    }
  });
}

}  // namespace mora::cpu
