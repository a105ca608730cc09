// Differentiation of whole functions: values used twice, several outputs, values in the middle, and
// what is refused.
#include "mora/autograd/grad.hpp"

#include <doctest/doctest.h>

#include <array>

#include "directional_check.hpp"

using namespace mora;
using namespace mora::testing;

namespace {

CaseInput square(double scale = 0.5) {
  return {{6, 6}, normal(scale)};
}

// A function under test; `op` and the reference play no part.
OpCase function(const std::string& label, std::vector<CaseInput> in, Build build,
                std::vector<int> wrt) {
  return {.op = OpId::add,
          .label = label,
          .in = std::move(in),
          .build = std::move(build),
          .reference = {},
          .wrt = std::move(wrt)};
}

void check(const OpCase& c) {
  const auto backend = make_cpu_backend();
  DirectionalCheck directional(c);
  for (size_t w = 0; w < c.wrt.size(); ++w) {
    const double error = directional.error(w, *backend);
    CHECK_MESSAGE(error < 1e-6, c.label, ", input ", c.wrt[w], ": relative error ", error);
  }
}

// One block of a LLaMA with grouped-query attention and its loss: every differentiable op of a
// model at once.
std::vector<Var> block(std::span<const Var> in) {
  const Var x = in[0], norm = in[1], wq = in[2], wk = in[3], wv = in[4], wo = in[5], gate = in[6],
            up = in[7], down = in[8], head = in[9], table = in[10], positions = in[11],
            starts = in[12], labels = in[13], weights = in[14];
  auto linear = [](Var h, Var w, Var c = {}) {
    return matmul(h, w, {.tb = Transpose::yes, .c = c});
  };
  const Var h = rms_norm(x, norm, 1e-5).y;
  const Var q = rope(linear(h, wq), table, positions, {.heads = 2}),
            k = rope(linear(h, wk), table, positions, {.heads = 1});
  const Var y = attention(q, k, linear(h, wv), starts, {.heads = 2, .kv_heads = 1, .scale = 0.5}).y;
  const Var mid = linear(y, wo, x);
  const Var n = rms_norm(mid, norm, 1e-5).y;
  const Var out = add(mid, linear(swiglu(linear(n, gate), linear(n, up)), down));
  return {linear_cross_entropy(out, head, labels, weights).loss};
}

}  // namespace

TEST_SUITE("grad") {
  TEST_CASE("a value that is used more than once gets the sum of its gradients") {
    using Vars = std::vector<Var>;
    check(function("x x", {square()}, [](auto in) -> Vars { return {matmul(in[0], in[0])}; }, {0}));
    check(function(
        "x x^T + x", {square()},
        [](auto in) -> Vars { return {matmul(in[0], in[0], {.tb = Transpose::yes, .c = in[0]})}; },
        {0}));
    check(function("silu(x) x", {square()}, [](auto in) -> Vars { return {swiglu(in[0], in[0])}; },
                   {0}));
    check(function("x + x", {square()}, [](auto in) -> Vars { return {add(in[0], in[0])}; }, {0}));
    check(function("residual", {square(), square()},
                   [](auto in) -> Vars {
                     Var h = in[0];
                     for (int i = 0; i < 3; ++i) h = add(h, swiglu(matmul(h, in[1]), h));
                     return {h};
                   },
                   {0, 1}));
    check(function("reshaped", {square(), {{9, 4}, normal()}},
                   [](auto in) -> Vars {
                     return {add(reshape(swiglu(in[0], in[0]), {9, 4}), in[1])};
                   },
                   {0, 1}));
    check(function("reshaped products", {{{4, 9}, normal()}, square()},
                   [](auto in) -> Vars {
                     return {matmul(reshape(in[0], {6, 6}), reshape(in[1], {6, 6}))};
                   },
                   {0, 1}));
  }

  TEST_CASE("several outputs add up") {
    OpCase c = function("two outputs", {square(), square()},
                        [](auto in) -> std::vector<Var> {
                          const Var h = matmul(in[0], in[1]);
                          return {swiglu(h, in[0]), h, in[0]};
                        },
                        {0, 1});
    c.through = {0, 1, 2};
    check(c);
  }

  TEST_CASE("a transformer block, from every weight to the loss") {
    const auto weight = [](int64_t rows, int64_t columns) {
      return CaseInput{{rows, columns}, normal(0.4)};
    };
    const CaseInput positions{{9}, values({0, 1, 2, 3, 0, 1, 2, 3, 0}), Storage::i32};
    std::vector<CaseInput> in = {weight(9, 8),
                                 {{8}, uniform(0.5, 1.5)},
                                 weight(8, 8),
                                 weight(4, 8),
                                 weight(4, 8),
                                 weight(8, 8),
                                 weight(12, 8),
                                 weight(12, 8),
                                 weight(8, 12),
                                 weight(11, 8),
                                 {{7, 4}, rotation(4)},
                                 positions,
                                 {{9}, segments({4, 4, 1}), Storage::i32},
                                 {{9}, below(11), Storage::i32},
                                 {{9}, uniform(0.1, 1)}};
    check(function("block", std::move(in), block, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  }

  TEST_CASE("gradients reach values in the middle, and nothing else") {
    Graph graph;
    const std::vector<CaseInput> list = {square(), square(), square()};
    const Inputs inputs(graph, list, DType::f64, "middle");
    const auto in = inputs.vars();
    const Var h = matmul(in[0], in[1]), y = swiglu(h, h), apart = add(in[2], in[2]);
    const auto g = grad(std::array{y}, std::array{in[2]}, std::array{h, in[0], apart, in[2], y});
    CHECK(g[0].type() == h.type());
    CHECK(g[1].type() == in[0].type());
    CHECK(!g[2]);  // y does not depend on these
    CHECK(!g[3]);
    CHECK(g[4].id == in[2].id);  // the seed itself
  }

  TEST_CASE("mistakes are refused") {
    Graph graph, other;
    const std::vector<CaseInput> list = {square(), {{6}, normal()}};
    const Inputs inputs(graph, list, DType::f64, "mistakes"),
        stranger(other, list, DType::f64, "mistakes");
    const auto in = inputs.vars();
    const Var y = swiglu(in[0], in[0]);
    CHECK_THROWS_AS(grad({}, {}, std::array{in[0]}), Error);
    CHECK_THROWS_AS(grad(std::array{y}, {}, std::array{in[0]}), Error);
    CHECK_THROWS_AS(grad(std::array{y}, std::array{in[1]}, std::array{in[0]}), Error);
    CHECK_THROWS_AS(add(in[0], stranger.vars()[0]), Error);
    CHECK_THROWS_AS(add(in[0], Var{}), Error);
    CHECK_THROWS_AS(add(Var{}, in[0]), Error);
    CHECK_THROWS_AS(accumulate(y, in[0]), Error);  // not bound memory
    CHECK_THROWS_AS(reshape(in[0], {5, 7}), Error);
    CHECK_THROWS_AS(graph.bind({}, "nothing"), Error);
  }

  TEST_CASE("scopes name the nodes, gradients included") {
    Graph graph;
    const std::vector<CaseInput> list = {square()};
    const Inputs inputs(graph, list, DType::f64, "scopes");
    Var y;
    {
      const auto outer = graph.scope("model");
      const auto inner = graph.scope("mlp");
      y = swiglu(inputs.vars()[0], inputs.vars()[0]);
    }
    CHECK(graph.nodes().back().scope == "model.mlp");
    grad(std::array{y}, std::array{inputs.vars()[0]}, std::array{inputs.vars()[0]});
    CHECK(graph.nodes()[1].scope == "model.mlp.grad");
    add(y, y);
    CHECK(graph.nodes().back().scope == "");
  }
}
