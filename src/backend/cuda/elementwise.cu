// add, scale_by, cast: one pass over memory each.
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/over_packs.hpp"

namespace mora::cuda {

namespace {

template <class S, class Z>
void add_stored_as(const KernelArgs& args) {
  const auto* x = ptr<const S>(args.in[0]);
  const auto* z = ptr<const Z>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  over_packs<kLanes<S, Z>>(args.in[0].elements(), access_to(x, z, y),
                           [=] __device__(int64_t i, auto lanes) {
                             store(y + i, load(x + i, lanes) + load(z + i, lanes), lanes);
                           });
}

template <class From, class To>
void cast_to(const KernelArgs& args) {
  const auto* x = ptr<const From>(args.in[0]);
  auto* y = ptr<To>(args.out[0]);
  over_packs<kLanes<From, To>>(
      args.in[0].elements(), access_to(x, y),
      [=] __device__(int64_t i, auto lanes) { store(y + i, load(x + i, lanes), lanes); });
}

template <class From>
void cast_from(const KernelArgs& args) {
  switch (args.out[0].dtype()) {
    case DType::f32:
      return cast_to<From, float>(args);
    case DType::bf16:
      return cast_to<From, bf16>(args);
    case DType::f16:
      return cast_to<From, f16>(args);
    case DType::f64:
      return cast_to<From, double>(args);
    case DType::i32:
      return;
  }
}

}  // namespace

// y = x + z, in the type of x; z may be stored in bf16 where that is f32
template <class S>
void add(const KernelArgs& args) {
  if constexpr (std::is_same_v<S, float>) {
    if (args.in[1].dtype() == DType::bf16) return add_stored_as<S, bf16>(args);
  }
  add_stored_as<S, S>(args);
}

// y = factor * x; factor: [1]
template <class S>
void scale_by(const KernelArgs& args) {
  const auto* x = ptr<const S>(args.in[0]);
  const auto* factor = ptr<const Working<S>>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  over_packs<kLanes<S>>(
      args.in[0].elements(), access_to(x, y),
      [=] __device__(int64_t i, auto lanes) { store(y + i, *factor * load(x + i, lanes), lanes); });
}

// y = x in another type
template <class T>
void cast(const KernelArgs& args) {
  if constexpr (std::is_same_v<T, double>) return cast_from<double>(args);
  switch (args.in[0].dtype()) {
    case DType::bf16:
      return cast_from<bf16>(args);
    case DType::f16:
      return cast_from<f16>(args);
    default:
      return cast_from<float>(args);
  }
}

MORA_CUDA_ACTIVATION_KERNEL(add)
MORA_CUDA_ACTIVATION_KERNEL(scale_by)
MORA_CUDA_KERNEL(cast)

}  // namespace mora::cuda
