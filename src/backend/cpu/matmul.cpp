// y = alpha * op(a) * op(b) + c                                      a: [M, K], b: [K, N] (before
// op), c, y: [M, N]
#include <cstring>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/product.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

Prepared prepare_matmul(const OpCall& call, MatmulProvider provider) {
  const auto attrs = call.attrs.as<MatmulAttrs>();
  // From the operands: the shape of the result may be an alias of the product's.
  const Shape &a = call.in[0].shape, &b = call.in[1].shape;
  const ProductShape shape{.m = attrs.ta == Transpose::yes ? a.last() : a.rows(),
                           .k = attrs.ta == Transpose::yes ? a.rows() : a.last(),
                           .n = attrs.tb == Transpose::yes ? b.rows() : b.last(),
                           .ta = attrs.ta,
                           .tb = attrs.tb,
                           .alpha = attrs.alpha,
                           .addend = call.in.size() == 3 ? Addend::result : Addend::none,
                           .dtype = call.in[0].dtype,
                           .b_dtype = call.in[1].dtype,
                           .c_dtype = call.out[0].dtype};
  std::shared_ptr<const Product> product = prepare_product(shape, provider);
  return {product->scratch_bytes(), product};
}

template <class T>
void matmul(const KernelArgs& args) {
  const Tensor& y = args.out[0];
  if (args.in.size() == 3 && args.in[2].data != y.data) {
    const auto* from = ptr<const std::byte>(args.in[2]);
    auto* to = ptr<std::byte>(y);
    parallel_pieces(static_cast<int64_t>(y.bytes()), kStreamPiece * 4,
                    [&](int64_t begin, int64_t end) {
                      std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin));
                    });
  }
  static_cast<const Product*>(args.state)
      ->run(args.in[0].data, args.in[1].data, y.data, args.scratch);
}

MORA_CPU_ACTIVATION_KERNEL(matmul)

}  // namespace mora::cpu
