// RMSNorm and its gradient.                      x, y, dy, dx: [T, D]  w, dw: [D]  rstd: [T]
//
// A block works on a row, which its threads keep in registers from the sum over it to its second
// use, as far as they have room.
#include "backend/cuda/column_sums.hpp"
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/reduce.hpp"
#include "backend/cuda/row_blocks.hpp"

namespace mora::cuda {

namespace {

template <class L, class T, class Y>
__global__ void __launch_bounds__(kMostRowThreads)
    norm_kernel(const T* x, const T* w, Y* y, T* rstd, int64_t width, T eps) {
  __shared__ T warps[kWarp];
  constexpr int kPacks = kept_packs<L>;
  const T* row = x + blockIdx.x * width;
  Vec<T, L::kCount> kept[kPacks];
  T sum = 0;
  each_pack_of_row(width, L{}, [&](int pack, int64_t column) {
    const auto v = load(row + column, L{});
    if (pack < kPacks) kept[pack] = v;
    sum = add_lanes(sum, v * v);
  });
  const T r = T(1) / std::sqrt(block_sum(sum, warps) / static_cast<T>(width) + eps);
  if (rstd != nullptr && threadIdx.x == 0) rstd[blockIdx.x] = r;
  if (y == nullptr) return;
  y += blockIdx.x * width;
  each_pack_of_row(width, L{}, [&](int pack, int64_t column) {
    const auto v = pack < kPacks ? kept[pack] : load(row + column, L{});
    store(y + column, r * v * load(w + column, L{}), L{});
  });
}

template <class T, class Y>
void norm_rows(const KernelArgs& args) {
  const auto *x = ptr<const T>(args.in[0]), *w = ptr<const T>(args.in[1]);
  auto* y = ptr<Y>(args.out[0]);
  auto* rstd = ptr<T>(args.out[1]);
  const int64_t tokens = args.in[0].shape()[0], width = args.in[0].shape().last();
  const T eps = static_cast<T>(args.attrs.as<RmsNormAttrs>().eps);
  with_lanes<kLanes<T, Y>>(width, access_to(x, w, y), [&](auto lanes) {
    launch(row_blocks(tokens, width), &norm_kernel<decltype(lanes), T, Y>, x, w, y, rstd, width,
           eps);
  });
}

}  // namespace

// y[t, :] = x[t, :] * rstd[t] * w,   rstd[t] = 1 / sqrt(mean(x[t, :]^2) + eps)
template <class T>
void rms_norm(const KernelArgs& args) {
  if constexpr (std::is_same_v<T, float>) {
    if (args.out[0].dtype() == DType::bf16) return norm_rows<T, bf16>(args);
  }
  norm_rows<T, T>(args);
}

Prepared prepare_rms_norm_grad(const OpCall& call) {
  if (!call.read[1]) return {};
  const Shape& x = call.in[0].shape;
  return prepare_column_sums(x[0], x.last(), call.in[0].dtype);
}

namespace {

template <class T, class Y>
struct NormGradient {
  const T *x, *w, *rstd;
  const Y* dy;
  T *dx, *dw;
  int64_t tokens, width;
};

template <class L, class T, class Y>
__global__ void __launch_bounds__(kMostRowThreads) input_gradient_kernel(NormGradient<T, Y> g) {
  __shared__ T warps[kWarp];
  constexpr int kPacks = kept_packs<L>;
  const int64_t row = blockIdx.x * g.width;
  Vec<T, L::kCount> kept_x[kPacks], kept_d[kPacks];
  T product = 0;
  const auto scaled = [&](int64_t column) {
    return load(g.dy + row + column, L{}) * load(g.w + column, L{});
  };
  each_pack_of_row(g.width, L{}, [&](int pack, int64_t column) {
    const auto v = load(g.x + row + column, L{}), d = scaled(column);
    if (pack < kPacks) {
      kept_x[pack] = v;
      kept_d[pack] = d;
    }
    product = add_lanes(product, d * v);
  });
  const T r = g.rstd[blockIdx.x];
  const T c = r * r * block_sum(product, warps) / static_cast<T>(g.width);
  each_pack_of_row(g.width, L{}, [&](int pack, int64_t column) {
    const auto v = pack < kPacks ? kept_x[pack] : load(g.x + row + column, L{});
    const auto d = pack < kPacks ? kept_d[pack] : scaled(column);
    store(g.dx + row + column, r * (d - c * v), L{});
  });
}

template <class T, class Y>
void input_gradient(const NormGradient<T, Y>& g) {
  with_lanes<kLanes<T, Y>>(g.width, access_to(g.x, g.w, g.dy, g.dx), [&](auto lanes) {
    launch(row_blocks(g.tokens, g.width), &input_gradient_kernel<decltype(lanes), T, Y>, g);
  });
}

template <class T, class Y>
void weight_gradient(const NormGradient<T, Y>& g, void* scratch) {
  sum_columns<kLanes<T, Y>>({g.tokens, g.width, g.width}, access_to(g.x, g.dy, g.dw), g.dw, scratch,
                            [=] __device__(int64_t t, int64_t column, auto lanes) {
                              const int64_t at = t * g.width + column;
                              return g.rstd[t] * load(g.x + at, lanes) * load(g.dy + at, lanes);
                            });
}

template <class T, class Y>
void norm_gradient(const KernelArgs& args) {
  const NormGradient<T, Y> g{.x = ptr<const T>(args.in[0]),
                             .w = ptr<const T>(args.in[1]),
                             .rstd = ptr<const T>(args.in[2]),
                             .dy = ptr<const Y>(args.in[3]),
                             .dx = ptr<T>(args.out[0]),
                             .dw = ptr<T>(args.out[1]),
                             .tokens = args.in[0].shape()[0],
                             .width = args.in[0].shape().last()};
  if (g.dx != nullptr) input_gradient(g);
  if (g.dw != nullptr) weight_gradient(g, args.scratch);
}

}  // namespace

// dx = rstd * (dy * w - x * rstd^2 * mean(dy * w * x)),   dw = sum_t dy[t] * x[t] * rstd[t]
template <class T>
void rms_norm_grad(const KernelArgs& args) {
  if constexpr (std::is_same_v<T, float>) {
    if (args.in[3].dtype() == DType::bf16) return norm_gradient<T, bf16>(args);
  }
  norm_gradient<T, T>(args);
}

MORA_CUDA_KERNEL(rms_norm)
MORA_CUDA_KERNEL(rms_norm_grad)

}  // namespace mora::cuda
