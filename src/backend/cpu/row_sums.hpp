// Rows of results that are sums, computed in the working type: in place where they are stored so
// and nothing is added to them, else in a row of scratch memory.
#pragma once

#include <type_traits>

#include "backend/cpu/kernels.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

inline int64_t summed_rows_per_piece(int64_t in, int64_t out) {
  return rows_per_piece(std::max(in, out));
}

// A row of scratch for every piece, where one is needed.
inline Prepared prepare_row_sums(const OpCall& call) {
  const int addend = op(call.op).addend;
  const bool adds = addend >= 0 && call.in.size() > static_cast<size_t>(addend);
  const DType stored = call.out[0].dtype, working = working_of(stored);
  if (stored == working && !adds) return {};
  const int64_t width = call.out[0].shape.last();
  const int64_t rows = summed_rows_per_piece(call.in[0].shape.last(), width);
  const int64_t pieces = (call.out[0].shape[0] + rows - 1) / rows;
  return {static_cast<size_t>(pieces * width) * size_of(working), nullptr};
}

// row(x, y) for every row of input 0 and output 0, y in the working type. To the result the rows of
// `addend` are added, unless it is null.
template <class S, class Row>
void each_summed_row(const KernelArgs& args, const S* addend, const Row& row) {
  using T = Working<S>;
  const auto* x = ptr<const S>(args.in[0]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t n = args.in[0].shape().last(), m = args.out[0].shape().last(),
                grain = summed_rows_per_piece(n, m);
  parallel_pieces(args.in[0].shape()[0], grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      S* to = y + t * m;
      if constexpr (std::is_same_v<S, T>) {
        if (addend == nullptr) {
          row(x + t * n, to);
          continue;
        }
      }
      T* sums = static_cast<T*>(args.scratch) + begin / grain * m;
      row(x + t * n, sums);
      if (addend == nullptr) {
#pragma GCC ivdep
        for (int64_t i = 0; i < m; ++i) to[i] = value_as<S>(sums[i]);
      } else {
        const S* other = addend + t * m;
#pragma GCC ivdep
        for (int64_t i = 0; i < m; ++i) to[i] = value_as<S>(value_as<T>(other[i]) + sums[i]);
      }
    }
  });
}

}  // namespace mora::cpu
