// y = alpha * op(a) * op(b) + c, and the sum of two such products, over matrices whose leading
// dimensions are flattened to rows.
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

Sides sides(const Type& a, const Type& b, const MatmulTerm& term) {
  const bool ta = term.ta == Transpose::yes, tb = term.tb == Transpose::yes;
  const int64_t ak = ta ? a.shape.rows() : a.shape.last();
  const int64_t bk = tb ? b.shape.last() : b.shape.rows();
  check(ak == bk, "inner dimensions differ: ", a.shape, ta ? "^T" : "", " x ", b.shape,
        tb ? "^T" : "", " (", ak, " vs ", bk, ")");
  return {ta ? a.shape.last() : a.shape.rows(), ak, tb ? b.shape.rows() : b.shape.last()};
}

struct Options {
  MatmulTerm term;
  std::optional<DType> out;
};

// The result of a term; a and b are checked.
Type infer_term(const Type& a, const Type& b, const Options& o) {
  check_activation(a, "a");
  check(may_multiply(a.dtype, b.dtype), "b is ", b, " but a is ", a);
  check(a.shape.rank() >= 2 && b.shape.rank() >= 2, "needs matrices, got ", a.shape, " and ",
        b.shape);
  const Sides s = sides(a, b, o.term);
  const Shape shape = o.term.ta == Transpose::yes ? Shape{s.m, s.n} : a.shape.with_last(s.n);
  const Type out{o.out.value_or(a.dtype), shape};
  check(out.dtype == a.dtype || out.dtype == working_of(a.dtype), "the result cannot be ", out,
        " where a is ", a);
  return out;
}

std::vector<Type> infer(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 2, 3);
  const auto a = attrs.as<MatmulAttrs>();
  const Type out = infer_term(in[0], in[1], {a.term, a.out});
  if (in.size() == 3) check_type(in[2], out, "c");
  return {out};
}

std::vector<Type> infer_sum(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 4, 5);
  const auto a = attrs.as<MatmulSumAttrs>();
  const Type out = infer_term(in[0], in[1], {a.first, a.out});
  check(in[2].dtype == in[0].dtype, "the second a is ", in[2], " but the first is ", in[0]);
  const Type second = infer_term(in[2], in[3], {a.second, a.out});
  check(second.shape.rows() == out.shape.rows() && second.shape.last() == out.shape.last(),
        "the products differ: ", out.shape, " and ", second.shape);
  if (in.size() == 5) check_type(in[4], out, "c");
  return {out};
}

Transpose flip(Transpose t) {
  return t == Transpose::yes ? Transpose::no : Transpose::yes;
}

// With y = op(a) op(b):  d op(a) = dy op(b)^T,  d op(b) = op(a)^T dy;  transposed operands
// transpose these. A weight in f32 gets its gradient in f32 from operands in bf16.
Var gradient_of_a(Var a, Var b, Var dy, const MatmulTerm& t) {
  const Var da = t.ta == Transpose::no
                     ? matmul(dy, b, {.ta = Transpose::no, .tb = flip(t.tb), .alpha = t.alpha})
                     : matmul(b, dy, {.ta = t.tb, .tb = Transpose::yes, .alpha = t.alpha});
  return reshape(cast(da, a.type().dtype), a.shape());
}

Var gradient_of_b(Var a, Var b, Var dy, const MatmulTerm& t) {
  const DType dtype = b.type().dtype;
  check(dtype == working_of(a.type().dtype) || dtype == a.type().dtype,
        "matmul has no derivative for an operand stored in ", dtype);
  const Var db = t.tb == Transpose::no
                     ? matmul(a, dy, {.ta = flip(t.ta), .alpha = t.alpha, .out = dtype})
                     : matmul(dy, a, {Transpose::yes, t.ta, t.alpha, {}, dtype});
  return reshape(db, b.shape());
}

std::vector<Var> vjp(const VjpArgs& g) {
  const MatmulTerm term = g.node.attrs.as<MatmulAttrs>().term;
  std::vector<Var> din(g.in.size());
  if (g.wants(0)) din[0] = gradient_of_a(g.in[0], g.in[1], g.dout[0], term);
  if (g.wants(1)) din[1] = gradient_of_b(g.in[0], g.in[1], g.dout[0], term);
  if (din.size() == 3 && g.wants(2)) din[2] = g.dout[0];
  return din;
}

std::vector<Var> vjp_of_sum(const VjpArgs& g) {
  const auto attrs = g.node.attrs.as<MatmulSumAttrs>();
  std::vector<Var> din(g.in.size());
  for (const size_t i : {size_t{0}, size_t{2}}) {
    const MatmulTerm& term = i == 0 ? attrs.first : attrs.second;
    if (g.wants(i)) din[i] = gradient_of_a(g.in[i], g.in[i + 1], g.dout[0], term);
    if (g.wants(i + 1)) din[i + 1] = gradient_of_b(g.in[i], g.in[i + 1], g.dout[0], term);
  }
  if (din.size() == 5 && g.wants(4)) din[4] = g.dout[0];
  return din;
}

double term_flops(const Tensor& a, const Tensor& y, const MatmulTerm& term) {
  const int64_t inner = term.ta == Transpose::yes ? a.shape().rows() : a.shape().last();
  return 2.0 * static_cast<double>(y.elements()) * static_cast<double>(inner);
}

double flops(std::span<const Tensor> in, std::span<const Tensor> out, const Attrs& attrs) {
  return term_flops(in[0], out[0], attrs.as<MatmulAttrs>().term);
}

double flops_of_sum(std::span<const Tensor> in, std::span<const Tensor> out, const Attrs& attrs) {
  const auto a = attrs.as<MatmulSumAttrs>();
  return term_flops(in[0], out[0], a.first) + term_flops(in[2], out[0], a.second);
}

}  // namespace

const Op op_records::matmul{.name = "matmul",
                            .id = static_cast<int>(OpId::matmul),
                            .infer = infer,
                            .vjp = vjp,
                            .inplace = 2,
                            .addend = 2,
                            .flops = flops};

const Op op_records::matmul_sum{.name = "matmul_sum",
                                .id = static_cast<int>(OpId::matmul_sum),
                                .infer = infer_sum,
                                .vjp = vjp_of_sum,
                                .inplace = 4,
                                .addend = 4,
                                .flops = flops_of_sum};

Var matmul(Var a, Var b, const MatmulOptions& o) {
  const MatmulAttrs attrs{.term = {.ta = o.ta, .tb = o.tb, .alpha = o.alpha}, .out = o.out};
  return o.c ? emit(op_records::matmul, attrs, a, b, o.c)[0]
             : emit(op_records::matmul, attrs, a, b)[0];
}

Var matmul_sum(const MatmulOperands& first, const MatmulOperands& second,
               const MatmulSumAttrs& attrs, Var c) {
  return c ? emit(op_records::matmul_sum, attrs, first.a, first.b, second.a, second.b, c)[0]
           : emit(op_records::matmul_sum, attrs, first.a, first.b, second.a, second.b)[0];
}

}  // namespace mora
