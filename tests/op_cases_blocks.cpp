// Cases of MoRA's rotation in one operation: alone, its gradient, and its sum with a product.
#include "op_cases.hpp"

namespace mora::testing {

namespace {

using Cases = std::vector<OpCase>;

// Results wider and narrower than all blocks, blocks that go round x, and panels and tiles cut off.
struct Size {
  const char* name;
  int64_t tokens, features, blocks, width, out;
};
constexpr Size kSizes[] = {{"no tokens", 0, 12, 2, 6, 12},
                           {"one", 1, 2, 1, 2, 2},
                           {"exact", 7, 12, 2, 6, 12},
                           {"blocks round x, cut", 13, 13, 3, 6, 15},
                           {"repeated", 5, 13, 2, 6, 45},
                           {"repeated, cut", 33, 20, 3, 6, 23},
                           {"blocks * R < in", 3, 15, 2, 6, 7},
                           {"in < R", 5, 3, 1, 8, 5},
                           {"in < R, two blocks", 5, 5, 2, 12, 30},
                           {"q_proj", 65, 576, 6, 96, 576},
                           {"k_proj", 40, 576, 3, 78, 192},
                           {"up_proj", 130, 200, 5, 46, 540}};

Array fold_of_blocks(const Array& dy, const Size& s) {
  return reference::fold(dy, s.out, {s.blocks * s.width, Grouping::strided, Padding::none});
}

// From x [T, features] to [T, out] or back.
Array block_product_of(const Array& x, const Array& m, const Array& table, const Size& s,
                       const BlockProductAttrs& attrs) {
  const int64_t positions = s.blocks * s.width;
  const bool forward = attrs.direction == Direction::forward;
  const reference::BlockTable blocks{table, s.blocks, s.width};
  const Array a =
      forward ? reference::rotate_blocks(x, blocks, s.features, {}) : fold_of_blocks(x, s);
  const Array z =
      reference::matmul(a, m, {}, {s.tokens * s.blocks, s.width, s.width},
                        {.tb = forward ? Transpose::yes : Transpose::no, .alpha = attrs.alpha});
  if (forward) return reference::unfold(z, positions, {s.out, Grouping::strided, Padding::none});
  return reference::rotate_blocks(z, blocks, s.features, {Direction::backward, s.features});
}

Array sum(Array a, const Array& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

struct Ends {
  int64_t from, to;
};
Ends ends_of(const Size& s, Direction direction) {
  return direction == Direction::forward ? Ends{s.features, s.out} : Ends{s.out, s.features};
}

std::string label_of(const Size& s, Direction direction, bool adds) {
  return str(s.name, direction == Direction::forward ? "" : ", backward", adds ? ", addend" : "");
}

void block_product_case(Cases& out, const Size& s, Direction direction, bool adds) {
  const auto [from, to] = ends_of(s, direction);
  const BlockProductAttrs attrs{direction, to, -1.5};
  OpCase c{.op = OpId::block_product,
           .label = label_of(s, direction, adds),
           .in = {{{s.tokens, from}, normal()},
                  {{s.width, s.width}, normal()},
                  {{s.blocks, s.width}, rotation(s.width)}},
           .build = [attrs](std::span<const Var> in) -> std::vector<Var> {
             return {block_product({in[0], in[1], in[2]}, attrs, in.size() == 4 ? in[3] : Var{})};
           },
           .reference = [attrs, s](const Arrays& in) -> Arrays {
             Array y = block_product_of(in[0], in[1], in[2], s, attrs);
             return {in.size() == 4 ? sum(std::move(y), in[3]) : y};
           },
           .wrt = {0, 1}};
  if (adds) {
    c.in.push_back({{s.tokens, to}, normal()});
    c.wrt.push_back(3);
  }
  out.push_back(std::move(c));
}

void sum_case(Cases& out, const Size& s, Direction direction, bool adds) {
  const auto [from, to] = ends_of(s, direction);
  // As a layer is computed, and its gradient; but of another depth, and deeper than one chunk.
  const int64_t depth = s.tokens == 33 ? 2100 : 40;
  const MatmulTerm first{.tb = direction == Direction::forward ? Transpose::yes : Transpose::no,
                         .alpha = 0.5};
  const MatmulBlockProductAttrs attrs{first, {direction, to, 2}};
  OpCase c{.op = OpId::matmul_block_product,
           .label = label_of(s, direction, adds),
           .in = {{{s.tokens, depth}, normal()},
                  {first.tb == Transpose::yes ? Shape{to, depth} : Shape{depth, to}, normal()},
                  {{s.tokens, from}, normal()},
                  {{s.width, s.width}, normal()},
                  {{s.blocks, s.width}, rotation(s.width)}},
           .build = [attrs](std::span<const Var> in) -> std::vector<Var> {
             return {matmul_block_product({in[0], in[1]}, {in[2], in[3], in[4]}, attrs,
                                          in.size() == 6 ? in[5] : Var{})};
           },
           .reference = [attrs, s, depth, to = to](const Arrays& in) -> Arrays {
             const Array y = block_product_of(in[2], in[3], in[4], s, attrs.second);
             return {reference::matmul(in[0], in[1], in.size() == 6 ? sum(y, in[5]) : y,
                                       {s.tokens, depth, to}, attrs.first)};
           }};
  if (adds) c.in.push_back({{s.tokens, to}, normal()});
  out.push_back(std::move(c));
}

void grad_case(Cases& out, const Size& s) {
  const BlockProductAttrs attrs{.size = s.out, .alpha = 0.25};
  out.push_back({.op = OpId::block_product_grad,
                 .label = s.name,
                 .in = {{{s.tokens, s.features}, normal()},
                        {{s.tokens, s.out}, normal()},
                        {{s.blocks, s.width}, rotation(s.width)}},
                 .build = [attrs](std::span<const Var> in) -> std::vector<Var> {
                   return {block_product_grad({in[0], in[1], in[2]}, attrs)};
                 },
                 .reference = [attrs, s](const Arrays& in) -> Arrays {
                   const Array a =
                       reference::rotate_blocks(in[0], {in[2], s.blocks, s.width}, s.features, {});
                   return {reference::matmul(fold_of_blocks(in[1], s), a, {},
                                             {s.width, s.tokens * s.blocks, s.width},
                                             {.ta = Transpose::yes, .alpha = attrs.alpha})};
                 }});
}

}  // namespace

void add_block_cases(Cases& out) {
  for (const Size& s : kSizes) {
    for (const auto direction : {Direction::forward, Direction::backward}) {
      for (const bool adds : {false, true}) {
        block_product_case(out, s, direction, adds);
        sum_case(out, s, direction, adds);
      }
    }
    grad_case(out, s);
  }
  grad_case(out, {"several chunks", 2500, 10, 2, 6, 14});
}

}  // namespace mora::testing
