// The table as a whole, the numbers that fill its inputs, and the calls that must be refused.
#include "op_cases.hpp"

#include <array>
#include <cmath>

namespace mora::testing {

namespace {

uint64_t index(int64_t i) {
  return static_cast<uint64_t>(i);
}

template <class Value>
Fill each(Value value) {
  return [value](const Random& random, int64_t n) {
    Array x;
    for (int64_t i = 0; i < n; ++i) x.push_back(value(random, i));
    return x;
  };
}

}  // namespace

Fill normal(double scale) {
  return each([scale](const Random& random, int64_t i) { return scale * random.normal(index(i)); });
}

Fill uniform(double low, double high) {
  return each([=](const Random& random, int64_t i) {
    return low + (high - low) * random.uniform(index(i));
  });
}

Fill eighths() {
  return each([](const Random& random, int64_t i) {
    return static_cast<double>(random.below(index(i), 64)) / 8 - 4;
  });
}

Fill below(int64_t bound) {
  return each([bound](const Random& random, int64_t i) {
    return static_cast<double>(random.below(index(i), index(bound)));
  });
}

Fill rotation(int64_t features) {
  return each([half = features / 2](const Random&, int64_t i) {
    const int64_t row = i / (2 * half), c = i % half;
    const double angle = static_cast<double>(row + 1) *
                         std::pow(100.0, -static_cast<double>(c) / static_cast<double>(half));
    return i % (2 * half) < half ? std::cos(angle) : std::sin(angle);
  });
}

Fill values(Array numbers) {
  return [numbers = std::move(numbers)](const Random&, int64_t) { return numbers; };
}

Fill segments(std::vector<int64_t> lengths) {
  Array starts;
  for (int64_t length : lengths)
    starts.insert(starts.end(), static_cast<size_t>(length), static_cast<double>(starts.size()));
  return values(std::move(starts));
}

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> table = [] {
    std::vector<OpCase> cases;
    add_model_cases(cases);
    add_attention_cases(cases);
    add_train_cases(cases);
    add_block_cases(cases);
    add_dora_cases(cases);
    return cases;
  }();
  return table;
}

const std::vector<OpId>& not_differentiable() {
  static const std::vector<OpId> list = {OpId::sum_rows,
                                         OpId::attention_grad,
                                         OpId::rms_norm_grad,
                                         OpId::swiglu_grad,
                                         OpId::cached_attention,
                                         OpId::cache_write,
                                         OpId::dropout_mask,
                                         OpId::accumulate,
                                         OpId::clear,
                                         OpId::squared_norm,
                                         OpId::adamw,
                                         OpId::row_norm,
                                         OpId::dora_grad,
                                         OpId::block_product_grad,
                                         OpId::matmul_block_product};
  return list;
}

std::vector<Var> emit(OpId id, const Attrs& attrs, std::span<const Var> in) {
  return in[0].graph->emit(op(id), attrs, in);
}

std::string name_of(const OpCase& c) {
  return str(op(c.op).name, ": ", c.label);
}
std::string name_of(const WrongCall& c) {
  return str(op(c.op).name, ": ", c.label);
}

namespace {

CaseInput floats(const Shape& shape) {
  return {shape, normal()};
}
CaseInput whole(const Shape& shape) {
  return {shape, below(1), Storage::i32};
}
CaseInput narrow(const Shape& shape) {
  return {shape, normal(), Storage::bf16};
}

using Calls = std::vector<WrongCall>;
using Vars = std::span<const Var>;

// A call by its record, as every public function ends in one.
void wrong(Calls& out, OpId id, const std::string& label, const Attrs& attrs,
           std::vector<CaseInput> in) {
  out.push_back({id, label, std::move(in), [id, attrs](Vars v) { return emit(id, attrs, v); }});
}

void wrong_model_calls(Calls& out) {
  const MatmulAttrs plain{}, tb{.term = {.tb = Transpose::yes}};
  wrong(out, OpId::matmul, "inner dimensions", plain, {floats({2, 3}), floats({4, 5})});
  wrong(out, OpId::matmul, "inner dimensions, tb", tb, {floats({2, 3}), floats({3, 5})});
  wrong(out, OpId::matmul, "addend", plain, {floats({2, 3}), floats({3, 5}), floats({5})});
  wrong(out, OpId::matmul, "vector", plain, {floats({3}), floats({3, 5})});
  wrong(out, OpId::matmul, "integers", plain, {floats({2, 3}), whole({3, 5})});
  wrong(out, OpId::matmul, "a in bf16 and b in f16", plain,
        {narrow({2, 3}), {{3, 5}, normal(), Storage::f16}});
  wrong(out, OpId::matmul, "result in bf16 of f32", MatmulAttrs{.out = DType::bf16},
        {floats({2, 3}), floats({3, 5})});
  const MatmulSumAttrs sum{};
  wrong(out, OpId::matmul_sum, "one product", sum, {floats({2, 3}), floats({3, 5})});
  wrong(out, OpId::matmul_sum, "inner dimensions", sum,
        {floats({2, 3}), floats({3, 5}), floats({2, 4}), floats({3, 5})});
  wrong(out, OpId::matmul_sum, "columns", sum,
        {floats({2, 3}), floats({3, 5}), floats({2, 4}), floats({4, 6})});
  wrong(out, OpId::matmul_sum, "rows", sum,
        {floats({2, 3}), floats({3, 5}), floats({1, 4}), floats({4, 5})});
  wrong(out, OpId::matmul_sum, "types", sum,
        {floats({2, 3}), floats({3, 5}), narrow({2, 4}), floats({4, 5})});
  wrong(out, OpId::matmul_sum, "addend", sum,
        {floats({2, 3}), floats({3, 5}), floats({2, 4}), floats({4, 5}), floats({5})});
  wrong(out, OpId::rms_norm, "y in f64 of f32", RmsNormAttrs{1e-5, DType::f64},
        {floats({4, 3}), floats({3})});
  wrong(out, OpId::add, "bf16 and f32", Attrs{}, {narrow({2, 3}), floats({2, 3})});
  wrong(out, OpId::add, "shapes", Attrs{}, {floats({2, 3}), floats({3, 2})});
  wrong(out, OpId::add_row, "row", Attrs{}, {floats({2, 3}), floats({2})});
  wrong(out, OpId::add_row, "row as a matrix", Attrs{}, {floats({2, 3}), floats({1, 3})});
  wrong(out, OpId::add_row, "rank", Attrs{}, {floats({3}), floats({3})});
  wrong(out, OpId::sum_rows, "rank", Attrs{}, {floats({3})});
  wrong(out, OpId::scale_by, "factor", Attrs{}, {floats({2, 3}), floats({2})});
  wrong(out, OpId::cast, "integers", CastAttrs{DType::f32}, {whole({3})});
  wrong(out, OpId::cast, "to integers", CastAttrs{DType::i32}, {floats({3})});
  wrong(out, OpId::embedding, "ids", Attrs{}, {floats({5, 3}), floats({2})});
  wrong(out, OpId::embedding, "ids as a matrix", Attrs{}, {floats({5, 3}), whole({2, 2})});
  wrong(out, OpId::embedding_grad, "ids", EmbeddingGradAttrs{5}, {floats({4, 3}), whole({2})});
  wrong(out, OpId::rms_norm, "w", RmsNormAttrs{1e-5}, {floats({4, 3}), floats({4})});
  wrong(out, OpId::rms_norm, "rank", RmsNormAttrs{1e-5}, {floats({2, 4, 3}), floats({3})});
  wrong(out, OpId::rms_norm_grad, "rstd", RmsNormAttrs{1e-5},
        {floats({4, 3}), floats({3}), floats({3}), floats({4, 3})});
  wrong(out, OpId::rope, "heads", RopeAttrs{3}, {floats({4, 8}), floats({9, 4}), whole({4})});
  wrong(out, OpId::rope, "odd head_dim", RopeAttrs{2},
        {floats({4, 6}), floats({9, 3}), whole({4})});
  wrong(out, OpId::rope, "positions", RopeAttrs{2}, {floats({4, 8}), floats({9, 4}), whole({5})});
  wrong(out, OpId::swiglu, "shapes", Attrs{}, {floats({2, 3}), floats({2, 4})});
  wrong(out, OpId::swiglu_grad, "shapes", Attrs{}, {floats({2, 3}), floats({2, 3}), floats({3})});
  const AttentionAttrs heads{4, 2, 0.5}, uneven{4, 3, 0.5};
  const CaseInput q = floats({6, 16}), kv = floats({6, 8}), cache = floats({3, 9, 8});
  wrong(out, OpId::attention, "k as wide as q", heads, {q, q, kv, whole({6})});
  wrong(out, OpId::attention, "heads", uneven, {q, kv, kv, whole({6})});
  wrong(out, OpId::attention, "segment_start", heads, {q, kv, kv, whole({5})});
  wrong(out, OpId::attention_grad, "lse", heads, {q, kv, kv, whole({6}), q, floats({6, 2}), q});
  wrong(out, OpId::cached_attention, "caches", heads,
        {q, cache, floats({3, 8, 8}), whole({6}), whole({6})});
  wrong(out, OpId::cached_attention, "slots", heads, {q, cache, cache, whole({3}), whole({6})});
  wrong(out, OpId::cache_write, "width", Attrs{}, {cache, q, whole({6}), whole({6})});
}

void wrong_train_calls(Calls& out) {
  const CaseInput h = floats({6, 8}), w = floats({11, 8});
  wrong(out, OpId::linear_cross_entropy, "widths", Attrs{},
        {h, floats({11, 7}), whole({6}), floats({6})});
  wrong(out, OpId::linear_cross_entropy, "labels", Attrs{}, {h, w, whole({5}), floats({6})});
  wrong(out, OpId::linear_cross_entropy, "weights", Attrs{}, {h, w, whole({6}), floats({6, 1})});
  wrong(out, OpId::linear_cross_entropy, "no vocabulary", Attrs{},
        {h, floats({0, 8}), whole({6}), floats({6})});
  const CaseInput h64{{6, 8}, normal(), Storage::f64}, weights64{{6}, normal(), Storage::f64};
  wrong(out, OpId::linear_cross_entropy, "f64 with bf16", Attrs{},
        {h64, narrow({11, 8}), whole({6}), weights64});
  wrong(out, OpId::matmul, "f64 with bf16", MatmulAttrs{.term = {.tb = Transpose::yes}},
        {h64, narrow({11, 8})});
  wrong(out, OpId::dropout_mask, "step", DropoutMaskAttrs{48, 0.1, 1, 2}, {whole({1})});
  wrong(out, OpId::dropout_mask, "p", DropoutMaskAttrs{48, 1.0, 1, 2}, {whole({2})});
  wrong(out, OpId::dropout_mask, "elements", DropoutMaskAttrs{-1, 0.1, 1, 2}, {whole({2})});
  wrong(out, OpId::dropout, "mask", DropoutAttrs{0.1}, {h, whole({1})});
  wrong(out, OpId::dropout, "p", DropoutAttrs{1.0}, {h, whole({2})});
  const FoldAttrs padded{4, Grouping::contiguous, Padding::circular},
      none{0, Grouping::strided, Padding::none};
  wrong(out, OpId::fold, "rank", FoldAttrs{4, Grouping::strided, Padding::none}, {floats({8})});
  wrong(out, OpId::fold, "padding", padded, {h});
  wrong(out, OpId::unfold, "size", none, {h});
  wrong(out, OpId::unfold, "addend", FoldAttrs{4, Grouping::strided, Padding::none},
        {floats({2, 3}), floats({2, 3})});
  wrong(out, OpId::resize, "size", ResizeAttrs{0}, {h});
  wrong(out, OpId::permute, "order", PermuteAttrs{}, {h, whole({7})});
  wrong(out, OpId::permute, "order of floats", PermuteAttrs{}, {h, floats({8})});
  wrong(out, OpId::rotate_blocks, "odd width", RotateBlocksAttrs{}, {h, floats({2, 3})});
  wrong(out, OpId::rotate_blocks, "width", RotateBlocksAttrs{Direction::backward, 7},
        {h, floats({3, 4})});
  wrong(out, OpId::rotate_blocks, "no features", RotateBlocksAttrs{},
        {floats({6, 0}), floats({2, 4})});
  wrong(out, OpId::rotate_blocks, "no size", RotateBlocksAttrs{Direction::backward, 0},
        {h, floats({2, 4})});
  const BlockProductAttrs blocks{.size = 5};
  const CaseInput square = floats({4, 4}), table = floats({2, 4});
  wrong(out, OpId::block_product, "odd width", blocks, {h, floats({3, 3}), floats({2, 3})});
  wrong(out, OpId::block_product, "m", blocks, {h, floats({4, 6}), table});
  wrong(out, OpId::block_product, "no size", BlockProductAttrs{}, {h, square, table});
  wrong(out, OpId::block_product, "no features", blocks, {floats({6, 0}), square, table});
  wrong(out, OpId::block_product, "addend", blocks, {h, square, table, h});
  wrong(out, OpId::block_product_grad, "dy", blocks, {h, h, table});
  wrong(out, OpId::matmul_block_product, "columns", MatmulBlockProductAttrs{.second = blocks},
        {h, floats({8, 6}), h, square, table});
  wrong(out, OpId::matmul_block_product, "types", MatmulBlockProductAttrs{.second = blocks},
        {h, floats({8, 5}), narrow({6, 8}), square, table});
  wrong(out, OpId::accumulate, "shapes", Attrs{}, {h, w});
  wrong(out, OpId::clear, "inputs", Attrs{}, {h, w});
  wrong(out, OpId::squared_norm, "integers", Attrs{}, {whole({6})});
  const CaseInput row = floats({8});
  wrong(out, OpId::row_norm, "rank", RowNormAttrs{1}, {w, floats({11, 2}), floats({3, 8})});
  wrong(out, OpId::row_norm, "b", RowNormAttrs{1}, {w, floats({8, 2}), floats({2, 8})});
  wrong(out, OpId::row_norm, "f64 with bf16", RowNormAttrs{1},
        {narrow({6, 8}), {{6, 2}, normal(), Storage::f64}, {{2, 8}, normal(), Storage::f64}});
  wrong(out, OpId::dora, "low_rank", Attrs{}, {h, floats({6, 7}), row, row});
  wrong(out, OpId::dora, "norm", Attrs{}, {h, h, row, floats({6})});
  wrong(out, OpId::dora_grad, "dy", Attrs{}, {h, h, row, row, w});
  const AdamWAttrs adam{0.9, 0.95, 1e-8, 0, 1};
  const CaseInput hyper{{3}, normal(), Storage::f64}, short_hyper{{2}, normal(), Storage::f64};
  wrong(out, OpId::adamw, "gradients", adam, {h, w, h, h, floats({1}), hyper});
  wrong(out, OpId::adamw, "hyper", adam, {h, h, h, h, floats({1}), short_hyper});
}

}  // namespace

const std::vector<WrongCall>& wrong_calls() {
  static const std::vector<WrongCall> list = [] {
    Calls calls;
    wrong_model_calls(calls);
    wrong_train_calls(calls);
    return calls;
  }();
  return list;
}

}  // namespace mora::testing
