// y = alpha * op(a) * op(b) + c, and the sum of two such products
//                                                  a: [M, K], b: [K, N] (before op), c, y: [M, N]
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/matmul.hpp"
#include "backend/cuda/thin_sum.hpp"

namespace mora::cuda {

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

namespace {

// The sum of the products of `first` and `second`, which are the call's in either order. A result
// in bf16 is made in f32 in scratch memory, and rounded once, when the thin product is added to it.
struct Sum {
  size_t first_input = 0, second_input = 2;
  std::unique_ptr<Product> first, second;  // second: null where it is the thin one
  ProductShape thin;                       // of a result in bf16; k = 0: none
  size_t sum_bytes = 0;                    // of that memory; the products' own follows

  size_t scratch_bytes() const {
    return sum_bytes + std::max(first->scratch_bytes(), second ? second->scratch_bytes() : 0);
  }
};

// The shapes are the call's.
Sum prepare_sum(ProductShape first, ProductShape second) {
  Sum sum;
  if (first.c_dtype != DType::bf16) {
    sum.first = prepare_product(first);
    sum.second = prepare_product(second);
    return sum;
  }
  if (!suits_thin_sum(second) || (suits_thin_sum(first) && first.k < second.k)) {
    std::swap(first, second);
    std::swap(sum.first_input, sum.second_input);
  }
  first.c_dtype = second.c_dtype = DType::f32;
  sum.sum_bytes = scratch_room(first.m * first.n, DType::f32);
  sum.first = prepare_product(first);
  sum.thin = second;
  if (!suits_thin_sum(second)) {
    sum.second = prepare_product(second);
    sum.thin.k = 0;
  }
  return sum;
}

const void* addend(const KernelArgs& args, size_t index) {
  return index < args.in.size() ? args.in[index].data : nullptr;
}

}  // namespace

Prepared prepare_matmul(const OpCall& call) {
  std::shared_ptr<const Product> product =
      prepare_product(shape_of(call, 0, call.attrs.as<MatmulAttrs>().term));
  return {product->scratch_bytes(), product};
}

Prepared prepare_matmul_sum(const OpCall& call) {
  const auto attrs = call.attrs.as<MatmulSumAttrs>();
  auto sum = std::make_shared<Sum>(
      prepare_sum(shape_of(call, 0, attrs.first), shape_of(call, 2, attrs.second)));
  return {sum->scratch_bytes(), sum};
}

template <class S>
void matmul(const KernelArgs& args) {
  static_cast<const Product*>(args.state)
      ->run({args.in[0].data, args.in[1].data, addend(args, 2), args.out[0].data}, args.scratch);
}

template <class S>
void matmul_sum(const KernelArgs& args) {
  const auto& sum = *static_cast<const Sum*>(args.state);
  const Tensor *first = &args.in[sum.first_input], *second = &args.in[sum.second_input],
               &y = args.out[0];
  const void* c = addend(args, 4);
  const bool rounds = y.dtype() == DType::bf16;
  void* z = rounds ? args.scratch : y.data;
  auto* scratch = static_cast<std::byte*>(args.scratch) + sum.sum_bytes;
  sum.first->run({first[0].data, first[1].data, rounds ? nullptr : c, z}, scratch);
  if (sum.second) sum.second->run({second[0].data, second[1].data, z, z}, scratch);
  if (!rounds) return;
  add_thin_product({static_cast<const float*>(z), static_cast<const bf16*>(c), ptr<bf16>(y)},
                   sum.thin, ptr<const bf16>(second[0]), second[1].data);
}

MORA_CUDA_ACTIVATION_KERNEL(matmul)
MORA_CUDA_ACTIVATION_KERNEL(matmul_sum)

}  // namespace mora::cuda
