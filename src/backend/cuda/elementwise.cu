// Operations on elements alone.
#include "backend/cuda/kernels.hpp"

namespace mora::cuda {

template <class S, class Z>
void add_stored_as(const KernelArgs& args) {
  using T = Working<S>;
  const auto* x = ptr<const S>(args.in[0]);
  const auto* z = ptr<const Z>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  over_elements(args.in[0].elements(), [=] __device__(int64_t i) {
    y[i] = value_as<S>(value_as<T>(x[i]) + value_as<T>(z[i]));
  });
}

// y = x + z, in the type of x
template <class S>
void add(const KernelArgs& args) {
  if (args.in[1].dtype() == DType::bf16) return add_stored_as<S, bf16>(args);
  add_stored_as<S, S>(args);
}

// y = factor * x; factor: [1]
template <class S>
void scale_by(const KernelArgs& args) {
  using T = Working<S>;
  const auto* x = ptr<const S>(args.in[0]);
  const auto* factor = ptr<const T>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  over_elements(args.in[0].elements(),
                [=] __device__(int64_t i) { y[i] = value_as<S>(*factor * value_as<T>(x[i])); });
}

MORA_CUDA_ACTIVATION_KERNEL(add)
MORA_CUDA_ACTIVATION_KERNEL(scale_by)

}  // namespace mora::cuda
