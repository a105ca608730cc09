// swiglu and its gradient.
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/over_packs.hpp"

namespace mora::cuda {

namespace {

// 1 / (1 + exp(-x)). Of what is stored in bf16 the device's short instructions are exact enough,
// and without them arithmetic would take longer than memory.
template <class S, class T, int kCount>
__device__ Vec<T, kCount> sigmoid(const Vec<T, kCount>& x) {
  return vec_of<kCount>([&](int i) {
    if constexpr (std::is_same_v<S, bf16>) {
      return __fdividef(1.0f, 1.0f + __expf(-x.at[i]));
    } else {
      return T(1) / (T(1) + std::exp(-x.at[i]));
    }
  });
}

}  // namespace

// y = g * sigmoid(g) * u
template <class S>
void swiglu(const KernelArgs& args) {
  const auto *g = ptr<const S>(args.in[0]), *u = ptr<const S>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  over_packs<kLanes<S>>(args.out[0].elements(), access_to(g, u, y),
                        [=] __device__(int64_t i, auto lanes) {
                          const auto gate = load(g + i, lanes);
                          store(y + i, gate * sigmoid<S>(gate) * load(u + i, lanes), lanes);
                        });
}

// With s = sigmoid(g):  dg = dy * u * s * (1 + g (1 - s)),  du = dy * g * s
template <class S>
void swiglu_grad(const KernelArgs& args) {
  using T = Working<S>;
  const auto *g = ptr<const S>(args.in[0]), *u = ptr<const S>(args.in[1]),
             *dy = ptr<const S>(args.in[2]);
  auto *dg = ptr<S>(args.out[0]), *du = ptr<S>(args.out[1]);
  over_packs<kLanes<S>>(
      args.in[0].elements(), access_to(g, u, dy, dg, du), [=] __device__(int64_t i, auto lanes) {
        const auto gate = load(g + i, lanes), up = load(u + i, lanes), d = load(dy + i, lanes);
        const auto s = sigmoid<S>(gate);
        if (du != nullptr) store(du + i, d * gate * s, lanes);
        if (dg == nullptr) return;
        const auto slope = vec_of<decltype(lanes)::kCount>(
            [&](int j) { return s.at[j] * (T(1) + gate.at[j] * (T(1) - s.at[j])); });
        store(dg + i, d * up * slope, lanes);
      });
}

MORA_CUDA_ACTIVATION_KERNEL(swiglu)
MORA_CUDA_ACTIVATION_KERNEL(swiglu_grad)

}  // namespace mora::cuda
