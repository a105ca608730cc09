// add, scale_by and cast: the few element-by-element operations that are not part of a larger one.
#include "ops/define.hpp"

namespace mora {

namespace {

std::vector<Type> infer_add(std::span<const Type> in, const Attrs&) {
  check_count(in, 2, 2);
  check_activation(in[0], "a");
  const bool narrow = in[0].dtype == DType::f32 && in[1].dtype == DType::bf16;
  check_type(in[1], {narrow ? DType::bf16 : in[0].dtype, in[0].shape}, "b");
  return {in[0]};
}

std::vector<Var> vjp_add(const VjpArgs& g) {
  return {g.dout[0], g.wants(1) ? cast(g.dout[0], g.in[1].type().dtype) : Var{}};
}

std::vector<Type> infer_scale_by(std::span<const Type> in, const Attrs&) {
  check_count(in, 2, 2);
  check_activation(in[0], "x");
  check_type(in[1], {working_of(in[0].dtype), {1}}, "factor");
  return {in[0]};
}

std::vector<Var> vjp_scale_by(const VjpArgs& g) {
  std::vector<Var> din(2);
  if (g.wants(0)) din[0] = scale_by(g.dout[0], g.in[1]);
  if (g.wants(1)) {  // <dy, x>, as a product of a row and a column
    const Shape row{1, g.in[0].shape().elements()};
    din[1] = reshape(matmul(reshape(g.dout[0], row), reshape(g.in[0], row),
                            {.tb = Transpose::yes, .out = g.in[1].type().dtype}),
                     {1});
  }
  return din;
}

std::vector<Type> infer_cast(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 1, 1);
  const DType to = attrs.as<CastAttrs>().dtype;
  check(in[0].dtype != DType::i32 && to != DType::i32, "only floating-point types convert, got ",
        in[0], " to ", to);
  return {{to, in[0].shape}};
}

std::vector<Var> vjp_cast(const VjpArgs& g) {
  return {cast(g.dout[0], g.in[0].type().dtype)};
}

}  // namespace

const Op op_records::add{.name = "add",
                         .id = static_cast<int>(OpId::add),
                         .infer = infer_add,
                         .vjp = vjp_add,
                         .inplace = 0};
const Op op_records::scale_by{.name = "scale_by",
                              .id = static_cast<int>(OpId::scale_by),
                              .infer = infer_scale_by,
                              .vjp = vjp_scale_by,
                              .inplace = 0};
const Op op_records::cast{
    .name = "cast", .id = static_cast<int>(OpId::cast), .infer = infer_cast, .vjp = vjp_cast};

Var add(Var a, Var b) {
  return emit(op_records::add, {}, a, b)[0];
}
Var scale_by(Var x, Var factor) {
  return emit(op_records::scale_by, {}, x, factor)[0];
}
Var cast(Var x, DType dtype) {
  return x.type().dtype == dtype ? x : emit(op_records::cast, CastAttrs{dtype}, x)[0];
}

}  // namespace mora
