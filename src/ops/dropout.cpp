// Inverted dropout whose mask is recomputed from a counter instead of being stored.
#include "ops/define.hpp"

namespace mora {

namespace {

std::vector<Type> infer(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 2, 2);
  check_activation(in[0], "x");
  check_type(in[1], {DType::i32, {2}}, "step");
  const double p = attrs.as<DropoutAttrs>().p;
  check(p >= 0 && p < 1, "p must be in [0, 1), got ", p);
  return {in[0]};
}

std::vector<Var> vjp(const VjpArgs& g) {
  return {dropout(g.dout[0], g.in[1], g.node.attrs.as<DropoutAttrs>()), {}};
}

}  // namespace

const Op op_records::dropout{.name = "dropout",
                             .id = static_cast<int>(OpId::dropout),
                             .infer = infer,
                             .vjp = vjp,
                             .inplace = 0};

Var dropout(Var x, Var step, const DropoutAttrs& attrs) {
  return emit(op_records::dropout, attrs, x, step)[0];
}

}  // namespace mora
