// Inverted dropout. Its mask takes a bit an element, so that a gradient reads it rather than
// drawing the numbers again.
#include "ops/define.hpp"

namespace mora {

namespace {

Shape mask_shape(int64_t elements) {
  return {(elements + 31) / 32};
}

void check_p(double p) {
  check(p >= 0 && p < 1, "p must be in [0, 1), got ", p);
}

std::vector<Type> infer_mask(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 1, 1);
  check_type(in[0], {DType::i32, {2}}, "step");
  const auto a = attrs.as<DropoutMaskAttrs>();
  check_p(a.p);
  check(a.elements >= 0, "elements must not be negative, got ", a.elements);
  return {{DType::i32, mask_shape(a.elements)}};
}

std::vector<Type> infer(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 2, 2);
  check_activation(in[0], "x");
  check_type(in[1], {DType::i32, mask_shape(in[0].shape.elements())}, "mask");
  check_p(attrs.as<DropoutAttrs>().p);
  return {in[0]};
}

std::vector<Var> vjp(const VjpArgs& g) {
  return {dropout(g.dout[0], g.in[1], g.node.attrs.as<DropoutAttrs>()), {}};
}

}  // namespace

const Op op_records::dropout_mask{
    .name = "dropout_mask", .id = static_cast<int>(OpId::dropout_mask), .infer = infer_mask};
const Op op_records::dropout{.name = "dropout",
                             .id = static_cast<int>(OpId::dropout),
                             .infer = infer,
                             .vjp = vjp,
                             .inplace = 0};

Var dropout_mask(Var step, const DropoutMaskAttrs& attrs) {
  return emit(op_records::dropout_mask, attrs, step)[0];
}
Var dropout(Var x, Var mask, const DropoutAttrs& attrs) {
  return emit(op_records::dropout, attrs, x, mask)[0];
}

}  // namespace mora
