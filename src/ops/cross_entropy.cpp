// Output projection and cross-entropy in one. The forward kernel also leaves the gradients for a
// loss gradient of one (dh always cheap to hold, dw only when somebody reads it), so no logits are
// kept or computed twice.
#include "ops/define.hpp"

namespace mora {

namespace {

std::vector<Type> infer(std::span<const Type> in, const Attrs&) {
  check_count(in, 4, 4);
  check_activation(in[0], "h");
  check(in[0].shape.rank() == 2 && in[1].shape.rank() == 2 &&
            in[1].shape.last() == in[0].shape.last(),
        "h and w must be [T, D] and [V, D], got ", in[0], " and ", in[1]);
  check(in[1].shape[0] > 0, "the vocabulary is empty: w is ", in[1]);
  const DType working = working_of(in[0].dtype);
  check(in[1].dtype == in[0].dtype || (is_narrow(in[1].dtype) && in[0].dtype == DType::f32) ||
            in[1].dtype == working,
        "w is ", in[1], " but h is ", in[0]);
  const int64_t tokens = in[0].shape[0];
  check_index(in[2], tokens, "labels");
  check_type(in[3], {working, {tokens}}, "weights");
  return {{working, {1}}, {working, {tokens}}, in[0], {working, in[1].shape}};
}

std::vector<Var> vjp(const VjpArgs& g) {
  check(!g.dout[1] && !g.dout[2] && !g.dout[3],
        "linear_cross_entropy has a derivative through its loss only");
  check(!g.wants(3), "linear_cross_entropy has no derivative for its weights");
  std::vector<Var> din(4);
  if (g.wants(0)) din[0] = scale_by(g.out[2], g.dout[0]);
  if (g.wants(1)) {
    check(!is_narrow(g.in[1].type().dtype),
          "linear_cross_entropy has no derivative for w stored in ", g.in[1].type().dtype);
    din[1] = scale_by(g.out[3], g.dout[0]);
  }
  return din;
}

// The logits, and the gradients that are read. Tokens without weight are counted, though skipped.
double flops(std::span<const Tensor> in, std::span<const Tensor> out, const Attrs&) {
  const double products = 1.0 + (out[2] ? 1 : 0) + (out[3] ? 1 : 0);
  return 2.0 * products * static_cast<double>(in[0].elements()) *
         static_cast<double>(in[1].shape()[0]);
}

}  // namespace

const Op op_records::linear_cross_entropy{.name = "linear_cross_entropy",
                                          .id = static_cast<int>(OpId::linear_cross_entropy),
                                          .infer = infer,
                                          .vjp = vjp,
                                          .flops = flops};

CrossEntropy linear_cross_entropy(Var h, Var w, Var labels, Var weights) {
  const auto out = emit(op_records::linear_cross_entropy, {}, h, w, labels, weights);
  return {out[0], out[1]};
}

}  // namespace mora
