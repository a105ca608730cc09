// y = silu(gate) * up  (Shazeer 2020).
#include "ops/define.hpp"

namespace mora {

namespace {

std::vector<Type> infer(std::span<const Type> in, const Attrs&) {
  check_count(in, 2, 2);
  check_activation(in[0], "gate");
  check_type(in[1], in[0], "up");
  return {in[0]};
}

std::vector<Var> vjp(const VjpArgs& g) {
  const auto d = emit(op_records::swiglu_grad, {}, g.in[0], g.in[1], g.dout[0]);
  return {g.wants(0) ? d[0] : Var{}, g.wants(1) ? d[1] : Var{}};
}

std::vector<Type> infer_grad(std::span<const Type> in, const Attrs&) {
  check_count(in, 3, 3);
  check_activation(in[0], "gate");
  check_type(in[1], in[0], "up");
  check_type(in[2], in[0], "dy");
  return {in[0], in[0]};
}

}  // namespace

const Op op_records::swiglu{.name = "swiglu",
                            .id = static_cast<int>(OpId::swiglu),
                            .infer = infer,
                            .vjp = vjp,
                            .inplace = 0};
const Op op_records::swiglu_grad{.name = "swiglu_grad",
                                 .id = static_cast<int>(OpId::swiglu_grad),
                                 .infer = infer_grad,
                                 .inplace = 2};

Var swiglu(Var gate, Var up) {
  return emit(op_records::swiglu, {}, gate, up)[0];
}

}  // namespace mora
