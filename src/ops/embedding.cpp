// y[t, :] = table[ids[t], :]; the gradient adds rows with equal ids in token order.
#include "ops/define.hpp"

namespace mora {

namespace {

std::vector<Type> infer(std::span<const Type> in, const Attrs&) {
  check_count(in, 2, 2);
  check(in[0].dtype != DType::i32 && in[0].shape.rank() == 2,
        "table must be a floating-point matrix, got ", in[0]);
  check(in[1].shape.rank() == 1, "ids must be a vector, got ", in[1]);
  check_index(in[1], in[1].shape.last(), "ids");
  const DType working = is_narrow(in[0].dtype) ? DType::f32 : in[0].dtype;
  return {{working, {in[1].shape.last(), in[0].shape.last()}}};
}

std::vector<Var> vjp(const VjpArgs& g) {
  check(!is_narrow(g.in[0].type().dtype), "embedding has no derivative for a table stored in ",
        g.in[0].type().dtype);
  const EmbeddingGradAttrs attrs{.rows = g.in[0].shape()[0]};
  return {emit(op_records::embedding_grad, attrs, g.dout[0], g.in[1])[0], {}};
}

std::vector<Type> infer_grad(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 2, 2);
  check_working(in[0], "dy");
  check(in[0].shape.rank() == 2, "dy must be a matrix, got ", in[0]);
  check_index(in[1], in[0].shape[0], "ids");
  return {{in[0].dtype, {attrs.as<EmbeddingGradAttrs>().rows, in[0].shape.last()}}};
}

std::vector<Var> vjp_grad(const VjpArgs& g) {
  return {embedding(g.dout[0], g.in[1]), {}};
}

}  // namespace

const Op op_records::embedding{
    .name = "embedding", .id = static_cast<int>(OpId::embedding), .infer = infer, .vjp = vjp};
const Op op_records::embedding_grad{.name = "embedding_grad",
                                    .id = static_cast<int>(OpId::embedding_grad),
                                    .infer = infer_grad,
                                    .vjp = vjp_grad};

Var embedding(Var table, Var ids) {
  return emit(op_records::embedding, {}, table, ids)[0];
}

}  // namespace mora
