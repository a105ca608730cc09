// y = alpha * op(a) * op(b) + c, and the sum of two such products
//                                                  a: [M, K], b: [K, N] (before op), c, y: [M, N]
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/product.hpp"

namespace mora::cuda {

namespace {

// From the operands: the shape of the result may be an alias of the product's.
ProductShape shape_of(const OpCall& call, size_t first, const MatmulTerm& term) {
  const Type &a = call.in[first], &b = call.in[first + 1];
  const bool ta = term.ta == Transpose::yes, tb = term.tb == Transpose::yes;
  return {.m = ta ? a.shape.last() : a.shape.rows(),
          .k = ta ? a.shape.rows() : a.shape.last(),
          .n = tb ? b.shape.rows() : b.shape.last(),
          .ta = term.ta,
          .tb = term.tb,
          .alpha = term.alpha,
          .dtype = a.dtype,
          .b_dtype = b.dtype,
          .c_dtype = call.out[0].dtype};
}

// A sum in bf16 is made in f32 in scratch memory, and rounded once.
struct Sum {
  std::unique_ptr<Product> first, second;
  size_t sum_bytes = 0;  // of that memory; the products' own follows
};

const void* addend(const KernelArgs& args, size_t index) {
  return index < args.in.size() ? args.in[index].data : nullptr;
}

// y = z + c
void round_sum(const float* z, const bf16* c, const Tensor& y) {
  auto* to = ptr<bf16>(y);
  if (c == nullptr) {
    over_elements(y.elements(), [=] __device__(int64_t i) { to[i] = bf16(z[i]); });
  } else {
    over_elements(y.elements(),
                  [=] __device__(int64_t i) { to[i] = bf16(z[i] + value_as<float>(c[i])); });
  }
}

}  // namespace

Prepared prepare_matmul(const OpCall& call) {
  std::shared_ptr<const Product> product =
      prepare_product(shape_of(call, 0, call.attrs.as<MatmulAttrs>().term));
  return {product->scratch_bytes(), product};
}

Prepared prepare_matmul_sum(const OpCall& call) {
  const auto attrs = call.attrs.as<MatmulSumAttrs>();
  ProductShape first = shape_of(call, 0, attrs.first), second = shape_of(call, 2, attrs.second);
  auto sum = std::make_shared<Sum>();
  if (first.c_dtype == DType::bf16) {
    first.c_dtype = second.c_dtype = DType::f32;
    sum->sum_bytes = scratch_room(first.m * first.n, DType::f32);
  }
  sum->first = prepare_product(first);
  sum->second = prepare_product(second);
  return {sum->sum_bytes + std::max(sum->first->scratch_bytes(), sum->second->scratch_bytes()),
          sum};
}

template <class S>
void matmul(const KernelArgs& args) {
  static_cast<const Product*>(args.state)
      ->run({args.in[0].data, args.in[1].data, addend(args, 2), args.out[0].data}, args.scratch);
}

template <class S>
void matmul_sum(const KernelArgs& args) {
  const auto& sum = *static_cast<const Sum*>(args.state);
  const Tensor& y = args.out[0];
  const void* c = addend(args, 4);
  auto* scratch = static_cast<std::byte*>(args.scratch) + sum.sum_bytes;
  void* to = y.dtype() == DType::bf16 ? args.scratch : y.data;
  sum.first->run({args.in[0].data, args.in[1].data, to == y.data ? c : nullptr, to}, scratch);
  sum.second->run({args.in[2].data, args.in[3].data, to, to}, scratch);
  if (to != y.data) round_sum(static_cast<const float*>(to), static_cast<const bf16*>(c), y);
}

MORA_CUDA_ACTIVATION_KERNEL(matmul)
MORA_CUDA_ACTIVATION_KERNEL(matmul_sum)

}  // namespace mora::cuda
