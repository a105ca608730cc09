// MoRA's compression and decompression without parameters (paper section 4.1; method names in
// adapters/mora.cpp). fold and unfold are transposes of each other, resize is its own: each is the
// other's derivative.
#include "ops/define.hpp"

namespace mora {

namespace {

Type folded(std::span<const Type> in, const Attrs& attrs) {
  const auto a = attrs.as<FoldAttrs>();
  check_activation(in[0], "x");
  check(in[0].shape.rank() == 2, "x must be a matrix, got ", in[0]);
  check(a.size > 0 && in[0].shape.last() > 0, "cannot map ", in[0].shape.last(), " features to ",
        a.size);
  check(a.padding == Padding::none || a.grouping == Grouping::strided,
        "contiguous groups need no padding, got it for ", in[0].shape, " to ", a.size);
  return {in[0].dtype, in[0].shape.with_last(a.size)};
}

std::vector<Type> infer_fold(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 1, 1);
  return {folded(in, attrs)};
}

std::vector<Type> infer_unfold(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 1, 2);
  const Type out = folded(in, attrs);
  if (in.size() == 2) check_type(in[1], out, "c");
  return {out};
}

std::vector<Var> vjp_fold(const VjpArgs& g) {
  auto attrs = g.node.attrs.as<FoldAttrs>();
  attrs.size = g.in[0].shape().last();
  return {unfold(g.dout[0], attrs)};
}

std::vector<Var> vjp_unfold(const VjpArgs& g) {
  auto attrs = g.node.attrs.as<FoldAttrs>();
  attrs.size = g.in[0].shape().last();
  std::vector<Var> din(g.in.size(), g.dout[0]);  // that of c
  din[0] = fold(g.dout[0], attrs);
  return din;
}

std::vector<Type> infer_resize(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 1, 1);
  check_activation(in[0], "x");
  check(in[0].shape.rank() == 2, "x must be a matrix, got ", in[0]);
  const int64_t size = attrs.as<ResizeAttrs>().size;
  check(size > 0, "size must be positive, got ", size);
  return {{in[0].dtype, in[0].shape.with_last(size)}};
}

std::vector<Var> vjp_resize(const VjpArgs& g) {
  return {resize(g.dout[0], {.size = g.in[0].shape().last()})};
}

}  // namespace

const Op op_records::fold{
    .name = "fold", .id = static_cast<int>(OpId::fold), .infer = infer_fold, .vjp = vjp_fold};
const Op op_records::unfold{.name = "unfold",
                            .id = static_cast<int>(OpId::unfold),
                            .infer = infer_unfold,
                            .vjp = vjp_unfold,
                            .inplace = 1,
                            .addend = 1};
const Op op_records::resize{.name = "resize",
                            .id = static_cast<int>(OpId::resize),
                            .infer = infer_resize,
                            .vjp = vjp_resize};

Var fold(Var x, const FoldAttrs& attrs) {
  return emit(op_records::fold, attrs, x)[0];
}
Var unfold(Var z, const FoldAttrs& attrs, Var c) {
  return c ? emit(op_records::unfold, attrs, z, c)[0] : emit(op_records::unfold, attrs, z)[0];
}
Var resize(Var x, const ResizeAttrs& attrs) {
  return emit(op_records::resize, attrs, x)[0];
}

}  // namespace mora
