// Rows of results that are sums, computed in the working type: in place where they are stored so,
// else in a row of scratch memory that is rounded when it is complete.
#pragma once

#include <type_traits>

#include "backend/cpu/kernels.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

inline int64_t summed_rows_per_piece(int64_t in, int64_t out) {
  return rows_per_piece(std::max(in, out));
}

// A row of scratch for every piece, where results are stored in bf16.
inline Prepared prepare_row_sums(const OpCall& call) {
  if (call.out[0].dtype != DType::bf16) return {};
  const int64_t width = call.out[0].shape.last();
  const int64_t rows = summed_rows_per_piece(call.in[0].shape.last(), width);
  const int64_t pieces = (call.out[0].shape[0] + rows - 1) / rows;
  return {static_cast<size_t>(pieces * width) * sizeof(float), nullptr};
}

// row(x, y) for every row of input 0 and output 0, y in the working type.
template <class S, class Row>
void each_summed_row(const KernelArgs& args, const Row& row) {
  using T = Working<S>;
  const auto* x = ptr<const S>(args.in[0]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t n = args.in[0].shape().last(), m = args.out[0].shape().last(),
                grain = summed_rows_per_piece(n, m);
  parallel_pieces(args.in[0].shape()[0], grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if constexpr (std::is_same_v<S, T>) {
        row(x + t * n, y + t * m);
      } else {
        T* sums = static_cast<T*>(args.scratch) + begin / grain * m;
        row(x + t * n, sums);
        for (int64_t i = 0; i < m; ++i) y[t * m + i] = value_as<S>(sums[i]);
      }
    }
  });
}

}  // namespace mora::cpu
