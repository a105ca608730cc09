#include <numeric>

#include "backend/cuda/convert.hpp"
#include "backend/cuda/over_packs.hpp"

namespace mora::cuda {

namespace {

template <class From, class To>
void convert_stored(const StoredRows& rows, To* to) {
  const auto* from = static_cast<const From*>(rows.data);
  const int64_t stride = rows.stride, columns = rows.columns;
  const Access access = access_to(from, to);
  if (stride == columns) {
    over_packs<kLanes<From, To>>(
        rows.rows * columns, access,
        [=] __device__(int64_t i, auto lanes) { store(to + i, load(from + i, lanes), lanes); });
    return;
  }
  over_rows<kLanes<From, To>>({rows.rows, columns, std::gcd(columns, stride)}, access,
                              [=] __device__(int64_t t, int64_t column, auto lanes) {
                                store(to + t * columns + column,
                                      load(from + t * stride + column, lanes), lanes);
                              });
}

}  // namespace

void convert_rows(const StoredRows& from, void* to) {
  switch (from.dtype) {
    case DType::bf16:
      return convert_stored<bf16>(from, static_cast<float*>(to));
    case DType::f16:
      return convert_stored<f16>(from, static_cast<float*>(to));
    default:
      return convert_stored<float>(from, static_cast<bf16*>(to));
  }
}

}  // namespace mora::cuda
