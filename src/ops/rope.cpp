// Rotary position embedding (Su et al. 2021), half-split pairs as in transformers.
#include "ops/define.hpp"

namespace mora {

namespace {

std::vector<Type> infer(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 3, 3);
  const auto a = attrs.as<RopeAttrs>();
  check_activation(in[0], "x");
  check(in[0].shape.rank() == 2 && in[1].shape.rank() == 2, "x and table must be matrices, got ",
        in[0], " and ", in[1]);
  const int64_t head_dim = in[1].shape.last();
  check(head_dim % 2 == 0, "head_dim must be even, got ", head_dim);
  check(in[0].shape.last() == a.heads * head_dim, "x is ", in[0].shape, " but ", a.heads,
        " heads of ", head_dim, " are asked for");
  check_type(in[1], {working_of(in[0].dtype), in[1].shape}, "table");
  check_index(in[2], in[0].shape[0], "positions");
  return {in[0]};
}

std::vector<Var> vjp(const VjpArgs& g) {
  check(!g.wants(1), "rope has no derivative for its table");
  auto attrs = g.node.attrs.as<RopeAttrs>();
  attrs.direction =
      attrs.direction == Direction::forward ? Direction::backward : Direction::forward;
  return {rope(g.dout[0], g.in[1], g.in[2], attrs), {}, {}};
}

}  // namespace

const Op op_records::rope{
    .name = "rope", .id = static_cast<int>(OpId::rope), .infer = infer, .vjp = vjp, .inplace = 0};

Var rope(Var x, Var table, Var positions, const RopeAttrs& attrs) {
  return emit(op_records::rope, attrs, x, table, positions)[0];
}

}  // namespace mora
