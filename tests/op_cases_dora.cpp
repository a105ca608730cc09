// Cases of DoRA's operations.
#include "op_cases.hpp"

namespace mora::testing {

namespace {

using Cases = std::vector<OpCase>;

// Tiles of 12 rows and 256 columns are summed apart, so that sizes go around these.
void row_norm_cases(Cases& out) {
  struct Size {
    int64_t rows, columns, rank;
  };
  for (const auto& [rows, columns, rank] :
       {Size{1, 1, 1}, {7, 13, 2}, {12, 256, 4}, {13, 257, 3}, {100, 600, 9}}) {
    for (const Storage storage : {Storage::working, Storage::f16, Storage::bf16}) {
      const RowNormAttrs attrs{.scale = 1.5};
      out.push_back({.op = OpId::row_norm,
                     .label = str(rows, " x ", columns, ", rank ", rank, narrow_label(storage)),
                     .in = {{{rows, columns}, normal(), storage},
                            {{rows, rank}, normal()},
                            {{rank, columns}, normal()}},
                     .build = [attrs](std::span<const Var> in) -> std::vector<Var> {
                       return {row_norm(in[0], in[1], in[2], attrs)};
                     },
                     .reference = [attrs, r = rank](const Arrays& in) -> Arrays {
                       return {reference::row_norm(in[0], in[1], in[2], r, attrs)};
                     }});
      if (storage != Storage::working) out.back().working = WorkingTypes::f32;
    }
  }
}

void dora_cases(Cases& out) {
  for (const Shape& shape : {Shape{0, 5}, {1, 1}, {7, 13}, {70, 24}, {300, 173}}) {
    const CaseInput rows{shape, normal()}, magnitude{{shape[1]}, normal()},
        norm{{shape[1]}, uniform(0.5, 2)};
    out.push_back({.op = OpId::dora,
                   .label = str(shape),
                   .in = {rows, rows, magnitude, norm},
                   .build = [](std::span<const Var> in) -> std::vector<Var> {
                     return {dora({in[0], in[1], in[2], in[3]})};
                   },
                   .reference = [](const Arrays& in) -> Arrays {
                     return {reference::dora({in[0], in[1], in[2], in[3]})};
                   },
                   .wrt = {0, 1, 2},
                   .constants = {3}});
    out.push_back({.op = OpId::dora_grad,
                   .label = str(shape),
                   .in = {rows, rows, magnitude, norm, rows},
                   .build = [](std::span<const Var> in) { return emit(OpId::dora_grad, {}, in); },
                   .reference =
                       [](const Arrays& in) {
                         return reference::dora_grad({in[0], in[1], in[2], in[3]}, in[4]);
                       }});
  }
}

}  // namespace

void add_dora_cases(Cases& out) {
  row_norm_cases(out);
  dora_cases(out);
}

}  // namespace mora::testing
