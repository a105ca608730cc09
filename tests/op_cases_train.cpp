// Cases of the loss, dropout, the adapters' parameterless maps and the operations that end a step.
#include <limits>

#include "op_cases.hpp"

namespace mora::testing {

namespace {

using Cases = std::vector<OpCase>;
constexpr Storage kInt = Storage::i32;

// Every third token does not count.
Array loss_weights(const Random& random, int64_t n) {
  Array w;
  for (int64_t i = 0; i < n; ++i)
    w.push_back(i % 3 == 1 ? 0 : 0.25 + random.uniform(static_cast<uint64_t>(i)));
  return w;
}

void cross_entropy_cases(Cases& out) {
  struct Size {
    int64_t tokens, width, vocab;
  };
  // A chunk is 1024 tokens here, so the last sizes take two chunks, three, and one exactly.
  for (const auto& [tokens, width, vocab] : {Size{0, 5, 7},
                                             {1, 1, 1},
                                             {1, 3, 2},
                                             {7, 13, 33},
                                             {70, 24, 1003},
                                             {1100, 16, 37},
                                             {2060, 5, 11},
                                             {1024, 5, 19}}) {
    for (const Storage storage : {Storage::working, Storage::f16, Storage::bf16}) {
      out.push_back({.op = OpId::linear_cross_entropy,
                     .label = str(tokens, " tokens, vocabulary ", vocab, narrow_label(storage)),
                     .in = {{{tokens, width}, normal(0.5)},
                            {{vocab, width}, normal(), storage},
                            {{tokens}, below(vocab), kInt},
                            {{tokens}, loss_weights}},
                     .build = [](std::span<const Var> in) -> std::vector<Var> {
                       const auto [loss, nll] = linear_cross_entropy(in[0], in[1], in[2], in[3]);
                       return {loss, nll};
                     },
                     .reference =
                         [](const Arrays& in) {
                           return reference::linear_cross_entropy(in[0], in[1], in[2], in[3]);
                         }});
      if (storage != Storage::working) out.back().working = WorkingTypes::f32;
      if (storage == Storage::working) out.back().wrt = {0, 1};
    }
  }
  out.push_back(out.back());
  out.back().label = "all weights 0";
  out.back().working = WorkingTypes::f32_and_f64;
  out.back().in[1].storage = Storage::working;
  out.back().in[3].fill = values(Array(1024, 0.0));
  out.back().wrt = {0, 1};
}

// Words of 32 bits as signed numbers.
Array random_words(const Random& random, int64_t n) {
  Array words;
  for (int64_t i = 0; i < n; ++i)
    words.push_back(static_cast<int32_t>(random.bits(static_cast<uint64_t>(i))));
  return words;
}

void dropout_cases(Cases& out) {
  for (const Shape& shape : {Shape{0, 5}, {1}, {7, 13}, {173, 301}}) {
    const int64_t elements = shape.elements(), words = (elements + 31) / 32;
    for (const double p : {0.0, 0.3, 0.9}) {
      const DropoutAttrs attrs{.p = p};
      const DropoutMaskAttrs drawn{
          .elements = elements, .p = p, .seed = 0x123456789abcdef0u, .stream = 17};
      out.push_back({.op = OpId::dropout,
                     .label = str(shape, ", p = ", p),
                     .in = {{shape, normal()}, {{words}, random_words, kInt}},
                     .build = [attrs](std::span<const Var> in) -> std::vector<Var> {
                       return {dropout(in[0], in[1], attrs)};
                     },
                     .reference = [attrs](const Arrays& in) -> Arrays {
                       return {reference::dropout(in[0], in[1], attrs)};
                     },
                     .wrt = {0}});
      out.push_back({.op = OpId::dropout_mask,
                     .label = str(elements, " elements, p = ", p),
                     .in = {{{2}, values({1234, 3}), kInt}},
                     .build = [drawn](std::span<const Var> in) -> std::vector<Var> {
                       return {dropout_mask(in[0], drawn)};
                     },
                     .reference = [drawn](const Arrays& in) -> Arrays {
                       return {reference::dropout_mask(in[0], drawn)};
                     },
                     .f32_bound = 0});
    }
  }
}

void fold_cases(Cases& out, int64_t tokens, int64_t features, int64_t groups) {
  struct Kind {
    const char* name;
    Grouping grouping;
    Padding padding;
  };
  for (const auto& [name, grouping, padding] :
       {Kind{"strided", Grouping::strided, Padding::none},
        {"strided, circular", Grouping::strided, Padding::circular},
        {"contiguous", Grouping::contiguous, Padding::none}}) {
    const FoldAttrs down{groups, grouping, padding}, up{features, grouping, padding};
    const std::string label =
        str(tokens, " tokens, ", features, " features, ", groups, " groups, ", name);
    out.push_back({.op = OpId::fold,
                   .label = label,
                   .in = {{{tokens, features}, normal()}},
                   .build = [down](std::span<const Var> in) -> std::vector<Var> {
                     return {fold(in[0], down)};
                   },
                   .reference = [down, features](const Arrays& in) -> Arrays {
                     return {reference::fold(in[0], features, down)};
                   },
                   .wrt = {0}});
    out.push_back(
        {.op = OpId::unfold,
         .label = label,
         .in = {{{tokens, groups}, normal()}},
         .build = [up](std::span<const Var> in) -> std::vector<Var> { return {unfold(in[0], up)}; },
         .reference = [up, groups](const Arrays& in) -> Arrays {
           return {reference::unfold(in[0], groups, up)};
         },
         .wrt = {0}});
    OpCase sum = out.back();
    sum.label += ", addend";
    sum.in.push_back({{tokens, features}, normal()});
    sum.build = [up](std::span<const Var> in) -> std::vector<Var> {
      return {unfold(in[0], up, in[1])};
    };
    sum.reference = [up, groups](const Arrays& in) -> Arrays {
      Array y = reference::unfold(in[0], groups, up);
      for (size_t i = 0; i < y.size(); ++i) y[i] += in[1][i];
      return {y};
    };
    sum.wrt = {0, 1};
    out.push_back(std::move(sum));
  }
  out.push_back({.op = OpId::resize,
                 .label = str(tokens, " tokens, ", features, " to ", groups),
                 .in = {{{tokens, features}, normal()}},
                 .build = [groups](std::span<const Var> in) -> std::vector<Var> {
                   return {resize(in[0], {groups})};
                 },
                 .reference = [features, groups](const Arrays& in) -> Arrays {
                   return {reference::resize(in[0], features, groups)};
                 },
                 .wrt = {0}});
}

// A permutation with about half of its signs negative.
Fill signed_order() {
  return [](const Random& random, int64_t n) {
    Array order;
    for (const int64_t place : permutation(random, n)) {
      const bool negative = random.bits(order.size() + 1000000) % 2 == 1;
      order.push_back(static_cast<double>(negative ? -1 - place : place));
    }
    return order;
  };
}

Array permuted(const Array& x, const Array& order, Direction direction) {
  Array y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t j = i % order.size();
    const double place = order[j], sign = place < 0 ? -1 : 1;
    const size_t other = i - j + static_cast<size_t>(place < 0 ? -1 - place : place);
    if (direction == Direction::forward) {
      y[i] = sign * x[other];
    } else {
      y[other] = sign * x[i];
    }
  }
  return y;
}

void permute_cases(Cases& out) {
  for (const auto& [tokens, features] :
       {std::pair<int64_t, int64_t>{0, 3}, {1, 1}, {7, 12}, {65, 500}, {2, 13000}, {1, 30000}}) {
    for (const auto direction : {Direction::forward, Direction::backward}) {
      out.push_back(
          {.op = OpId::permute,
           .label = str(tokens, " tokens, ", features,
                        direction == Direction::forward ? "" : ", backward"),
           .in = {{{tokens, features}, normal()}, {{features}, signed_order(), Storage::i32}},
           .build = [direction](std::span<const Var> in) -> std::vector<Var> {
             return {permute(in[0], in[1], {direction})};
           },
           .reference = [direction](const Arrays& in) -> Arrays {
             return {permuted(in[0], in[1], direction)};
           },
           .wrt = {0}});
    }
  }
}

void rotate_cases(Cases& out) {
  struct Size {
    const char* name;
    int64_t tokens, features, blocks, width;
  };
  for (const auto& [name, tokens, features, blocks, width] : {Size{"no tokens", 0, 12, 2, 6},
                                                              {"one", 1, 2, 1, 2},
                                                              {"exact", 7, 12, 2, 6},
                                                              {"blocks * R > in", 13, 13, 3, 6},
                                                              {"blocks * R < in", 3, 15, 2, 6},
                                                              {"in < R", 5, 3, 1, 8},
                                                              {"in < R, two blocks", 5, 5, 2, 12},
                                                              {"large", 65, 500, 8, 64}}) {
    for (const auto direction : {Direction::forward, Direction::backward}) {
      const RotateBlocksAttrs attrs{direction, direction == Direction::forward ? 0 : features};
      const int64_t in_width = direction == Direction::forward ? features : blocks * width;
      out.push_back(
          {.op = OpId::rotate_blocks,
           .label = str(name, direction == Direction::forward ? "" : ", backward"),
           .in = {{{tokens, in_width}, normal()}, {{blocks, width}, rotation(width)}},
           .build = [attrs](std::span<const Var> in) -> std::vector<Var> {
             return {rotate_blocks(in[0], in[1], attrs)};
           },
           .reference = [attrs, f = features, b = blocks, w = width](const Arrays& in) -> Arrays {
             return {reference::rotate_blocks(in[0], {in[1], b, w}, f, attrs)};
           },
           .wrt = {0}});
    }
  }
}

void update_cases(Cases& out) {
  for (const Shape& shape : {Shape{0}, {1}, {7, 13}, {40001}}) {
    const CaseInput x{shape, normal()};
    out.push_back({.op = OpId::accumulate,
                   .label = str(shape),
                   .in = {x, x},
                   .build = [](std::span<const Var> in) -> std::vector<Var> {
                     accumulate(in[0], in[1]);
                     return {in[0]};
                   },
                   .reference = [](const Arrays& in) -> Arrays {
                     Array y = in[0];
                     for (size_t i = 0; i < y.size(); ++i) y[i] += in[1][i];
                     return {y};
                   }});
    for (const Storage storage : {Storage::working, Storage::i32, Storage::bf16}) {
      out.push_back(
          {.op = OpId::clear,
           .label = str(shape),
           .in = {{shape, below(100), storage}},
           .build = [](std::span<const Var> in) -> std::vector<Var> {
             clear(in[0]);
             return {in[0]};
           },
           .reference = [](const Arrays& in) -> Arrays { return {Array(in[0].size(), 0.0)}; }});
    }
    out.push_back(
        {.op = OpId::squared_norm,
         .label = str(shape),
         .in = {x},
         .build = [](std::span<const Var> in) -> std::vector<Var> { return {squared_norm(in[0])}; },
         .reference = [](const Arrays& in) -> Arrays {
           double sum = 0;
           for (double v : in[0]) sum += v * v;
           return {{sum}};
         }});
  }
}

void adamw_cases(Cases& out) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  struct Kind {
    const char* name;
    double norm2, limit, decay;
  };
  for (const auto& [name, norm2, limit, decay] :
       {Kind{"no clipping", 9, 0, 0},
        {"weight decay", 9, 0, 0.1},
        {"clipped", 9, 1, 0.1},
        {"below the limit", 9, 4, 0.1},
        {"infinite norm", inf, 1, 0.1},
        {"infinite norm, no clipping", inf, 0, 0.1},
        {"NaN", std::numeric_limits<double>::quiet_NaN(), 1, 0.1}}) {
    for (const int64_t n : {0, 1, 91, 40001}) {
      const AdamWAttrs attrs{
          .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = decay, .max_grad_norm = limit};
      out.push_back(
          {.op = OpId::adamw,
           .label = str(n, " parameters, ", name),
           .in = {{{n}, normal()},
                  {{n}, normal()},
                  {{n}, normal(0.1)},
                  {{n}, uniform(0, 1)},
                  {{1}, values({norm2})},
                  {{3}, values({1e-3, 1 - 0.9 * 0.9, 1 - 0.95 * 0.95}), Storage::f64}},
           .build = [attrs](std::span<const Var> in) -> std::vector<Var> {
             adamw({in[0], in[1], in[2], in[3]}, in[4], in[5], attrs);
             return {in[0], in[2], in[3]};
           },
           .reference = [attrs](const Arrays& in) { return reference::adamw(in, attrs); }});
    }
  }
}

}  // namespace

void add_train_cases(Cases& out) {
  struct Size {
    int64_t tokens, features, groups;
  };
  cross_entropy_cases(out);
  dropout_cases(out);
  for (const auto& [tokens, features, groups] : {Size{0, 13, 7},
                                                 {1, 1, 1},
                                                 {3, 13, 7},
                                                 {7, 12, 4},
                                                 {3, 7, 13},
                                                 {3, 5, 12},
                                                 {2, 1, 7},
                                                 {13, 64, 64},
                                                 {65, 173, 13},
                                                 {40, 1000, 96}}) {
    fold_cases(out, tokens, features, groups);
  }
  permute_cases(out);
  rotate_cases(out);
  update_cases(out);
  adamw_cases(out);
}

}  // namespace mora::testing
