// add_row and sum_rows, its gradient with respect to the row.                x: [T, N]  row: [N]
#include <algorithm>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

// y[t, :] = x[t, :] + row
template <class S>
void add_row(const KernelArgs& args) {
  using T = Working<S>;
  const auto* x = ptr<const S>(args.in[0]);
  const auto* row = ptr<const T>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t width = args.in[0].shape().last();
  parallel_pieces(args.in[0].shape().rows(), rows_per_piece(width),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t t = begin; t < end; ++t) {
                      const S* from = x + t * width;
                      S* to = y + t * width;
#pragma GCC ivdep
                      for (int64_t i = 0; i < width; ++i)
                        to[i] = value_as<S>(value_as<T>(from[i]) + row[i]);
                    }
                  });
}

// y = sum of x[t, :], in blocks of rows so that rounding does not grow with T; parallel over
// columns.
template <class S>
void sum_rows(const KernelArgs& args) {
  using T = Working<S>;
  constexpr int64_t kColumns = 64, kRows = 64;
  const auto* x = ptr<const S>(args.in[0]);
  auto* y = ptr<T>(args.out[0]);
  const int64_t rows = args.in[0].shape().rows(), width = args.in[0].shape().last();
  parallel_pieces(width, kColumns, [&](int64_t begin, int64_t end) {
    std::fill(y + begin, y + end, T(0));
    for (int64_t first = 0; first < rows; first += kRows) {
      T sum[kColumns] = {};
      for (int64_t t = first; t < std::min(rows, first + kRows); ++t)
        axpy(T(1), x + t * width + begin, sum, end - begin);
      axpy(T(1), sum, y + begin, end - begin);
    }
  });
}

MORA_CPU_ACTIVATION_KERNEL(add_row)
MORA_CPU_ACTIVATION_KERNEL(sum_rows)

}  // namespace mora::cpu
