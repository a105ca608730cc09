// MoRA's rotation as one operation (paper Eq. 9): compression, the square matrix and decompression,
// with the transpose of all of it, its gradient, and its sum with a product.
#include "ops/define.hpp"

namespace mora {

namespace {

void check_blocks(const Type& x, const Type& table) {
  check_activation(x, "x");
  check(x.shape.rank() == 2 && table.shape.rank() == 2, "x and table must be matrices, got ", x,
        " and ", table);
  check_type(table, {working_of(x.dtype), table.shape}, "table");
  const int64_t width = table.shape.last();
  check(width > 0 && width % 2 == 0, "blocks must have an even width, got ", width);
  check(x.shape.last() > 0, "there must be features to rotate, got x ", x.shape);
}

std::vector<Type> infer_product(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 3, 4);
  const auto a = attrs.as<BlockProductAttrs>();
  check_blocks(in[0], in[2]);
  const int64_t width = in[2].shape.last();
  check_type(in[1], {working_of(in[0].dtype), {width, width}}, "m");
  check(a.size > 0, "size must be positive, got ", a.size);
  const Type out{in[0].dtype, in[0].shape.with_last(a.size)};
  if (in.size() == 4) check_type(in[3], out, "c");
  return {out};
}

std::vector<Type> infer_grad(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 3, 3);
  check_blocks(in[0], in[2]);
  check_type(in[1], {in[0].dtype, in[0].shape.with_last(attrs.as<BlockProductAttrs>().size)}, "dy");
  const int64_t width = in[2].shape.last();
  return {{working_of(in[0].dtype), {width, width}}};
}

std::vector<Type> infer_sum(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 5, 6);
  const auto a = attrs.as<MatmulBlockProductAttrs>();
  const Type out = op_records::matmul.infer(in.subspan(0, 2), MatmulAttrs{a.first, a.out})[0];
  const Type blocks = op_records::block_product.infer(in.subspan(2, 3), a.second)[0];
  check(in[2].dtype == in[0].dtype, "x is ", in[2], " but a is ", in[0]);
  check(blocks.shape == out.shape, "the products differ: ", out.shape, " and ", blocks.shape);
  if (in.size() == 6) check_type(in[5], out, "c");
  return {out};
}

Direction opposite(Direction d) {
  return d == Direction::forward ? Direction::backward : Direction::forward;
}

// The transpose of y = P(m) x is linear in m as well: <g, P^T(m) y> = <P(m) g, y>.
std::vector<Var> vjp(const VjpArgs& g) {
  check(!g.wants(2), "block_product has no derivative for its table");
  const auto a = g.node.attrs.as<BlockProductAttrs>();
  const Var x = g.in[0], table = g.in[2], dy = g.dout[0];
  std::vector<Var> din(g.in.size());
  if (g.wants(0))
    din[0] =
        block_product({dy, g.in[1], table}, {opposite(a.direction), x.shape().last(), a.alpha});
  if (g.wants(1)) {
    const bool forward = a.direction == Direction::forward;
    const Var narrow = forward ? x : dy, wide = forward ? dy : x;
    din[1] = block_product_grad({narrow, wide, table},
                                {Direction::forward, wide.shape().last(), a.alpha});
  }
  if (din.size() == 4 && g.wants(3)) din[3] = dy;
  return din;
}

double flops_of_blocks(const Tensor& x, const Tensor& table) {
  return 2.0 * static_cast<double>(x.shape().rows()) * static_cast<double>(table.elements()) *
         static_cast<double>(table.shape().last());
}

double flops(std::span<const Tensor> in, std::span<const Tensor>, const Attrs&) {
  return flops_of_blocks(in[0], in[2]);
}

double flops_of_sum(std::span<const Tensor> in, std::span<const Tensor> out, const Attrs& attrs) {
  return op_records::matmul.flops(in.subspan(0, 2), out,
                                  MatmulAttrs{attrs.as<MatmulBlockProductAttrs>().first}) +
         flops_of_blocks(in[2], in[4]);
}

}  // namespace

const Op op_records::block_product{.name = "block_product",
                                   .id = static_cast<int>(OpId::block_product),
                                   .infer = infer_product,
                                   .vjp = vjp,
                                   .inplace = 3,
                                   .addend = 3,
                                   .flops = flops};
const Op op_records::block_product_grad{.name = "block_product_grad",
                                        .id = static_cast<int>(OpId::block_product_grad),
                                        .infer = infer_grad,
                                        .flops = flops};
const Op op_records::matmul_block_product{.name = "matmul_block_product",
                                          .id = static_cast<int>(OpId::matmul_block_product),
                                          .infer = infer_sum,
                                          .inplace = 5,
                                          .addend = 5,
                                          .flops = flops_of_sum};

Var block_product(const BlockProductInputs& in, const BlockProductAttrs& attrs, Var c) {
  return c ? emit(op_records::block_product, attrs, in.x, in.m, in.table, c)[0]
           : emit(op_records::block_product, attrs, in.x, in.m, in.table)[0];
}
Var block_product_grad(const BlockProductGradInputs& in, const BlockProductAttrs& attrs) {
  return emit(op_records::block_product_grad, attrs, in.x, in.dy, in.table)[0];
}
Var matmul_block_product(const MatmulOperands& first, const BlockProductInputs& second,
                         const MatmulBlockProductAttrs& attrs, Var c) {
  const Op& sum = op_records::matmul_block_product;
  return c ? emit(sum, attrs, first.a, first.b, second.x, second.m, second.table, c)[0]
           : emit(sum, attrs, first.a, first.b, second.x, second.m, second.table)[0];
}

}  // namespace mora
