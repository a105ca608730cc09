// The operations that change bound memory (gradient accumulation, AdamW) and the norm they need.
// They end a step and have no derivatives.
#include "ops/define.hpp"

namespace mora {

namespace {

std::vector<Type> infer_accumulate(std::span<const Type> in, const Attrs&) {
  check_count(in, 2, 2);
  check_working(in[0], "target");
  check_type(in[1], in[0], "x");
  return {};
}

std::vector<Type> infer_clear(std::span<const Type> in, const Attrs&) {
  check_count(in, 1, 1);
  return {};
}

std::vector<Type> infer_squared_norm(std::span<const Type> in, const Attrs&) {
  check_count(in, 1, 1);
  check_working(in[0], "x");
  return {{in[0].dtype, {1}}};
}

std::vector<Type> infer_adamw(std::span<const Type> in, const Attrs&) {
  check_count(in, 6, 6);
  check_working(in[0], "parameters");
  check_type(in[1], in[0], "gradients");
  check_type(in[2], in[0], "exp_avg");
  check_type(in[3], in[0], "exp_avg_sq");
  check_type(in[4], {in[0].dtype, {1}}, "gradient_norm2");
  check_type(in[5], {DType::f64, {3}}, "hyper");
  return {};
}

}  // namespace

const Op op_records::accumulate{.name = "accumulate",
                                .id = static_cast<int>(OpId::accumulate),
                                .infer = infer_accumulate,
                                .mutates = 1u};
const Op op_records::clear{
    .name = "clear", .id = static_cast<int>(OpId::clear), .infer = infer_clear, .mutates = 1u};
const Op op_records::squared_norm{.name = "squared_norm",
                                  .id = static_cast<int>(OpId::squared_norm),
                                  .infer = infer_squared_norm};
const Op op_records::adamw{
    .name = "adamw", .id = static_cast<int>(OpId::adamw), .infer = infer_adamw, .mutates = 0b1101u};

void accumulate(Var target, Var x) {
  emit(op_records::accumulate, {}, target, x);
}
void clear(Var target) {
  emit(op_records::clear, {}, target);
}
Var squared_norm(Var x) {
  return emit(op_records::squared_norm, {}, x)[0];
}
void adamw(const AdamWState& s, Var gradient_norm2, Var hyper, const AdamWAttrs& attrs) {
  emit(op_records::adamw, attrs, s.parameters, s.gradients, s.exp_avg, s.exp_avg_sq, gradient_norm2,
       hyper);
}

}  // namespace mora
