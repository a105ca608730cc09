// y = alpha * op(a) * op(b) + c, over matrices whose leading dimensions are flattened to rows.
#include "ops/define.hpp"

namespace mora {

namespace {

// Equal types; a matrix in 16 bits that is widened to a's f32, or one in f32 that is rounded to a's
// bf16.
bool may_multiply(DType a, DType b) {
  return a == b || (a == DType::f32 && is_narrow(b)) || (a == DType::bf16 && b == DType::f32);
}

struct Sides {
  int64_t m, k, n;
};

Sides sides(const Type& a, const Type& b, const MatmulAttrs& attrs) {
  const bool ta = attrs.ta == Transpose::yes, tb = attrs.tb == Transpose::yes;
  const int64_t ak = ta ? a.shape.rows() : a.shape.last();
  const int64_t bk = tb ? b.shape.last() : b.shape.rows();
  check(ak == bk, "inner dimensions differ: ", a.shape, ta ? "^T" : "", " x ", b.shape,
        tb ? "^T" : "", " (", ak, " vs ", bk, ")");
  return {ta ? a.shape.last() : a.shape.rows(), ak, tb ? b.shape.rows() : b.shape.last()};
}

std::vector<Type> infer(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 2, 3);
  const auto a = attrs.as<MatmulAttrs>();
  check_activation(in[0], "a");
  check(may_multiply(in[0].dtype, in[1].dtype), "b is ", in[1], " but a is ", in[0]);
  check(in[0].shape.rank() >= 2 && in[1].shape.rank() >= 2, "needs matrices, got ", in[0].shape,
        " and ", in[1].shape);
  const Sides s = sides(in[0], in[1], a);
  const Shape shape = a.ta == Transpose::yes ? Shape{s.m, s.n} : in[0].shape.with_last(s.n);
  const Type out{a.out.value_or(in[0].dtype), shape};
  check(out.dtype == in[0].dtype || out.dtype == working_of(in[0].dtype), "the result cannot be ",
        out, " where a is ", in[0]);
  if (in.size() == 3) check_type(in[2], out, "c");
  return {out};
}

Transpose flip(Transpose t) {
  return t == Transpose::yes ? Transpose::no : Transpose::yes;
}

// With y = op(a) op(b):  d op(a) = dy op(b)^T,  d op(b) = op(a)^T dy;  transposed operands
// transpose these. A weight in f32 gets its gradient in f32 from operands in bf16.
std::vector<Var> vjp(const VjpArgs& g) {
  const auto attrs = g.node.attrs.as<MatmulAttrs>();
  const Var a = g.in[0], b = g.in[1], dy = g.dout[0];
  std::vector<Var> din(g.in.size());
  if (g.wants(0)) {
    din[0] = attrs.ta == Transpose::no
                 ? matmul(dy, b, {.ta = Transpose::no, .tb = flip(attrs.tb), .alpha = attrs.alpha})
                 : matmul(b, dy, {.ta = attrs.tb, .tb = Transpose::yes, .alpha = attrs.alpha});
    din[0] = reshape(cast(din[0], a.type().dtype), a.shape());
  }
  if (g.wants(1)) {
    const DType dtype = b.type().dtype;
    check(dtype == working_of(a.type().dtype) || dtype == a.type().dtype,
          "matmul has no derivative for an operand stored in ", dtype);
    din[1] = attrs.tb == Transpose::no
                 ? matmul(a, dy, {.ta = flip(attrs.ta), .alpha = attrs.alpha, .out = dtype})
                 : matmul(dy, a, {Transpose::yes, attrs.ta, attrs.alpha, {}, dtype});
    din[1] = reshape(din[1], b.shape());
  }
  if (din.size() == 3 && g.wants(2)) din[2] = dy;
  return din;
}

double flops(std::span<const Tensor> in, std::span<const Tensor> out, const Attrs& attrs) {
  const bool ta = attrs.as<MatmulAttrs>().ta == Transpose::yes;
  const int64_t inner = ta ? in[0].shape().rows() : in[0].shape().last();
  return 2.0 * static_cast<double>(out[0].elements()) * static_cast<double>(inner);
}

}  // namespace

const Op op_records::matmul{.name = "matmul",
                            .id = static_cast<int>(OpId::matmul),
                            .infer = infer,
                            .vjp = vjp,
                            .inplace = 2,
                            .addend = 2,
                            .flops = flops};

Var matmul(Var a, Var b, const MatmulOptions& o) {
  const MatmulAttrs attrs{.ta = o.ta, .tb = o.tb, .alpha = o.alpha, .out = o.out};
  return o.c ? emit(op_records::matmul, attrs, a, b, o.c)[0]
             : emit(op_records::matmul, attrs, a, b)[0];
}

}  // namespace mora
