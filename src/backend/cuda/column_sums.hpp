// Sums over the rows of a matrix, for every column: pieces of rows first, then the pieces. Both
// stages have a fixed order, which depends on the shape alone, and sums of sums keep rounding
// small.
#pragma once

#include "backend/cuda/kernels.hpp"
#include "backend/cuda/over_packs.hpp"

namespace mora::cuda {

// A block's threads, each of which sums every kRowThreads-th row of its columns.
constexpr int kColumnThreads = 32, kRowThreads = 8;

// The pieces that rows are cut into, where there are enough of them: as many as keep a device busy.
inline int64_t pieces_of_rows(int64_t rows, int64_t width) {
  constexpr int64_t kLeastRows = 64, kBlocks = 512, kMostPieces = 128, kColumnsOfBlock = 256;
  const int64_t across = std::max<int64_t>(1, (width + kColumnsOfBlock - 1) / kColumnsOfBlock);
  return std::clamp<int64_t>(rows / kLeastRows, 1,
                             std::clamp(kBlocks / across, int64_t{1}, kMostPieces));
}

// Room for the sums of pieces.
inline Prepared prepare_column_sums(int64_t rows, int64_t width, DType working) {
  const int64_t pieces = pieces_of_rows(rows, width);
  return {pieces == 1 ? 0 : static_cast<size_t>(pieces * width) * size_of(working), nullptr};
}

// sums[piece, :] = sum of term(t, :) over the rows of each piece
template <class L, class T, class Term>
__global__ void sum_columns_kernel(Rows rows, int64_t piece, T* sums, Term term) {
  __shared__ Vec<T, L::kCount> parts[kRowThreads][kColumnThreads];
  const int64_t column = (int64_t{blockIdx.x} * kColumnThreads + threadIdx.x) * L::kCount;
  const int64_t begin = blockIdx.y * piece, end = std::min(rows.count, begin + piece);
  Vec<T, L::kCount> sum{};
  if (column < rows.width) {
#pragma unroll 4
    for (int64_t t = begin + threadIdx.y; t < end; t += kRowThreads)
      sum = sum + term(t, column, L{});
  }
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= rows.width) return;
  for (int i = 1; i < kRowThreads; ++i) sum = sum + parts[i][threadIdx.x];
  store(sums + blockIdx.y * rows.width + column, sum, L{});
}

// One stage: sums of `pieces` pieces.
template <class L, class T, class Term>
void sum_pieces(const Rows& rows, int64_t pieces, T* sums, const Term& term) {
  constexpr int64_t kColumns = kColumnThreads * L::kCount;
  const dim3 blocks(static_cast<unsigned>((rows.width + kColumns - 1) / kColumns),
                    static_cast<unsigned>(pieces));
  launch({.blocks = blocks, .threads = dim3(kColumnThreads, kRowThreads)},
         &sum_columns_kernel<L, T, Term>, rows, (rows.count + pieces - 1) / pieces, sums, term);
}

template <class L, class T>
void add_pieces(const Rows& rows, const T* sums, T* y) {
  sum_pieces<L>(rows, 1, y, [=] __device__(int64_t t, int64_t column, auto lanes) {
    return load(sums + t * rows.width + column, lanes);
  });
}

// y = sum of term(t, :) over all rows t, each of which is called once for every column.
// Term: [=] __device__ (int64_t t, int64_t column, auto lanes) {...}, which returns a Vec of T.
// access: to what it reads and writes, and to y. scratch: as prepared.
template <int kCount, class T, class Term>
void sum_columns(const Rows& rows, Access access, T* y, void* scratch, const Term& term) {
  const int64_t pieces = pieces_of_rows(rows.count, rows.width);
  T* first = pieces == 1 ? y : static_cast<T*>(scratch);
  with_lanes<kCount>(rows.run, access, [&](auto lanes) {
    using L = decltype(lanes);
    sum_pieces<L>(rows, pieces, first, term);
    if (pieces > 1) add_pieces<L>({pieces, rows.width, rows.run}, static_cast<const T*>(first), y);
  });
}

}  // namespace mora::cuda
