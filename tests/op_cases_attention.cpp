// Cases of attention, its gradient, and attention against a cache: segments shorter, as long and
// longer than the blocks that kernels make.
#include <array>

#include "op_cases.hpp"

namespace mora::testing {

namespace {

using Cases = std::vector<OpCase>;
constexpr Storage kInt = Storage::i32;
const std::vector<int64_t> kSegments = {1, 63, 64, 65, 130, 1, 1, 1, 1, 1};

int64_t sum(const std::vector<int64_t>& lengths) {
  int64_t total = 0;
  for (int64_t n : lengths) total += n;
  return total;
}

void attention_case(Cases& out, const std::vector<int64_t>& lengths, const AttentionAttrs& attrs,
                    int64_t dim) {
  const int64_t tokens = sum(lengths);
  const CaseInput q{{tokens, attrs.heads * dim}, normal()},
      kv{{tokens, attrs.kv_heads * dim}, normal()};
  const CaseInput starts{{tokens}, segments(lengths), kInt};
  const std::string label =
      str(tokens, " tokens, ", attrs.heads, " heads on ", attrs.kv_heads, ", head_dim ", dim);
  out.push_back({.op = OpId::attention,
                 .label = label,
                 .in = {q, kv, kv, starts},
                 .build = [attrs](std::span<const Var> in) -> std::vector<Var> {
                   const auto [y, lse] = attention(in[0], in[1], in[2], in[3], attrs);
                   return {y, lse};
                 },
                 .reference =
                     [attrs, dim](const Arrays& in) {
                       return reference::attention({in[0], in[1], in[2]}, in[3], dim, attrs);
                     },
                 .wrt = {0, 1, 2}});
  out.push_back(
      {.op = OpId::attention_grad,
       .label = label,
       .in = {q, kv, kv, starts, q},
       .build =
           [attrs](std::span<const Var> in) {
             const auto [y, lse] = attention(in[0], in[1], in[2], in[3], attrs);
             return emit(OpId::attention_grad, attrs,
                         std::array{in[0], in[1], in[2], in[3], y, lse, in[4]});
           },
       .reference =
           [attrs, dim](const Arrays& in) {
             return reference::attention_grad({in[0], in[1], in[2]}, in[3], in[4], dim, attrs);
           }});
}

void cached_case(Cases& out, const Array& slots, const Array& positions,
                 const AttentionAttrs& attrs, int64_t dim) {
  const auto tokens = static_cast<int64_t>(slots.size());
  const int64_t capacity = 150, width = attrs.kv_heads * dim;
  const CaseInput cache{{3, capacity, width}, normal()};
  const CaseInput slot{{tokens}, values(slots), kInt}, position{{tokens}, values(positions), kInt};
  const std::string label =
      str(tokens, " tokens, ", attrs.heads, " heads on ", attrs.kv_heads, ", head_dim ", dim);
  out.push_back({.op = OpId::cached_attention,
                 .label = label,
                 .in = {{{tokens, attrs.heads * dim}, normal()}, cache, cache, slot, position},
                 .build = [attrs](std::span<const Var> in) -> std::vector<Var> {
                   return {cached_attention(in[0], in[1], in[2], in[3], in[4], attrs)};
                 },
                 .reference = [=](const Arrays& in) -> Arrays {
                   return {reference::cached_attention({in[0], in[1], in[2]},
                                                       {in[3], in[4], capacity}, dim, attrs)};
                 }});
  out.push_back({.op = OpId::cache_write,
                 .label = label,
                 .in = {cache, {{tokens, width}, normal()}, slot, position},
                 .build = [](std::span<const Var> in) -> std::vector<Var> {
                   cache_write(in[0], in[1], in[2], in[3]);
                   return {in[0]};
                 },
                 .reference = [=](const Arrays& in) -> Arrays {
                   return {reference::cache_write(in[0], in[1], {in[2], in[3], capacity}, width)};
                 }});
}

}  // namespace

void add_attention_cases(Cases& out) {
  const size_t first = out.size();
  attention_case(out, {}, {2, 1, 0.5}, 4);
  attention_case(out, {1}, {1, 1, 0.5}, 4);
  attention_case(out, {7}, {2, 2, 0.25}, 17);
  attention_case(out, {13, 1, 5}, {3, 1, 0.5}, 4);
  attention_case(out, kSegments, {2, 2, 0.25}, 16);
  attention_case(out, kSegments, {6, 2, 0.5}, 4);
  attention_case(out, kSegments, {2, 1, 0.125}, 64);
  attention_case(out, {200}, {1, 1, 3.0}, 16);
  attention_case(out, {419, 9}, {2, 1, 0.25}, 16);  // more than a block of keys
  // Several blocks of wide heads in segments that begin inside of them, one before or behind where
  // all or nothing is seen; heads between the widths that kernels are made for.
  attention_case(out, {31, 96, 40}, {2, 1, 0.15}, 128);
  attention_case(out, {98, 50}, {1, 1, 0.15}, 128);
  attention_case(out, {13, 60}, {2, 2, 0.15}, 40);
  attention_case(out, {70}, {1, 1, 0.12}, 72);
  attention_case(out, {30, 11}, {1, 1, 0.1}, 100);
  attention_case(out, {3, 34}, {2, 1, 0.07}, 200);
  // Scores here reach 50, whose rounding the exponential turns into a relative error of the
  // weights.
  for (size_t i = first; i < out.size(); ++i) out[i].f32_bound = 1e-5;
  cached_case(out, {}, {}, {2, 1, 0.5}, 4);
  cached_case(out, {1}, {0}, {1, 1, 0.5}, 17);
  cached_case(out, {2, -1, 0, 1, 2, -1, 1}, {149, 0, 63, 64, 0, 7, 127}, {6, 2, 0.5}, 4);
  cached_case(out, {2, -1, 0, 1, 2, -1, 1}, {149, 0, 63, 64, 0, 7, 127}, {2, 2, 0.125}, 64);
}

}  // namespace mora::testing
