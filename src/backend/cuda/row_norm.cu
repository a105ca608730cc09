// norm[o] = |w[o, :] + scale * b[o, :] a|: norms of the rows of a sum that is never stored whole
//                                                      w: [out, in]  b: [out, R]  a: [R, in]
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/reduce.hpp"

namespace mora::cuda {

namespace {

// A block has kRows rows, and goes over their columns in tiles of kColumns a thread. b is read in
// tiles of kRanks columns through shared memory.
constexpr int kThreads = 128, kRows = 8, kColumns = 4, kRanks = 32;

template <class T, class Stored>
struct UpdatedRows {
  const Stored* w;
  const T *b, *a;
  T scale;
  int64_t out, in, rank;
};

template <class T>
struct UpdateTile {
  T of[kRows][kColumns];  // of[i][c]: row i, column first + threadIdx.x + c * kThreads
};

// sum_r b[row + i, r] * a[r, column]. For all threads of a block.
template <class T, class Stored>
__device__ UpdateTile<T> update_tile(const UpdatedRows<T, Stored>& m, int64_t row, int64_t first) {
  __shared__ T b[kRows][kRanks];
  UpdateTile<T> update = {};
  for (int64_t done = 0; done < m.rank; done += kRanks) {
    const int ranks = static_cast<int>(std::min<int64_t>(kRanks, m.rank - done));
    __syncthreads();
    for (int at = threadIdx.x; at < kRows * kRanks; at += kThreads) {
      const int i = at / kRanks, r = at % kRanks;
      const bool inside = row + i < m.out && r < ranks;
      b[i][r] = inside ? m.b[(row + i) * m.rank + done + r] : T(0);
    }
    __syncthreads();
    for (int r = 0; r < ranks; ++r) {
      const T* a = m.a + (done + r) * m.in;
      for (int c = 0; c < kColumns; ++c) {
        const int64_t column = first + threadIdx.x + c * kThreads;
        const T x = column < m.in ? a[column] : T(0);
        for (int i = 0; i < kRows; ++i) update.of[i][c] += b[i][r] * x;
      }
    }
  }
  return update;
}

// Squares are summed in f64, as on the CPU.
template <class T, class Stored>
__global__ void row_norm_kernel(UpdatedRows<T, Stored> m, T* norm) {
  __shared__ double warps[kWarp];
  const int64_t row = int64_t{blockIdx.x} * kRows;
  double sums[kRows] = {};
  for (int64_t first = 0; first < m.in; first += kThreads * kColumns) {
    const UpdateTile<T> update = update_tile(m, row, first);
    for (int i = 0; i < kRows; ++i) {
      for (int c = 0; c < kColumns; ++c) {
        const int64_t column = first + threadIdx.x + c * kThreads;
        if (row + i >= m.out || column >= m.in) continue;
        const auto x = static_cast<double>(value_as<T>(m.w[(row + i) * m.in + column]) +
                                           m.scale * update.of[i][c]);
        sums[i] += x * x;
      }
    }
  }
  for (int i = 0; i < kRows; ++i) {
    const double sum = block_sum(sums[i], warps);
    if (threadIdx.x == 0 && row + i < m.out) norm[row + i] = static_cast<T>(std::sqrt(sum));
  }
}

template <class T, class Stored>
void norms(const KernelArgs& args) {
  const int64_t out = args.in[0].shape()[0];
  const UpdatedRows<T, Stored> m{ptr<const Stored>(args.in[0]),
                                 ptr<const T>(args.in[1]),
                                 ptr<const T>(args.in[2]),
                                 static_cast<T>(args.attrs.as<RowNormAttrs>().scale),
                                 out,
                                 args.in[0].shape()[1],
                                 args.in[1].shape()[1]};
  launch(
      {.blocks = dim3(static_cast<unsigned>((out + kRows - 1) / kRows)), .threads = dim3(kThreads)},
      &row_norm_kernel<T, Stored>, m, ptr<T>(args.out[0]));
}

}  // namespace

template <class T>
void row_norm(const KernelArgs& args) {
  switch (args.in[0].dtype()) {
    case DType::bf16:
      return norms<T, bf16>(args);
    case DType::f16:
      return norms<T, f16>(args);
    default:
      return norms<T, T>(args);
  }
}

MORA_CUDA_KERNEL(row_norm)

}  // namespace mora::cuda
