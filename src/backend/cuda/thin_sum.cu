#include "backend/cuda/kernels.hpp"
#include "backend/cuda/over_packs.hpp"
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

// A lane's columns: packs of neighbours, so many that all lanes have some, and again.
template <class L>
struct Accumulators {
  static constexpr int kPacks = kColumns / L::kCount;
  Vec<float, L::kCount> of[kRows][kPacks];

  __device__ static int column(int pack) {
    return (static_cast<int>(threadIdx.x) % kWarp + pack * kWarp) * L::kCount;
  }

  __device__ void add(const Operands& operands, int depth) {
    const int row = static_cast<int>(threadIdx.x) / kWarp * kRows;
    for (int k = 0; k < depth; ++k) {
      const auto a = load(&operands.a[k][row], Lanes<kRows, Access::packed>{});
      for (int p = 0; p < kPacks; ++p) {
        const auto b = load(&operands.b[k][column(p)], Lanes<L::kCount, Access::packed>{});
        for (int i = 0; i < kRows; ++i) of[i][p] = of[i][p] + a.at[i] * b;
      }
    }
  }
};

template <class L, class B>
__global__ void thin_sum_kernel(ThinSum sum, Term<B> term, Size size) {
  __shared__ Operands operands;
  Accumulators<L> product = {};
  for (int64_t done = 0; done < size.k; done += kDepth) {
    const int depth = static_cast<int>(std::min<int64_t>(kDepth, size.k - done));
    __syncthreads();
    read_operands(term, size, done, depth, operands);
    __syncthreads();
    product.add(operands, depth);
  }
  const int64_t row = int64_t{blockIdx.y} * kTileRows + threadIdx.x / kWarp * kRows;
  for (int i = 0; i < kRows && row + i < size.m; ++i) {
    for (int p = 0; p < product.kPacks; ++p) {
      const int64_t column = int64_t{blockIdx.x} * kTileColumns + product.column(p);
      if (column >= size.n) continue;
      const int64_t at = (row + i) * size.n + column;
      auto y = load(sum.z + at, L{}) + term.alpha * product.of[i][p];
      if (sum.c != nullptr) y = y + load(sum.c + at, L{});
      store(sum.y + at, y, L{});
    }
  }
}

template <class B>
void add_stored_as(const ThinSum& sum, const ProductShape& product, const Term<B>& term) {
  const auto tiles = [](int64_t n, int tile) {
    return static_cast<unsigned>((n + tile - 1) / tile);
  };
  const Grid grid{.blocks = dim3(tiles(product.n, kTileColumns), tiles(product.m, kTileRows)),
                  .threads = dim3(kWarps * kWarp)};
  with_lanes<kColumns>(product.n, access_to(sum.z, sum.c, sum.y), [&](auto lanes) {
    launch(grid, &thin_sum_kernel<decltype(lanes), B>, sum, term,
           Size{product.m, product.k, product.n});
  });
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
