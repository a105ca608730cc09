// y = x * rstd * w, rstd = 1/sqrt(mean(x^2) + eps)  (Zhang & Sennrich 2019, as LlamaRMSNorm).
#include "ops/define.hpp"

namespace mora {

namespace {

std::vector<Type> infer(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 2, 2);
  check_working(in[0], "x");
  check(in[0].shape.rank() == 2, "x must be [T, D], got ", in[0]);
  check_type(in[1], {in[0].dtype, {in[0].shape.last()}}, "w");
  const DType y = attrs.as<RmsNormAttrs>().out.value_or(in[0].dtype);
  check(working_of(y) == in[0].dtype, "y cannot be ", y, " where x is ", in[0]);
  return {{y, in[0].shape}, {in[0].dtype, {in[0].shape[0]}}};
}

std::vector<Var> vjp(const VjpArgs& g) {
  check(!g.dout[1], "rms_norm has no derivative through rstd");
  const auto d =
      emit(op_records::rms_norm_grad, g.node.attrs, g.in[0], g.in[1], g.out[1], g.dout[0]);
  return {g.wants(0) ? d[0] : Var{}, g.wants(1) ? d[1] : Var{}};
}

std::vector<Type> infer_grad(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 4, 4);
  const auto forward = infer(in.first(2), attrs);
  check_type(in[2], forward[1], "rstd");
  check_type(in[3], forward[0], "dy");
  return {in[0], in[1]};
}

}  // namespace

const Op op_records::rms_norm{
    .name = "rms_norm", .id = static_cast<int>(OpId::rms_norm), .infer = infer, .vjp = vjp};
const Op op_records::rms_norm_grad{
    .name = "rms_norm_grad", .id = static_cast<int>(OpId::rms_norm_grad), .infer = infer_grad};

RmsNormed rms_norm(Var x, Var w, double eps, std::optional<DType> y) {
  const auto out = emit(op_records::rms_norm, RmsNormAttrs{.eps = eps, .out = y}, x, w);
  return {out[0], out[1]};
}

}  // namespace mora
