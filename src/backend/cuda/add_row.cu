// add_row and sum_rows, its gradient with respect to the row.                x: [T, N]  row: [N]
#include "backend/cuda/column_sums.hpp"
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/over_packs.hpp"

namespace mora::cuda {

// y[t, :] = x[t, :] + row
template <class S>
void add_row(const KernelArgs& args) {
  const auto* x = ptr<const S>(args.in[0]);
  const auto* row = ptr<const Working<S>>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t width = args.in[0].shape().last();
  over_rows<kLanes<S>>({args.in[0].shape().rows(), width, width}, access_to(x, row, y),
                       [=] __device__(int64_t t, int64_t column, auto lanes) {
                         const int64_t at = t * width + column;
                         store(y + at, load(x + at, lanes) + load(row + column, lanes), lanes);
                       });
}

Prepared prepare_sum_rows(const OpCall& call) {
  const Shape& x = call.in[0].shape;
  return prepare_column_sums(x.rows(), x.last(), call.out[0].dtype);
}

// y = sum of x[t, :]
template <class S>
void sum_rows(const KernelArgs& args) {
  const auto* x = ptr<const S>(args.in[0]);
  auto* y = ptr<Working<S>>(args.out[0]);
  const int64_t width = args.in[0].shape().last();
  sum_columns<kLanes<S>>({args.in[0].shape().rows(), width, width}, access_to(x, y), y,
                         args.scratch, [=] __device__(int64_t t, int64_t column, auto lanes) {
                           return load(x + t * width + column, lanes);
                         });
}

MORA_CUDA_ACTIVATION_KERNEL(add_row)
MORA_CUDA_ACTIVATION_KERNEL(sum_rows)

}  // namespace mora::cuda
