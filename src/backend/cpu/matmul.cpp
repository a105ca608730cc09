// y = alpha * op(a) * op(b) + c, and the sum of two such products
//                                                  a: [M, K], b: [K, N] (before op), c, y: [M, N]
#include "backend/cpu/matmul.hpp"

#include <cstring>

#include "backend/cpu/kernels.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

ProductShape shape_of(const OpCall& call, size_t first, const MatmulTerm& term, bool adds) {
  const Type &a = call.in[first], &b = call.in[first + 1];
  const bool ta = term.ta == Transpose::yes, tb = term.tb == Transpose::yes;
  return {.m = ta ? a.shape.last() : a.shape.rows(),
          .k = ta ? a.shape.rows() : a.shape.last(),
          .n = tb ? b.shape.rows() : b.shape.last(),
          .ta = term.ta,
          .tb = term.tb,
          .alpha = term.alpha,
          .addend = adds ? Addend::result : Addend::none,
          .dtype = a.dtype,
          .b_dtype = b.dtype,
          .c_dtype = call.out[0].dtype,
          .last_read = call.last_read};
}

void copy_addend(const Tensor& from, const Tensor& to) {
  if (from.data == to.data) return;
  const auto* source = ptr<const std::byte>(from);
  auto* target = ptr<std::byte>(to);
  parallel_pieces(static_cast<int64_t>(to.bytes()), kStreamPiece * 4,
                  [&](int64_t begin, int64_t end) {
                    std::memcpy(target + begin, source + begin, static_cast<size_t>(end - begin));
                  });
}

Prepared prepare_matmul(const OpCall& call, MatmulProvider provider) {
  const MatmulTerm term = call.attrs.as<MatmulAttrs>().term;
  std::shared_ptr<const Product> product =
      prepare_product(shape_of(call, 0, term, call.in.size() == 3), provider);
  return {product->scratch_bytes(), product};
}

Prepared prepare_matmul_sum(const OpCall& call, MatmulProvider provider) {
  const auto attrs = call.attrs.as<MatmulSumAttrs>();
  const bool adds = call.in.size() == 5;
  std::shared_ptr<const ProductSum> sum = prepare_product_sum(
      shape_of(call, 0, attrs.first, adds), shape_of(call, 2, attrs.second, adds), provider);
  return {sum->scratch_bytes(), sum};
}

template <class T>
void matmul(const KernelArgs& args) {
  const Tensor& y = args.out[0];
  if (args.in.size() == 3) copy_addend(args.in[2], y);
  static_cast<const Product*>(args.state)
      ->run(args.in[0].data, args.in[1].data, y.data, args.scratch);
}

template <class T>
void matmul_sum(const KernelArgs& args) {
  const Tensor& y = args.out[0];
  if (args.in.size() == 5) copy_addend(args.in[4], y);
  static_cast<const ProductSum*>(args.state)
      ->run({args.in[0].data, args.in[1].data}, {args.in[2].data, args.in[3].data}, y.data,
            args.scratch);
}

MORA_CPU_ACTIVATION_KERNEL(matmul)
MORA_CPU_ACTIVATION_KERNEL(matmul_sum)

}  // namespace mora::cpu
