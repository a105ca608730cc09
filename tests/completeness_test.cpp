// No operation may be forgotten: each has cases, wrong calls, kernels, and a checked derivative or
// a stated absence.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "mora/autograd/grad.hpp"
#include "op_harness.hpp"

using namespace mora;
using namespace mora::testing;

namespace {

std::vector<OpId> all_ops() {
  std::vector<OpId> ids;
  for (int i = 0; i < kOpCount; ++i) ids.push_back(static_cast<OpId>(i));
  return ids;
}

bool is_listed(OpId id) {
  return std::ranges::count(not_differentiable(), id) == 1;
}

template <class Holds>
const OpCase* find_case(OpId id, const Holds& holds) {
  for (const OpCase& c : op_cases()) {
    if (c.op == id && holds(c)) return &c;
  }
  return nullptr;
}

// The message of the error that a gradient with respect to `wrt` through `output` ends in; "" if
// there is none.
std::string gradient_error(Graph& graph, Var output, Var wrt) {
  OwnedTensor seed(output.type());
  try {
    grad(std::array{output}, std::array{graph.bind(seed.view(), "seed")}, std::array{wrt});
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

bool mentions(const std::string& message, std::string_view word) {
  return message.find(word) != std::string::npos;
}

}  // namespace

TEST_SUITE("completeness") {
  TEST_CASE(
      "every op has a record under its own number, a case that really uses it, and a wrong call") {
    for (const OpId id : all_ops()) {
      INFO(op(id).name);
      CHECK(op(id).id == static_cast<int>(id));
      CHECK(static_cast<bool>(op(id).infer));
      const OpCase* c = find_case(id, [](const OpCase&) { return true; });
      REQUIRE_MESSAGE(c != nullptr, "no case for ", op(id).name);
      CHECK(std::ranges::any_of(wrong_calls(), [&](const WrongCall& w) { return w.op == id; }));
    }
    for (const OpCase& c : op_cases()) {
      Graph graph;
      const Inputs inputs(graph, c.in, DType::f32, name_of(c));
      c.build(inputs.vars());
      const bool used = std::ranges::any_of(graph.nodes(),
                                            [&](const Node& node) { return node.op == &op(c.op); });
      CHECK_MESSAGE(used, name_of(c), " does not call the op it is listed for");
    }
  }

  TEST_CASE("every op has a derivative that a case checks, or is listed as having none") {
    for (const OpId id : all_ops()) {
      INFO(op(id).name);
      CHECK((op(id).vjp == nullptr) == is_listed(id));
      const OpCase* checked = find_case(id, [](const OpCase& c) { return !c.wrt.empty(); });
      CHECK((checked != nullptr) == !is_listed(id));
    }
  }

  TEST_CASE("every input that a case could differentiate is checked or refused") {
    for (const OpCase& c : op_cases()) {
      if (op(c.op).vjp == nullptr || c.working == WorkingTypes::f32) continue;
      for (size_t i = 0; i < c.in.size(); ++i) {
        if (c.in[i].storage != Storage::working ||
            std::ranges::count(c.wrt, static_cast<int>(i)) > 0)
          continue;
        const bool elsewhere = find_case(c.op, [&](const OpCase& other) {
                                 return std::ranges::count(other.wrt, static_cast<int>(i)) > 0;
                               }) != nullptr;
        if (elsewhere) continue;
        Graph graph;
        const Inputs inputs(graph, c.in, DType::f64, name_of(c));
        const Var out = c.build(inputs.vars())[0];
        if (std::ranges::count(c.constants, static_cast<int>(i)) > 0) {
          OwnedTensor seed(out.type());
          CHECK_FALSE(grad(std::array{out}, std::array{graph.bind(seed.view(), "seed")},
                           std::array{inputs.vars()[i]})[0]);
          continue;
        }
        CHECK_MESSAGE(mentions(gradient_error(graph, out, inputs.vars()[i]), "no derivative"),
                      name_of(c), ": input ", i, " has an unchecked gradient");
      }
    }
  }

  TEST_CASE("a gradient through an op without one is an error that names it") {
    for (const OpId id : not_differentiable()) {
      const OpCase& c = *find_case(id, [](const OpCase&) { return true; });
      Graph graph;
      const Inputs inputs(graph, c.in, DType::f64, name_of(c));
      const auto scope = graph.scope("model.norm");
      const std::vector<Var> out = c.build(inputs.vars());
      if (graph.value(out[0].id).producer < 0) continue;  // only updates memory
      const std::string message = gradient_error(graph, out[0], inputs.vars()[0]);
      INFO(op(id).name, ": ", message);
      CHECK(mentions(message, op(id).name));
      CHECK(mentions(message, "no derivative"));
      CHECK(mentions(message, "model.norm"));
    }
  }

  TEST_CASE("a gradient through a secondary output is an error") {
    for (const OpId id : {OpId::rms_norm, OpId::attention, OpId::linear_cross_entropy}) {
      const OpCase& c = *find_case(id, [](const OpCase&) { return true; });
      Graph graph;
      const Inputs inputs(graph, c.in, DType::f64, name_of(c));
      const std::vector<Var> out = c.build(inputs.vars());
      CHECK(mentions(gradient_error(graph, out[1], inputs.vars()[0]), op(id).name));
    }
  }

  TEST_CASE("an operand stored in bf16 has no gradient and says so") {
    for (const OpId id : {OpId::matmul, OpId::embedding, OpId::linear_cross_entropy}) {
      const OpCase& c = *find_case(id, [](const OpCase& candidate) {
        return std::ranges::any_of(candidate.in,
                                   [](const CaseInput& in) { return in.storage == Storage::bf16; });
      });
      Graph graph;
      const Inputs inputs(graph, c.in, DType::f32, name_of(c));
      const std::vector<Var> out = c.build(inputs.vars());
      const Var narrow = inputs.vars()[id == OpId::embedding ? 0 : 1];
      CHECK(mentions(gradient_error(graph, out[0], narrow), "bf16"));
    }
  }

  TEST_CASE("every op has a kernel in both working types") {
    const auto backend = make_cpu_backend();
    for (const OpId id : all_ops()) {
      for (const DType working : {DType::f32, DType::f64}) {
        const std::array<Type, 1> in = {Type{working, {1}}};
        const Attrs attrs;
        CHECK_MESSAGE(static_cast<bool>(backend->kernel({id, in, {}, {}, attrs})), op(id).name);
      }
    }
  }
}
