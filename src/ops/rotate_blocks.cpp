// MoRA's rotation (paper Eq. 9; half-split pairs as the authors' code): block b of the circularly
// extended input is turned by the angles of table row b, so that one square matrix acts differently
// on every block.
#include "ops/define.hpp"

namespace mora {

namespace {

std::vector<Type> infer(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 2, 2);
  const auto a = attrs.as<RotateBlocksAttrs>();
  check_activation(in[0], "x");
  check(in[0].shape.rank() == 2 && in[1].shape.rank() == 2, "x and table must be matrices, got ",
        in[0], " and ", in[1]);
  check_type(in[1], {working_of(in[0].dtype), in[1].shape}, "table");
  check(in[1].shape.last() % 2 == 0, "blocks must have an even width, got ", in[1].shape.last());
  const int64_t width = in[1].shape.elements();
  const int64_t features = a.direction == Direction::forward ? in[0].shape.last() : a.size;
  check(features > 0, "there must be features to rotate, got ", features, " with x ", in[0].shape);
  if (a.direction == Direction::forward) return {{in[0].dtype, in[0].shape.with_last(width)}};
  check(in[0].shape.last() == width, "x is ", in[0].shape, " but the blocks hold ", width);
  return {{in[0].dtype, in[0].shape.with_last(a.size)}};
}

std::vector<Var> vjp(const VjpArgs& g) {
  check(!g.wants(1), "rotate_blocks has no derivative for its table");
  const auto attrs = g.node.attrs.as<RotateBlocksAttrs>();
  const RotateBlocksAttrs transposed =
      attrs.direction == Direction::forward
          ? RotateBlocksAttrs{.direction = Direction::backward, .size = g.in[0].shape().last()}
          : RotateBlocksAttrs{.direction = Direction::forward, .size = 0};
  return {rotate_blocks(g.dout[0], g.in[1], transposed), {}};
}

}  // namespace

const Op op_records::rotate_blocks{.name = "rotate_blocks",
                                   .id = static_cast<int>(OpId::rotate_blocks),
                                   .infer = infer,
                                   .vjp = vjp};

Var rotate_blocks(Var x, Var table, const RotateBlocksAttrs& attrs) {
  return emit(op_records::rotate_blocks, attrs, x, table)[0];
}

}  // namespace mora
