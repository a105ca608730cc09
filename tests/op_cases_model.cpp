// Cases of the operations a LLaMA consists of but attention, in the order of ops.def. Shapes with
// 0, 1, odd and large extents; labels say what is special.
#include <array>
#include <cmath>

#include "op_cases.hpp"

namespace mora::testing {

namespace {

using Cases = std::vector<OpCase>;
constexpr Storage kInt = Storage::i32;

// -- matmul --

enum class Addend { no, yes };
struct MatmulKind {
  MatmulTerm attrs = {};
  Addend addend = Addend::no;
  Storage b = Storage::working;
};

void matmul_case(Cases& out, const std::string& label, const reference::MatmulSize& s,
                 const MatmulKind& kind = {}) {
  const MatmulTerm attrs = kind.attrs;
  const bool ta = attrs.ta == Transpose::yes, tb = attrs.tb == Transpose::yes,
             narrow = kind.b == Storage::bf16 || kind.b == Storage::f16;
  OpCase c{.op = OpId::matmul,
           .label = str(label, " ", s.m, "x", s.k, "x", s.n, ta ? " ta" : "", tb ? " tb" : ""),
           .in = {{ta ? Shape{s.k, s.m} : Shape{s.m, s.k}, normal()},
                  {tb ? Shape{s.n, s.k} : Shape{s.k, s.n}, normal(), kind.b}},
           .build = {},
           .reference = {}};
  if (kind.addend == Addend::yes) c.in.push_back({{s.m, s.n}, normal()});
  c.build = [attrs](std::span<const Var> in) -> std::vector<Var> {
    return {
        matmul(in[0], in[1], {attrs.ta, attrs.tb, attrs.alpha, in.size() == 3 ? in[2] : Var{}})};
  };
  c.reference = [s, attrs](const Arrays& in) -> Arrays {
    return {reference::matmul(in[0], in[1], in.size() == 3 ? in[2] : Array{}, s, attrs)};
  };
  if (narrow) c.working = WorkingTypes::f32;
  if (!narrow) c.wrt = kind.addend == Addend::yes ? std::vector{0, 1, 2} : std::vector{0, 1};
  out.push_back(std::move(c));
}

void matmul_cases(Cases& out) {
  for (const auto ta : {Transpose::no, Transpose::yes}) {
    for (const auto tb : {Transpose::no, Transpose::yes}) {
      matmul_case(out, "tiny", {1, 1, 1}, {.attrs = {ta, tb}});
      matmul_case(out, "odd", {13, 7, 173}, {.attrs = {ta, tb, -0.5}});
      matmul_case(out, "odd, addend", {173, 13, 7},
                  {.attrs = {ta, tb, 2.5}, .addend = Addend::yes});
      matmul_case(out, "large", {300, 517, 129}, {.attrs = {ta, tb}});
      matmul_case(out, "bf16", {33, 65, 40},
                  {.attrs = {ta, tb, 0.5}, .addend = Addend::yes, .b = Storage::bf16});
      matmul_case(out, "f16", {33, 65, 340},
                  {.attrs = {ta, tb, 0.5}, .addend = Addend::yes, .b = Storage::f16});
    }
  }
  for (const auto tb : {Transpose::no, Transpose::yes}) {
    matmul_case(out, "sums far longer than the result", {70, 1500, 90},
                {.attrs = {.tb = tb, .alpha = -0.5}});
    matmul_case(out, "sums far longer than the result, addend", {70, 1500, 90},
                {.attrs = {.ta = Transpose::yes, .tb = tb}, .addend = Addend::yes});
    matmul_case(out, "sums far longer than the result, bf16", {70, 1500, 90},
                {.attrs = {.tb = tb}, .b = Storage::bf16});
  }
  matmul_case(out, "no rows", {0, 5, 7});
  matmul_case(out, "no columns", {5, 7, 0});
  matmul_case(out, "nothing to sum", {5, 0, 7});
  matmul_case(out, "nothing to sum, addend", {5, 0, 7}, {.addend = Addend::yes});
  matmul_case(out, "weight gradient", {24, 5000, 40}, {.attrs = {.ta = Transpose::yes}});
  matmul_case(out, "weight gradient, addend", {24, 4096, 40},
              {.attrs = {.ta = Transpose::yes, .alpha = 0.25}, .addend = Addend::yes});
  matmul_case(out, "thin weight gradient", {8, 5000, 16}, {.attrs = {.ta = Transpose::yes}});
  matmul_case(out, "thin weight gradient", {1100, 300, 13}, {.attrs = {.ta = Transpose::yes}});
  matmul_case(out, "thin weight gradient, addend", {3, 300, 37},
              {.attrs = {.ta = Transpose::yes, .alpha = 0.5}, .addend = Addend::yes});
  matmul_case(out, "small weight gradient", {70, 4200, 90}, {.attrs = {.ta = Transpose::yes}});
  // What is left of the last tile, in rows and in columns; several pieces of depth; rows that lie a
  // multiple of 4 KiB apart.
  for (int64_t m = 16; m < 30; ++m) {
    matmul_case(out, "rest of tiles", {m, 30, 3 * m - 43}, {.attrs = {.tb = Transpose::yes}});
    matmul_case(out, "rest of tiles", {m, 30, 3 * m - 43}, {.attrs = {.ta = Transpose::yes}});
  }
  for (const auto tb : {Transpose::no, Transpose::yes}) {
    matmul_case(out, "rows 4 KiB apart", {37, 1024, 70}, {.attrs = {.tb = tb, .alpha = 3}});
    matmul_case(out, "rows 4 KiB apart, bf16", {37, 2048, 70},
                {.attrs = {.tb = tb}, .addend = Addend::yes, .b = Storage::bf16});
    matmul_case(out, "pieces of depth", {37, 1700, 70}, {.attrs = {Transpose::yes, tb}});
  }
  matmul_case(out, "thin, both transposed", {33, 1536, 1},
              {.attrs = {Transpose::yes, Transpose::yes}});
  matmul_case(out, "several panels", {530, 70, 20}, {.addend = Addend::yes});
  matmul_case(out, "several panels", {20, 70, 530}, {.attrs = {.tb = Transpose::yes}});
  matmul_case(out, "long sum", {16, 5000, 16});
  matmul_case(out, "long sum", {17, 5000, 19}, {.attrs = {.tb = Transpose::yes}});
  matmul_case(out, "deep", {40, 4500, 600});
  matmul_case(out, "deep, thin, addend", {8, 4500, 1100},
              {.attrs = {.ta = Transpose::yes, .alpha = 0.5}, .addend = Addend::yes});
  matmul_case(out, "deep, thin", {1100, 4500, 30}, {.attrs = {.ta = Transpose::yes}});
  matmul_case(out, "wide", {7, 600, 9000}, {.attrs = {.tb = Transpose::yes}});
  matmul_case(out, "one row", {1, 1000, 257}, {.attrs = {.tb = Transpose::yes}});
  matmul_case(out, "one column", {257, 1000, 1});
  for (const Storage storage : {Storage::bf16, Storage::f16}) {
    matmul_case(out, str("one row", narrow_label(storage)), {1, 100, 257},
                {.attrs = {.tb = Transpose::yes}, .b = storage});
  }
  // Leading dimensions flatten to rows.
  matmul_case(out, "4-dimensional", {2 * 3 * 5, 7, 6}, {.addend = Addend::yes});
  out.back().in[0].shape = {2, 3, 5, 7};
  out.back().in[2].shape = {2, 3, 5, 6};
}

// -- matmul_sum --

struct SumSize {
  int64_t m, k, second_k, n;
};

void matmul_sum_case(Cases& out, const std::string& label, const SumSize& s,
                     const MatmulSumAttrs& attrs, Addend addend) {
  auto a = [&](int64_t k, const MatmulTerm& t) {
    return CaseInput{t.ta == Transpose::yes ? Shape{k, s.m} : Shape{s.m, k}, normal()};
  };
  auto b = [&](int64_t k, const MatmulTerm& t) {
    return CaseInput{t.tb == Transpose::yes ? Shape{s.n, k} : Shape{k, s.n}, normal()};
  };
  OpCase c{.op = OpId::matmul_sum,
           .label = str(label, " ", s.m, "x(", s.k, "+", s.second_k, ")x", s.n),
           .in = {a(s.k, attrs.first), b(s.k, attrs.first), a(s.second_k, attrs.second),
                  b(s.second_k, attrs.second)},
           .build = {},
           .reference = {},
           .wrt = {0, 1, 2, 3}};
  if (addend == Addend::yes) {
    c.in.push_back({{s.m, s.n}, normal()});
    c.wrt.push_back(4);
  }
  c.build = [attrs](std::span<const Var> in) -> std::vector<Var> {
    return {matmul_sum({in[0], in[1]}, {in[2], in[3]}, attrs, in.size() == 5 ? in[4] : Var{})};
  };
  c.reference = [s, attrs](const Arrays& in) -> Arrays {
    const Array first = reference::matmul(in[0], in[1], in.size() == 5 ? in[4] : Array{},
                                          {s.m, s.k, s.n}, attrs.first);
    return {reference::matmul(in[2], in[3], first, {s.m, s.second_k, s.n}, attrs.second)};
  };
  out.push_back(std::move(c));
}

void matmul_sum_cases(Cases& out) {
  const MatmulTerm plain{}, tb{.tb = Transpose::yes}, ta{.ta = Transpose::yes, .alpha = -0.5};
  for (const Addend addend : {Addend::no, Addend::yes}) {
    const std::string with = addend == Addend::yes ? ", addend" : "";
    // As LoRA's update is added to a layer, and as their gradients are.
    matmul_sum_case(out, "thin second" + with, {70, 100, 8, 75},
                    {tb, {.tb = Transpose::yes, .alpha = 2}}, addend);
    matmul_sum_case(out, "thin first" + with, {300, 8, 129, 517}, {plain, plain}, addend);
    matmul_sum_case(out, "scales" + with, {33, 40, 5, 48}, {{.alpha = 3}, {.alpha = -0.7}}, addend);
    matmul_sum_case(out, "deep" + with, {33, 4200, 5, 40}, {plain, {.alpha = 0.1}}, addend);
    matmul_sum_case(out, "two alike" + with, {33, 300, 290, 40}, {plain, tb}, addend);
    matmul_sum_case(out, "transposed" + with, {13, 7, 9, 173}, {ta, ta}, addend);
    matmul_sum_case(out, "transposed, large" + with, {33, 500, 400, 173}, {ta, ta}, addend);
    matmul_sum_case(out, "rows 4 KiB apart" + with, {33, 1024, 20, 50}, {tb, tb}, addend);
    matmul_sum_case(out, "pieces of depth" + with, {33, 760, 900, 50}, {tb, tb}, addend);
  }
  matmul_sum_case(out, "nothing to sum in one", {5, 7, 0, 6}, {plain, plain}, Addend::no);
  matmul_sum_case(out, "nothing to sum in the other", {5, 0, 7, 6}, {plain, plain}, Addend::yes);
  matmul_sum_case(out, "no rows", {0, 5, 2, 7}, {plain, plain}, Addend::no);
}

// -- add, scale_by, cast --

const std::vector<Shape> kAnyShapes = {{0, 5}, {1}, {13, 7}, {2, 3, 5, 7}, {173, 300}};

double rounded_to_bf16(double x) {
  int exponent = 0;
  const double mantissa = std::frexp(static_cast<double>(static_cast<float>(x)), &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
}

void cast_case(Cases& out, const std::string& label, const CaseInput& in,
               std::function<DType(DType)> to, double (*round)(double)) {
  out.push_back({.op = OpId::cast,
                 .label = label,
                 .in = {in},
                 .build = [to](std::span<const Var> v) -> std::vector<Var> {
                   return {cast(v[0], to(v[0].type().dtype))};
                 },
                 .reference = [round](const Arrays& v) -> Arrays {
                   Array y = v[0];
                   for (double& x : y) x = round(x);
                   return {y};
                 }});
}

void elementwise_cases(Cases& out) {
  for (const Shape& shape : kAnyShapes) {
    out.push_back(
        {.op = OpId::add,
         .label = str(shape),
         .in = {{shape, normal()}, {shape, normal()}},
         .build = [](std::span<const Var> in) -> std::vector<Var> { return {add(in[0], in[1])}; },
         .reference = [](const Arrays& in) -> Arrays {
           Array y = in[0];
           for (size_t i = 0; i < y.size(); ++i) y[i] += in[1][i];
           return {y};
         },
         .wrt = {0, 1}});
    out.push_back({.op = OpId::scale_by,
                   .label = str(shape),
                   .in = {{shape, normal()}, {{1}, normal()}},
                   .build = [](std::span<const Var> in) -> std::vector<Var> {
                     return {scale_by(in[0], in[1])};
                   },
                   .reference = [](const Arrays& in) -> Arrays {
                     Array y = in[0];
                     for (double& x : y) x *= in[1][0];
                     return {y};
                   },
                   .wrt = {0, 1}});
    auto bf16_type = [](DType) { return DType::bf16; };
    auto other = [](DType from) { return from == DType::f64 ? DType::f32 : DType::f64; };
    auto to_float = [](double x) { return static_cast<double>(static_cast<float>(x)); };
    cast_case(out, str("to bf16, rounded ", shape), {shape, normal(100)}, bf16_type,
              rounded_to_bf16);
    cast_case(out, str("to the other working type ", shape), {shape, normal(100)}, other, to_float);
    cast_case(out, str("to bf16 ", shape), {shape, eighths()}, bf16_type, rounded_to_bf16);
    cast_case(out, str("to the other working type, exact ", shape), {shape, eighths()}, other,
              to_float);
    cast_case(
        out, str("bf16 to f32 ", shape), {shape, eighths(), Storage::bf16},
        [](DType) { return DType::f32; }, to_float);
    cast_case(out, str("bf16 to f64 ", shape), {shape, eighths(), Storage::bf16}, other, to_float);
    for (size_t i = out.size() - 4; i < out.size(); ++i) {
      out[i].wrt = {0};
      out[i].step = 1;
    }
  }
}

// -- add_row, sum_rows --

void row_cases(Cases& out) {
  for (const Shape& shape : {Shape{0, 5}, {1, 1}, {13, 7}, {2, 3, 5, 7}, {173, 300}, {300, 65}}) {
    const CaseInput x{shape, normal()}, row{{shape.last()}, normal()};
    out.push_back({.op = OpId::add_row,
                   .label = str(shape),
                   .in = {x, row},
                   .build = [](std::span<const Var> in) -> std::vector<Var> {
                     return {add_row(in[0], in[1])};
                   },
                   .reference = [](const Arrays& in) -> Arrays {
                     Array y = in[0];
                     for (size_t i = 0; i < y.size(); ++i) y[i] += in[1][i % in[1].size()];
                     return {y};
                   },
                   .wrt = {0, 1}});
    out.push_back(
        {.op = OpId::sum_rows,
         .label = str(shape),
         .in = {x},
         .build = [](std::span<const Var> in) { return emit(OpId::sum_rows, Attrs{}, in); },
         .reference = [width = static_cast<size_t>(shape.last())](const Arrays& in) -> Arrays {
           Array y(width);
           for (size_t i = 0; i < in[0].size(); ++i) y[i % width] += in[0][i];
           return {y};
         }});
  }
}

// -- embedding, rms_norm, rope, swiglu --

void embedding_cases(Cases& out) {
  struct Size {
    int64_t rows, width, tokens;
  };
  for (const auto& [rows, width, tokens] :
       {Size{1, 1, 1}, {7, 13, 0}, {7, 13, 30}, {173, 65, 13}, {50, 300, 200}, {60, 8, 2500}}) {
    const std::string label = str("[", rows, ", ", width, "] x ", tokens);
    for (const Storage storage : {Storage::working, Storage::bf16, Storage::f16}) {
      out.push_back({.op = OpId::embedding,
                     .label = label + narrow_label(storage),
                     .in = {{{rows, width}, normal(), storage}, {{tokens}, below(rows), kInt}},
                     .build = [](std::span<const Var> in) -> std::vector<Var> {
                       return {embedding(in[0], in[1])};
                     },
                     .reference = [w = width](const Arrays& in) -> Arrays {
                       return {reference::embedding(in[0], in[1], w)};
                     }});
      if (storage == Storage::working) out.back().wrt = {0};
    }
    out.push_back({.op = OpId::embedding_grad,
                   .label = label,
                   .in = {{{tokens, width}, normal()}, {{tokens}, below(rows), kInt}},
                   .build =
                       [r = rows](std::span<const Var> in) {
                         return emit(OpId::embedding_grad, EmbeddingGradAttrs{r}, in);
                       },
                   .reference = [r = rows, w = width](const Arrays& in) -> Arrays {
                     return {reference::embedding_grad(in[0], in[1], r, w)};
                   },
                   .wrt = {0}});
  }
}

void rms_norm_cases(Cases& out) {
  // The last is a row that a block of threads keeps in registers only in part.
  for (const Shape& shape : {Shape{0, 5}, {1, 1}, {7, 13}, {130, 173}, {65, 256}, {3, 8500}}) {
    const CaseInput x{shape, normal()}, w{{shape.last()}, normal()};
    out.push_back(
        {.op = OpId::rms_norm,
         .label = str(shape),
         .in = {x, w},
         .build = [](std::span<const Var> in) -> std::vector<Var> {
           const auto [y, rstd] = rms_norm(in[0], in[1], 0.1);
           return {y, rstd};
         },
         .reference = [](const Arrays& in) { return reference::rms_norm(in[0], in[1], 0.1); },
         .wrt = {0, 1}});
    out.push_back(
        {.op = OpId::rms_norm_grad,
         .label = str(shape),
         .in = {x, w, x},
         .build =
             [](std::span<const Var> in) {
               const Var rstd = rms_norm(in[0], in[1], 0.1).rstd;
               return emit(OpId::rms_norm_grad, RmsNormAttrs{0.1},
                           std::array{in[0], in[1], rstd, in[2]});
             },
         .reference =
             [](const Arrays& in) { return reference::rms_norm_grad(in[0], in[1], in[2], 0.1); }});
  }
}

void rope_cases(Cases& out) {
  struct Size {
    int64_t tokens, heads, head_dim;
  };
  for (const auto& [tokens, heads, dim] :
       {Size{0, 2, 4}, {1, 1, 2}, {7, 3, 6}, {173, 5, 16}, {300, 2, 64}}) {
    for (const auto direction : {Direction::forward, Direction::backward}) {
      const RopeAttrs attrs{heads, direction};
      out.push_back({.op = OpId::rope,
                     .label = str(tokens, " tokens, ", heads, " heads of ", dim),
                     .in = {{{tokens, heads * dim}, normal()},
                            {{29, dim}, rotation(dim)},
                            {{tokens}, below(29), kInt}},
                     .build = [attrs](std::span<const Var> in) -> std::vector<Var> {
                       return {rope(in[0], in[1], in[2], attrs)};
                     },
                     .reference = [attrs, d = dim](const Arrays& in) -> Arrays {
                       return {reference::rope(in[0], in[1], in[2], d, attrs)};
                     },
                     .wrt = {0}});
    }
  }
}

void swiglu_cases(Cases& out) {
  for (const Shape& shape : kAnyShapes) {
    const CaseInput x{shape, normal(3)};
    out.push_back(
        {.op = OpId::swiglu,
         .label = str(shape),
         .in = {x, x},
         .build = [](std::span<const Var> in) -> std::vector<Var> {
           return {swiglu(in[0], in[1])};
         },
         .reference = [](const Arrays& in) -> Arrays { return {reference::swiglu(in[0], in[1])}; },
         .wrt = {0, 1}});
    out.push_back(
        {.op = OpId::swiglu_grad,
         .label = str(shape),
         .in = {x, x, x},
         .build = [](std::span<const Var> in) { return emit(OpId::swiglu_grad, Attrs{}, in); },
         .reference =
             [](const Arrays& in) { return reference::swiglu_grad(in[0], in[1], in[2]); }});
  }
}

}  // namespace

void add_model_cases(Cases& out) {
  matmul_cases(out);
  matmul_sum_cases(out);
  elementwise_cases(out);
  row_cases(out);
  embedding_cases(out);
  rms_norm_cases(out);
  rope_cases(out);
  swiglu_cases(out);
}

}  // namespace mora::testing
