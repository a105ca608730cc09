// The device's kernels: one function template per operation, which starts them, instantiated in its
// own file for what its activations are stored in: float, double, and bf16 where ops.def lists it
// as an operation on activations. A missing one is an undefined reference when the table in
// cuda_backend.cu is linked. Formulas stand at the kernels of the CPU.
#pragma once

#include "backend/cuda/launch.hpp"
#include "mora/backend/backend.hpp"

namespace mora::cuda {

#define MORA_OP(name) \
  template <class T>  \
  void name(const KernelArgs& args);
#include "mora/ops/ops.def"
#undef MORA_OP

#define MORA_CUDA_KERNEL(name)                  \
  template void name<float>(const KernelArgs&); \
  template void name<double>(const KernelArgs&);
// Kernels over activations read and write S, and compute in Working<S>.
#define MORA_CUDA_ACTIVATION_KERNEL(name) \
  MORA_CUDA_KERNEL(name)                  \
  template void name<bf16>(const KernelArgs&);

// What some kernels need before they run; see Backend::prepare.
Prepared prepare_matmul(const OpCall& call);
Prepared prepare_matmul_sum(const OpCall& call);
Prepared prepare_block_product(const OpCall& call);
Prepared prepare_block_product_grad(const OpCall& call);
Prepared prepare_matmul_block_product(const OpCall& call);
Prepared prepare_linear_cross_entropy(const OpCall& call);
Prepared prepare_rms_norm_grad(const OpCall& call);
Prepared prepare_attention(const OpCall& call);
Prepared prepare_attention_grad(const OpCall& call);
Prepared prepare_sum_rows(const OpCall& call);
Prepared prepare_squared_norm(const OpCall& call);
Prepared prepare_dora_grad(const OpCall& call);

// The elements of an argument; a null tensor gives a null pointer.
template <class T>
T* ptr(const Tensor& t) {
  return static_cast<T*>(t.data);
}

// Room for so many elements in scratch memory; what stands behind it is aligned again.
inline size_t scratch_room(int64_t elements, DType dtype) {
  return (static_cast<size_t>(elements) * size_of(dtype) + 255) / 256 * 256;
}

}  // namespace mora::cuda
