// The CPU's kernels: one function template per operation, instantiated in its own file for what its
// activations are stored in: float, double, and bf16 where ops.def lists it as an operation on
// activations. A missing one is an undefined reference when the table in cpu_backend.cpp is linked.
#pragma once

#include <algorithm>

#include "mora/backend/backend.hpp"

namespace mora::cpu {

#define MORA_OP(name) \
  template <class T>  \
  void name(const KernelArgs& args);
#include "mora/ops/ops.def"
#undef MORA_OP

#define MORA_CPU_KERNEL(name)                   \
  template void name<float>(const KernelArgs&); \
  template void name<double>(const KernelArgs&);
// Kernels over activations read and write S, and compute in Working<S>.
#define MORA_CPU_ACTIVATION_KERNEL(name) \
  MORA_CPU_KERNEL(name)                  \
  template void name<bf16>(const KernelArgs&);

// What some kernels need before they run; see Backend::prepare.
Prepared prepare_matmul(const OpCall& call, MatmulProvider provider);
Prepared prepare_matmul_sum(const OpCall& call, MatmulProvider provider);
Prepared prepare_linear_cross_entropy(const OpCall& call, MatmulProvider provider);
Prepared prepare_rms_norm_grad(const OpCall& call);
Prepared prepare_attention(const OpCall& call, MatmulProvider provider);
Prepared prepare_attention_grad(const OpCall& call, MatmulProvider provider);
Prepared prepare_squared_norm(const OpCall& call);
Prepared prepare_unfold(const OpCall& call);
Prepared prepare_block_product(const OpCall& call, MatmulProvider provider);
Prepared prepare_block_product_grad(const OpCall& call, MatmulProvider provider);
Prepared prepare_matmul_block_product(const OpCall& call, MatmulProvider provider);

// The elements of an argument. T is the working type; a null tensor gives a null pointer.
template <class T>
T* ptr(const Tensor& t) {
  return static_cast<T*>(t.data);
}

// Room for so many elements in scratch memory; what stands behind it is aligned again.
inline size_t scratch_room(int64_t elements, DType dtype) {
  return (static_cast<size_t>(elements) * size_of(dtype) + 63) / 64 * 64;
}

// Elements per piece for loops that only stream memory: large enough to hide the cost of a parallel
// region.
constexpr int64_t kStreamPiece = 16384;

// Rows per piece so that a piece holds about kStreamPiece elements; depends on the shape only.
inline int64_t rows_per_piece(int64_t width) {
  return std::max<int64_t>(1, kStreamPiece / std::max<int64_t>(width, 1));
}

}  // namespace mora::cpu
