// A signed permutation of features: what makes MoRA's groups random (adapters/mora.cpp). Forward
// and backward are transposes and inverses of each other, and each is the other's derivative.
#include "ops/define.hpp"

namespace mora {

namespace {

std::vector<Type> infer(std::span<const Type> in, const Attrs&) {
  check_count(in, 2, 2);
  check_activation(in[0], "x");
  check(in[0].shape.rank() == 2, "x must be a matrix, got ", in[0]);
  check_type(in[1], {DType::i32, {in[0].shape.last()}}, "order");
  return {in[0]};
}

std::vector<Var> vjp(const VjpArgs& g) {
  const bool forward = g.node.attrs.as<PermuteAttrs>().direction == Direction::forward;
  return {permute(g.dout[0], g.in[1], {forward ? Direction::backward : Direction::forward}), {}};
}

}  // namespace

const Op op_records::permute{
    .name = "permute", .id = static_cast<int>(OpId::permute), .infer = infer, .vjp = vjp};

Var permute(Var x, Var order, const PermuteAttrs& attrs) {
  return emit(op_records::permute, attrs, x, order)[0];
}

}  // namespace mora
