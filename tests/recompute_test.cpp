// What the backward pass computes again instead of keeping it: the same gradients bit for bit, less
// memory, and nothing that no gradient reads.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "backend_under_test.hpp"
#include "mora/autograd/grad.hpp"
#include "mora/report/profile.hpp"
#include "plan/schedule.hpp"
#include "tiny_llama.hpp"
#include "train/step_graph.hpp"

TEST_SUITE_BEGIN("recompute");

namespace mora::testing {
namespace {

constexpr std::array kParts = {Recompute::none, Recompute::attention, Recompute::block};

struct PlannedStepOfTraining {
  TinyLlama tiny;
  MicroGraph micro;
  std::unique_ptr<Backend> backend = backend_under_test();
  Workspace workspace;
  Plan plan;

  PlannedStepOfTraining(const AdapterConfig& adapter, int64_t tokens,
                        const ActivationOptions& activations, const TinyOptions& options = {})
      : tiny(adapter, options),
        micro(tiny.model, tiny.store, tokens, 5, activations),
        plan(micro.graph, std::array{micro.loss}, *backend, workspace) {}

  template <class Counts>
  int64_t count(const Counts& counts) const {
    const auto schedule = plan::make_schedule(micro.graph, std::array{micro.loss}, Reuse::yes);
    return std::ranges::count_if(
        schedule.steps, [&](const plan::PlannedStep& s) { return counts(*s.op, s.node->scope); });
  }

  // Steps that belong to these modules and are computed again.
  int64_t again(std::string_view module) const {
    return count([&](const Op&, const std::string& scope) {
      return scope.ends_with(kRecomputedScope) && scope.find(module) != std::string::npos;
    });
  }

  // Steps of an operation, of the forward pass and again.
  std::array<int64_t, 2> forward_and_again(OpId id) const {
    const auto is = [id](const Op& op) { return op.id == static_cast<int>(id); };
    return {count([&](const Op& op, const std::string& scope) {
              return is(op) && !scope.ends_with(kRecomputedScope) && !scope.ends_with(kGradScope);
            }),
            count([&](const Op& op, const std::string& scope) {
              return is(op) && scope.ends_with(kRecomputedScope);
            })};
  }
};

// The bytes of loss and gradients.
std::string trained_bytes(PlannedStepOfTraining& step, const Batch& batch) {
  step.micro.batch.fill(batch, 1 / batch.weight_sum);
  step.plan.run();
  const Tensor loss = step.plan[step.micro.loss], gradients = step.tiny.store.gradients();
  return std::string(static_cast<const char*>(loss.data), loss.bytes()) +
         std::string(static_cast<const char*>(gradients.data), gradients.bytes());
}

Batch batch_of(TinyExamples& data) {
  std::vector<const Example*> examples;
  int64_t tokens = 0;
  for (const Example& e : data.examples()) {
    examples.push_back(&e);
    tokens += static_cast<int64_t>(e.tokens.size());
  }
  return pack(examples, tokens);
}

TEST_CASE("gradients are the same bit for bit, for every method, in f32, bf16 and f64") {
  TinyExamples data(12);
  const Batch batch = batch_of(data);
  std::vector<AdapterKind> kinds = adapter_kinds();
  kinds.push_back({"full", {}});
  kinds.back().config.method = "full";
  for (const char* operation : {"sharing", "rotation"}) {
    kinds.push_back(adapter_kind("mora", operation));
    kinds.back().config.lora_dropout = 0.25;
  }
  for (const AdapterKind& kind : kinds) {
    for (const DType working : {DType::f32, DType::f64}) {
      for (const bool narrow : {false, true}) {
        if (narrow && working == DType::f64) continue;
        INFO(str(kind.name, ", ", working, narrow ? ", bf16 activations" : ""));
        std::array<std::string, kParts.size()> bytes;
        for (size_t i = 0; i < kParts.size(); ++i) {
          ActivationOptions activations{.recompute = kParts[i]};
          if (narrow) activations.stored = DType::bf16;
          PlannedStepOfTraining step(kind.config, batch.capacity(), activations,
                                     {.working = working, .frozen_matrices = working});
          bytes[i] = trained_bytes(step, batch);
        }
        CHECK(bytes[0] == bytes[1]);
        CHECK(bytes[0] == bytes[2]);
      }
    }
  }
}

TEST_CASE("the more is computed again, the less memory is planned") {
  struct Run {
    const char* method;
    int64_t layers;
  };
  // A layer at work holds more of MoRA, so that it takes more of them to gain by the last step.
  for (const Run& each : {Run{"full", 2}, {"lora", 2}, {"mora", 4}}) {
    INFO(each.method);
    AdapterConfig adapter;
    adapter.method = each.method;
    std::array<size_t, kParts.size()> bytes{};
    for (size_t i = 0; i < kParts.size(); ++i) {
      const PlannedStepOfTraining step(adapter, 512, {.recompute = kParts[i]},
                                       {.layers = each.layers});
      bytes[i] = step.plan.bytes();
    }
    CHECK(bytes[1] < bytes[0]);
    CHECK(bytes[2] < bytes[1]);
  }
}

TEST_CASE("only what a gradient reads is computed again") {
  AdapterConfig adapter;
  const PlannedStepOfTraining none(adapter, 64, {}),
      attention(adapter, 64, {.recompute = Recompute::attention}),
      block(adapter, 64, {.recompute = Recompute::block});
  // What takes no longer to make than to fetch: two norms and a swiglu in each of two layers.
  CHECK(none.again("") == 6);
  CHECK(none.again("layernorm") == 4);
  // In bf16 also the sum behind attention, with the product whose addend it is.
  const PlannedStepOfTraining narrow(adapter, 64, {.stored = DType::bf16});
  CHECK(narrow.again("") == 8);
  CHECK(narrow.again("layernorm") == 4);
  CHECK(attention.again("mlp") == 2);
  CHECK(attention.again("layers.0.self_attn.q_proj") > 0);
  CHECK(attention.again("layers.1.self_attn") > 0);
  CHECK(block.again("mlp.gate_proj") > 0);
  // Of the last module of a region only A x, which the gradient of B reads.
  CHECK(attention.again("layers.1.self_attn.o_proj") == 1);
  CHECK(block.again("layers.1.mlp.down_proj") == 1);
  for (const PlannedStepOfTraining* step : {&attention, &block}) {
    CHECK(step->again("lm_head") == 0);
    CHECK(step->again("embed_tokens") == 0);
  }

  adapter.target_modules = {"1.mlp.down_proj"};
  const PlannedStepOfTraining last(adapter, 64, {.recompute = Recompute::block});
  CHECK(last.again("layers.0.") == 0);
}

TEST_CASE("a value that is forgotten is made again where a gradient reads it, and only there") {
  const OwnedTensor memory({DType::f32, {2, 3}}), seed({DType::f32, {2, 3}});
  for (const bool forgets : {false, true}) {
    Graph graph;
    const Var x = graph.bind(memory.view(), "x"), inner = swiglu(x, x), y = swiglu(inner, inner),
              unread = add(y, inner);
    if (forgets) {
      forget(inner);
      forget(unread);
    }
    const std::vector<Var> dx =
        grad(std::array{unread}, std::array{graph.bind(seed.view(), "dy")}, std::array{x});
    const auto schedule = plan::make_schedule(graph, dx, Reuse::yes);
    const auto again = std::ranges::count_if(schedule.steps, [](const plan::PlannedStep& s) {
      return s.node->scope.ends_with(kRecomputedScope);
    });
    CHECK(again == (forgets ? 1 : 0));
  }
}

// In each of two layers q_proj, k_proj with v_proj, o_proj, gate_proj with up_proj, and down_proj.
TEST_CASE("layers of one input share what MoRA compresses, and what of it is large is made again") {
  using Counts = std::array<int64_t, 2>;
  const PlannedStepOfTraining rotation(adapter_kind("mora", "rotation").config, 64, {}),
      sharing(adapter_kind("mora", "sharing").config, 64, {});
  CHECK(rotation.forward_and_again(OpId::rotate_blocks) == Counts{10, 10});
  CHECK(sharing.forward_and_again(OpId::fold) == Counts{10, 6});  // 8 and 11 are kept of 24 and 40
  AdapterConfig random = adapter_kind("mora", "sharing", "random").config;  // each its own order
  CHECK(PlannedStepOfTraining(random, 64, {}).forward_and_again(OpId::fold) == Counts{14, 8});
  random.lora_dropout = 0.1;
  CHECK(PlannedStepOfTraining(random, 64, {}).forward_and_again(OpId::fold) == Counts{14, 8});
}

TEST_CASE("in bf16 rotation is part of the layer's product, and of its gradient") {
  using Counts = std::array<int64_t, 2>;
  const PlannedStepOfTraining rotation(adapter_kind("mora", "rotation").config, 64,
                                       {.stored = DType::bf16});
  CHECK(rotation.forward_and_again(OpId::matmul_block_product) == Counts{14, 2});  // o_proj again
  const auto all_of = [&](OpId id) {
    return rotation.count(
        [id](const Op& op, const std::string&) { return op.id == static_cast<int>(id); });
  };
  CHECK(all_of(OpId::matmul_block_product) == 27);  // nobody reads gradients of the first input
  CHECK(all_of(OpId::block_product) == 0);
  CHECK(all_of(OpId::block_product_grad) == 14);
  for (const OpId id : {OpId::rotate_blocks, OpId::fold, OpId::unfold}) CHECK(all_of(id) == 0);
}

TEST_CASE("of dropout a mask is kept, and what it leaves of the input is made again") {
  AdapterConfig adapter;
  adapter.lora_dropout = 0.1;
  const PlannedStepOfTraining step(adapter, 64, {});
  CHECK(step.forward_and_again(OpId::dropout_mask) == std::array<int64_t, 2>{14, 0});
  CHECK(step.forward_and_again(OpId::dropout) == std::array<int64_t, 2>{14, 14});
}

TEST_CASE("a profile tells what is computed again, under the module it belongs to") {
  TinyExamples data(12);
  const Batch batch = batch_of(data);
  PlannedStepOfTraining step({}, batch.capacity(), {.recompute = Recompute::block});
  step.micro.batch.fill(batch, 1 / batch.weight_sum);
  Profile profile;
  step.plan.trace([&](const StepRun& run) { profile.add(run); });
  CHECK(profile.by_op().at("attention").runs == 2);
  CHECK(profile.by_op().at("attention (again)").runs == 2);
  for (const auto& [module, cost] : profile.by_module())
    CHECK(module.find("recomputed") == std::string::npos);
}

TEST_CASE("a region cannot hold another, nor what changes memory") {
  Graph graph;
  OwnedTensor memory({DType::f32, {4}});
  {
    const Graph::RecomputeGuard guard(graph);
    CHECK_THROWS_AS(Graph::RecomputeGuard{graph}, Error);
  }
  Var x, y;
  {
    const Graph::RecomputeGuard again(graph);  // one after the other is fine
    x = graph.bind(memory.view(), "x");
    y = add(x, x);
    accumulate(graph.bind(memory.view(), "sum"), y);
  }
  OwnedTensor seed({DType::f32, {4}});
  const Var one = graph.bind(seed.view(), "one");
  CHECK_THROWS_AS(grad(std::array{y}, std::array{one}, std::array{x}), Error);
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
