// y[t, :] = x[t, :] + row, what a bias does; the row's gradient is the sum of dy's rows.
#include "ops/define.hpp"

namespace mora {

namespace {

std::vector<Type> infer(std::span<const Type> in, const Attrs&) {
  check_count(in, 2, 2);
  check_activation(in[0], "x");
  check(in[0].shape.rank() >= 2, "x must have rows, got ", in[0]);
  check_type(in[1], {working_of(in[0].dtype), {in[0].shape.last()}}, "row");
  return {in[0]};
}

std::vector<Var> vjp(const VjpArgs& g) {
  return {g.dout[0], g.wants(1) ? emit(op_records::sum_rows, {}, g.dout[0])[0] : Var{}};
}

std::vector<Type> infer_sum(std::span<const Type> in, const Attrs&) {
  check_count(in, 1, 1);
  check_activation(in[0], "x");
  check(in[0].shape.rank() >= 2, "x must have rows, got ", in[0]);
  return {{working_of(in[0].dtype), {in[0].shape.last()}}};
}

}  // namespace

const Op op_records::add_row{.name = "add_row",
                             .id = static_cast<int>(OpId::add_row),
                             .infer = infer,
                             .vjp = vjp,
                             .inplace = 0};
const Op op_records::sum_rows{
    .name = "sum_rows", .id = static_cast<int>(OpId::sum_rows), .infer = infer_sum};

Var add_row(Var x, Var row) {
  return emit(op_records::add_row, {}, x, row)[0];
}

}  // namespace mora
