// What ends a step: gradient accumulation, the global norm, and AdamW over flat blocks.
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/over_packs.hpp"
#include "backend/cuda/reduce.hpp"

namespace mora::cuda {

// target += x
template <class T>
void accumulate(const KernelArgs& args) {
  auto* target = ptr<T>(args.in[0]);
  const auto* x = ptr<const T>(args.in[1]);
  over_packs<kLanes<T>>(args.in[1].elements(), access_to(target, x),
                        [=] __device__(int64_t i, auto lanes) {
                          store(target + i, load(target + i, lanes) + load(x + i, lanes), lanes);
                        });
}

// target = 0
template <class T>
void clear(const KernelArgs& args) {
  const Tensor& target = args.in[0];
  if (target.bytes() > 0) cudaMemsetAsync(target.data, 0, target.bytes(), stream());
}

namespace {

// Blocks that go over n elements in a loop: what their threads begin and end with takes a while.
template <class T>
Grid looping_blocks(int64_t n) {
  constexpr int64_t kThreads = 256, kMost = 4096;
  const int64_t blocks = std::clamp<int64_t>(n / (kLanes<T> * kThreads), 1, kMost);
  return {.blocks = dim3(static_cast<unsigned>(blocks)), .threads = dim3(kThreads)};
}

// sums[block] = sum of x[i]^2 over the block's share of x
template <class L, class T>
__global__ void sum_squares_kernel(int64_t n, const T* x, double* sums) {
  __shared__ double warps[kWarp];
  double sum = 0;
  each_pack(n, L{}, [&](int64_t i, auto lanes) {
    for (const T number : load(x + i, lanes).at)
      sum += static_cast<double>(number) * static_cast<double>(number);
  });
  sum = block_sum(sum, warps);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// Of one block.
template <class T>
__global__ void total_kernel(unsigned count, const double* sums, T* total) {
  __shared__ double warps[kWarp];
  double sum = 0;
  for (unsigned i = threadIdx.x; i < count; i += blockDim.x) sum += sums[i];
  sum = block_sum(sum, warps);
  if (threadIdx.x == 0) *total = static_cast<T>(sum);
}

}  // namespace

Prepared prepare_squared_norm(const OpCall& call) {
  const int64_t n = call.in[0].shape.elements();
  const Grid grid =
      call.in[0].dtype == DType::f64 ? looping_blocks<double>(n) : looping_blocks<float>(n);
  return {grid.blocks.x * sizeof(double), nullptr};
}

// norm2 = sum of x[i]^2, in double
template <class T>
void squared_norm(const KernelArgs& args) {
  const auto* x = ptr<const T>(args.in[0]);
  auto* sums = static_cast<double*>(args.scratch);
  const int64_t n = args.in[0].elements();
  const Grid grid = looping_blocks<T>(n);
  with_access<kLanes<T>>(access_to(x), [&](auto lanes) {
    launch(grid, &sum_squares_kernel<decltype(lanes), T>, n, x, sums);
  });
  launch({.blocks = dim3(1), .threads = grid.threads}, &total_kernel<T>, grid.blocks.x, sums,
         ptr<T>(args.out[0]));
}

namespace {

template <class T>
struct AdamW {
  T *p, *m, *v;
  const T *g, *norm2;
  const double* hyper;
  AdamWAttrs attrs;
};

template <class L, class T>
__global__ void adamw_kernel(int64_t n, AdamW<T> a) {
  const double norm = std::sqrt(static_cast<double>(*a.norm2));
  if (!(norm <= std::numeric_limits<double>::max())) return;
  const AdamWAttrs& attrs = a.attrs;
  const double lr = attrs.lr_ratio * a.hyper[0];
  const T clip = attrs.max_grad_norm > 0
                     ? static_cast<T>(std::min(1.0, attrs.max_grad_norm / (norm + 1e-6)))
                     : T(1);
  const T decay = static_cast<T>(1.0 - lr * attrs.weight_decay),
          step = static_cast<T>(lr / a.hyper[1]);
  const T first = static_cast<T>(1.0 - attrs.beta1), second = static_cast<T>(attrs.beta2),
          rest = static_cast<T>(1.0 - attrs.beta2);
  const T root = static_cast<T>(std::sqrt(a.hyper[2])), eps = static_cast<T>(attrs.eps);
  each_pack(n, L{}, [&](int64_t i, auto lanes) {
    const auto gradient = clip * load(a.g + i, lanes);
    const auto before = load(a.m + i, lanes);
    const auto m = before + first * (gradient - before);
    const auto v = second * load(a.v + i, lanes) + rest * gradient * gradient;
    const auto scale =
        vec_of<decltype(lanes)::kCount>([&](int j) { return std::sqrt(v.at[j]) / root + eps; });
    store(a.p + i, decay * load(a.p + i, lanes) - step * m / scale, lanes);
    store(a.m + i, m, lanes);
    store(a.v + i, v, lanes);
  });
}

}  // namespace

// AdamW (Loshchilov & Hutter 2019) in the order of torch.optim.AdamW, after torch's
// clip_grad_norm_:
//   g *= min(1, max_norm / (norm + 1e-6));  p *= 1 - lr * wd
//   m += (1 - b1) (g - m);  v = b2 v + (1 - b2) g^2;  p -= lr / c1 * m / (sqrt(v) / sqrt(c2) + eps)
// A norm that is not finite leaves everything untouched.
template <class T>
void adamw(const KernelArgs& args) {
  const AdamW<T> a{.p = ptr<T>(args.in[0]),
                   .m = ptr<T>(args.in[2]),
                   .v = ptr<T>(args.in[3]),
                   .g = ptr<const T>(args.in[1]),
                   .norm2 = ptr<const T>(args.in[4]),
                   .hyper = ptr<const double>(args.in[5]),
                   .attrs = args.attrs.as<AdamWAttrs>()};
  const int64_t n = args.in[0].elements();
  with_access<kLanes<T>>(access_to(a.p, a.m, a.v, a.g), [&](auto lanes) {
    launch(looping_blocks<T>(n), &adamw_kernel<decltype(lanes), T>, n, a);
  });
}

MORA_CUDA_KERNEL(accumulate)
MORA_CUDA_KERNEL(clear)
MORA_CUDA_KERNEL(squared_norm)
MORA_CUDA_KERNEL(adamw)

}  // namespace mora::cuda
