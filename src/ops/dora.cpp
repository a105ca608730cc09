// DoRA (Liu et al. 2024, arXiv 2402.09353): the rows of W + s B A get magnitudes of their own.
// Their norms are constants to derivatives (section 4.3 there), so that row_norm has none and dora
// passes none on to them.
#include "ops/define.hpp"

namespace mora {

namespace {

std::vector<Type> infer_row_norm(std::span<const Type> in, const Attrs&) {
  check_count(in, 3, 3);
  check_working(in[1], "b");
  const DType dtype = in[1].dtype;
  check(in[0].dtype == dtype || (is_narrow(in[0].dtype) && dtype == DType::f32), "w is ", in[0],
        " but b is ", in[1]);
  check(in[0].shape.rank() == 2 && in[1].shape.rank() == 2, "needs matrices, got ", in[0].shape,
        " and ", in[1].shape);
  check_type(in[1], {dtype, {in[0].shape[0], in[1].shape[1]}}, "b");
  check_type(in[2], {dtype, {in[1].shape[1], in[0].shape[1]}}, "a");
  return {{dtype, {in[0].shape[0]}}};
}

void check_dora(std::span<const Type> in) {
  check_activation(in[0], "base");
  check(in[0].shape.rank() == 2, "base must be a matrix, got ", in[0]);
  check_type(in[1], in[0], "low_rank");
  check_type(in[2], {working_of(in[0].dtype), {in[0].shape[1]}}, "magnitude");
  check_type(in[3], in[2], "norm");
}

std::vector<Type> infer_dora(std::span<const Type> in, const Attrs&) {
  check_count(in, 4, 4);
  check_dora(in);
  return {in[0]};
}

std::vector<Var> vjp_dora(const VjpArgs& g) {
  const auto d = emit(op_records::dora_grad, {}, g.in[0], g.in[1], g.in[2], g.in[3], g.dout[0]);
  std::vector<Var> din(4);
  for (size_t i = 0; i < 3; ++i) {
    if (g.wants(i)) din[i] = d[i];
  }
  return din;
}

std::vector<Type> infer_dora_grad(std::span<const Type> in, const Attrs&) {
  check_count(in, 5, 5);
  check_dora(in);
  check_type(in[4], in[0], "dy");
  return {in[0], in[0], in[2]};
}

}  // namespace

const Op op_records::row_norm{
    .name = "row_norm", .id = static_cast<int>(OpId::row_norm), .infer = infer_row_norm};
const Op op_records::dora{.name = "dora",
                          .id = static_cast<int>(OpId::dora),
                          .infer = infer_dora,
                          .vjp = vjp_dora,
                          .inplace = 0};
const Op op_records::dora_grad{
    .name = "dora_grad", .id = static_cast<int>(OpId::dora_grad), .infer = infer_dora_grad};

Var row_norm(Var w, Var b, Var a, const RowNormAttrs& attrs) {
  return emit(op_records::row_norm, attrs, w, b, a)[0];
}
Var dora(const DoraInputs& in) {
  return emit(op_records::dora, {}, in.base, in.low_rank, in.magnitude, in.norm)[0];
}

}  // namespace mora
