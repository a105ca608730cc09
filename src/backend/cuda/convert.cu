#include "backend/cuda/convert.hpp"
#include "backend/cuda/launch.hpp"
#include "backend/cuda/pack.hpp"

namespace mora::cuda {

namespace {

constexpr int kThreads = 256, kPacks = 4;  // of a block, and of a thread

struct Pieces {
  int64_t columns, stride, in_row;  // in_row: pieces of a row
};

// A block converts a piece of a row, kWidth elements at a time.
template <int kWidth, class From, class To>
__global__ void convert_kernel(const From* from, To* to, Pieces p) {
  const int64_t row = blockIdx.x / p.in_row, piece = blockIdx.x % p.in_row;
  from += row * p.stride;
  to += row * p.columns;
  const int64_t begin = (piece * kThreads * kPacks + threadIdx.x) * kWidth;
  for (int i = 0; i < kPacks; ++i) {
    const int64_t at = begin + int64_t{i} * kThreads * kWidth;
    if (at >= p.columns) return;
    const auto x = load_pack<kWidth>(from + at);
    Pack<To, kWidth> y;
    for (int j = 0; j < kWidth; ++j) y.v[j] = value_as<To>(x.v[j]);
    store_pack(to + at, y);
  }
}

template <int kWidth, class From, class To>
void convert_in_packs(const StoredRows& rows, To* to) {
  const int64_t in_row =
      (rows.columns + kThreads * kPacks * kWidth - 1) / (int64_t{kThreads} * kPacks * kWidth);
  launch({.blocks = dim3(static_cast<unsigned>(rows.rows * in_row)), .threads = dim3(kThreads)},
         &convert_kernel<kWidth, From, To>, static_cast<const From*>(rows.data), to,
         Pieces{rows.columns, rows.stride, in_row});
}

template <class From, class To>
void convert_stored(const StoredRows& rows, To* to) {
  constexpr int kWidth = 8;
  const bool whole = rows.columns % kWidth == 0 && rows.stride % kWidth == 0 &&
                     is_packed(rows.data) && is_packed(to);
  whole ? convert_in_packs<kWidth, From>(rows, to) : convert_in_packs<1, From>(rows, to);
}

}  // namespace

void convert_rows(const StoredRows& from, void* to) {
  StoredRows rows = from;
  if (rows.stride == rows.columns) rows = {from.data, from.dtype, 1, from.rows * from.columns, 0};
  switch (rows.dtype) {
    case DType::bf16:
      return convert_stored<bf16>(rows, static_cast<float*>(to));
    case DType::f16:
      return convert_stored<f16>(rows, static_cast<float*>(to));
    default:
      return convert_stored<float>(rows, static_cast<bf16*>(to));
  }
}

}  // namespace mora::cuda
