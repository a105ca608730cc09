#include "backend/cuda/kernels.hpp"
#include "backend/cuda/pack.hpp"
#include "backend/cuda/thin_sum.hpp"

namespace mora::cuda {

namespace {

// A block makes a tile of y: a warp 8 rows of it, a lane 4 of their columns. Operands come through
// shared memory, widened, 32 of the depth at a time.
constexpr int kRows = 8, kColumns = 4, kWarps = 8, kDepth = 32;
constexpr int kTileRows = kWarps * kRows, kTileColumns = kWarp * kColumns;

struct Size {
  int64_t m, k, n;
};

template <class B>
struct Term {
  const bf16* a;
  const B* b;
  Transpose tb;
  float alpha;
};

// Rows of 4 more: what a warp writes is spread over the banks.
struct Operands {
  alignas(kPackBytes) float a[kDepth][kTileRows + 4];
  alignas(kPackBytes) float b[kDepth][kTileColumns + 4];
};

// depth rows and columns of the operands from `done` on; zeros outside of them.
template <class B>
__device__ void read_operands(const Term<B>& term, const Size& size, int64_t done, int depth,
                              Operands& to) {
  const int64_t row = int64_t{blockIdx.y} * kTileRows, column = int64_t{blockIdx.x} * kTileColumns;
  for (int at = threadIdx.x; at < kTileRows * depth; at += blockDim.x) {
    const int i = at / depth, k = at % depth;
    to.a[k][i] = row + i < size.m ? value_as<float>(term.a[(row + i) * size.k + done + k]) : 0.0f;
  }
  for (int at = threadIdx.x; at < kTileColumns * depth; at += blockDim.x) {
    const bool tb = term.tb == Transpose::yes;
    const int j = tb ? at / depth : at % kTileColumns, k = tb ? at % depth : at / kTileColumns;
    const int64_t from = tb ? (column + j) * size.k + done + k : (done + k) * size.n + column + j;
    to.b[k][j] = column + j < size.n ? value_as<float>(term.b[from]) : 0.0f;
  }
}

// A lane's columns are kWidth neighbours, so many that all lanes have some, and again.
template <int kWidth>
struct Accumulators {
  static constexpr int kGroups = kColumns / kWidth;
  Pack<float, kWidth> of[kRows][kGroups];

  __device__ static int column(int group) {
    return (static_cast<int>(threadIdx.x) % kWarp + group * kWarp) * kWidth;
  }

  __device__ void add(const Operands& operands, int depth) {
    const int row = static_cast<int>(threadIdx.x) / kWarp * kRows;
    for (int k = 0; k < depth; ++k) {
      const auto a = load_pack<kRows>(&operands.a[k][row]);
      for (int g = 0; g < kGroups; ++g) {
        const auto b = load_pack<kWidth>(&operands.b[k][column(g)]);
        for (int i = 0; i < kRows; ++i) {
          for (int j = 0; j < kWidth; ++j) of[i][g].v[j] += a.v[i] * b.v[j];
        }
      }
    }
  }
};

template <int kWidth, class B>
__global__ void thin_sum_kernel(ThinSum sum, Term<B> term, Size size) {
  __shared__ Operands operands;
  Accumulators<kWidth> product = {};
  for (int64_t done = 0; done < size.k; done += kDepth) {
    const int depth = static_cast<int>(std::min<int64_t>(kDepth, size.k - done));
    __syncthreads();
    read_operands(term, size, done, depth, operands);
    __syncthreads();
    product.add(operands, depth);
  }
  const int64_t row = int64_t{blockIdx.y} * kTileRows + threadIdx.x / kWarp * kRows;
  for (int i = 0; i < kRows && row + i < size.m; ++i) {
    for (int g = 0; g < product.kGroups; ++g) {
      const int64_t column = int64_t{blockIdx.x} * kTileColumns + product.column(g);
      if (column >= size.n) continue;
      const int64_t at = (row + i) * size.n + column;
      const auto z = load_pack<kWidth>(sum.z + at);
      const auto c = sum.c == nullptr ? Pack<bf16, kWidth>{} : load_pack<kWidth>(sum.c + at);
      Pack<bf16, kWidth> y;
      for (int j = 0; j < kWidth; ++j)
        y.v[j] = bf16(z.v[j] + term.alpha * product.of[i][g].v[j] + value_as<float>(c.v[j]));
      store_pack(sum.y + at, y);
    }
  }
}

template <class B>
void add_stored_as(const ThinSum& sum, const ProductShape& product, const Term<B>& term) {
  const bool whole =
      product.n % kColumns == 0 && is_packed(sum.z) && is_packed(sum.c) && is_packed(sum.y);
  const auto tiles = [](int64_t n, int tile) {
    return static_cast<unsigned>((n + tile - 1) / tile);
  };
  launch({.blocks = dim3(tiles(product.n, kTileColumns), tiles(product.m, kTileRows)),
          .threads = dim3(kWarps * kWarp)},
         whole ? &thin_sum_kernel<kColumns, B> : &thin_sum_kernel<1, B>, sum, term,
         Size{product.m, product.k, product.n});
}

}  // namespace

void add_thin_product(const ThinSum& sum, const ProductShape& product, const bf16* a,
                      const void* b) {
  const auto alpha = static_cast<float>(product.alpha);
  if (product.b_dtype == DType::f32) {
    add_stored_as<float>(sum, product, {a, static_cast<const float*>(b), product.tb, alpha});
  } else {
    add_stored_as<bf16>(sum, product, {a, static_cast<const bf16*>(b), product.tb, alpha});
  }
}

}  // namespace mora::cuda
