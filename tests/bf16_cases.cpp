#include "bf16_cases.hpp"

#include <algorithm>
#include <map>

namespace mora::testing {

namespace {

// Which inputs of an operation's cases are activations.
using Activations = std::vector<std::vector<size_t>>;
const std::map<OpId, Activations>& activations() {
  static const std::map<OpId, Activations> table = {
      {OpId::matmul, {{0, 2}, {0, 1, 2}}},
      {OpId::matmul_sum, {{0, 2, 4}, {0, 1, 2, 4}, {0, 1, 2, 3, 4}}},
      {OpId::add, {{0, 1}, {1}}},
      {OpId::add_row, {{0}}},
      {OpId::sum_rows, {{0}}},
      {OpId::scale_by, {{0}}},
      {OpId::rope, {{0}}},
      {OpId::swiglu, {{0, 1}}},
      {OpId::swiglu_grad, {{0, 1, 2}}},
      {OpId::attention, {{0, 1, 2}}},
      {OpId::attention_grad, {{0, 1, 2, 4}}},
      {OpId::linear_cross_entropy, {{0}, {0, 1}}},
      {OpId::dropout, {{0}}},
      {OpId::fold, {{0}}},
      {OpId::unfold, {{0, 1}}},
      {OpId::resize, {{0}}},
      {OpId::permute, {{0}}},
      {OpId::rotate_blocks, {{0}}},
      {OpId::block_product, {{0, 3}}},
      {OpId::block_product_grad, {{0, 1}}},
      {OpId::matmul_block_product, {{0, 2, 5}, {0, 1, 2, 5}}},
      {OpId::dora, {{0, 1}}},
      {OpId::dora_grad, {{0, 1, 4}}}};
  return table;
}

bool has_f16(const OpCase& c) {
  return std::ranges::any_of(c.in, [](const CaseInput& in) { return in.storage == Storage::f16; });
}

}  // namespace

std::vector<std::vector<DType>> bf16_types(const OpCase& c) {
  std::vector<std::vector<DType>> ways;
  if (!activations().contains(c.op) || has_f16(c)) return ways;
  for (const std::vector<size_t>& narrow : activations().at(c.op)) {
    std::vector<DType>& types = ways.emplace_back(c.in.size(), DType::f32);
    for (const size_t i : narrow) {
      if (i < types.size()) types[i] = DType::bf16;
    }
  }
  return ways;
}

}  // namespace mora::testing
