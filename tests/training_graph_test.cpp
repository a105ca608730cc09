// What a training step of a frozen model computes and keeps: only what an adapter multiplies lives
// until its gradient, and nothing is computed for what is not trained.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <map>

#include "mora/autograd/grad.hpp"
#include "mora/train/trainer.hpp"
#include "plan/schedule.hpp"
#include "tiny_llama.hpp"
#include "train/step_graph.hpp"

TEST_SUITE_BEGIN("training_graph");

namespace mora::testing {
namespace {

constexpr int64_t kTokens = 48;

// The forward and backward pass as planned.
struct PlannedTraining {
  TinyLlama tiny;
  MicroGraph micro;
  plan::Schedule schedule;
  std::unique_ptr<Backend> backend = make_cpu_backend();
  Workspace workspace;
  Plan plan;

  explicit PlannedTraining(const AdapterConfig& adapter)
      : tiny(adapter),
        micro(tiny.model, tiny.store, kTokens, 0),
        schedule(plan::make_schedule(micro.graph, std::array{micro.loss}, Reuse::yes)),
        plan(micro.graph, std::array{micro.loss}, *backend, workspace) {
    REQUIRE(plan.steps() == schedule.steps.size());
  }

  // The backward pass is everything after the loss.
  int loss_step() const {
    const auto makes_loss = [&](const plan::PlannedStep& s) {
      return std::ranges::find(s.out, micro.loss.id) != s.out.end();
    };
    const auto at = std::ranges::find_if(schedule.steps, makes_loss);
    REQUIRE(at != schedule.steps.end());
    return static_cast<int>(at - schedule.steps.begin());
  }
  std::span<const plan::PlannedStep> backward() const {
    return std::span(schedule.steps).subspan(static_cast<size_t>(loss_step()) + 1);
  }
  std::string_view maker(int value) const {
    const int producer = micro.graph.value(value).producer;
    return producer < 0 ? "" : micro.graph.nodes()[static_cast<size_t>(producer)].op->name;
  }
  // Inputs of linear layers: normed hidden states (but the last, which the loss reads) and the
  // MLP's inner ones.
  std::vector<int> linear_inputs() const {
    std::vector<int> found;
    for (const plan::PlannedStep& step : schedule.steps) {
      if (!step.op->name.starts_with("matmul")) continue;
      const std::string_view name = maker(step.in[0]);
      const bool forward = step.node->scope.find(".grad") == std::string::npos;
      if (forward && (name == "rms_norm" || name == "swiglu")) found.push_back(step.in[0]);
    }
    std::ranges::sort(found);
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
  }
  bool read_backward(int value) const {
    return std::ranges::any_of(backward(), [&](const plan::PlannedStep& s) {
      return std::ranges::find(s.in, value) != s.in.end();
    });
  }
  int64_t count_backward(std::string_view scope, std::string_view op = "") const {
    return std::ranges::count_if(backward(), [&](const plan::PlannedStep& s) {
      return s.node->scope.find(scope) != std::string::npos && (op.empty() || s.op->name == op);
    });
  }
};

TEST_CASE("with MoRA no input of a linear layer lives into the backward pass") {
  for (const AdapterKind& kind : adapter_kinds()) {
    if (kind.config.method != "mora") continue;
    INFO(kind.name);
    const PlannedTraining training(kind.config);
    const std::vector<int> inputs = training.linear_inputs();
    CHECK(inputs.size() == 6);  // two norms and one swiglu in each of two layers
    for (const int value : inputs) {
      CHECK_FALSE(training.read_backward(value));
      for (const Placement& p : training.plan.placements()) {
        if (p.value == value) CHECK(p.last <= training.loss_step());
      }
    }
    // What M reads is made again where it is large, and the input for it.
    CHECK(training.count_backward(kRecomputedScope) > 0);
  }
}

TEST_CASE("what MoRA's groups share is added straight to the layer's output") {
  const PlannedTraining training(adapter_kind("mora", "sharing").config);
  int64_t sums = 0;
  for (const plan::PlannedStep& step : training.schedule.steps) {
    if (!step.node->scope.ends_with("_proj")) continue;  // the forward pass of linear layers
    CHECK(step.op->name != "add");
    if (step.op->name != "unfold") continue;
    CHECK(step.in.size() == 2);
    ++sums;
  }
  CHECK(sums == 2 * 7);
}

TEST_CASE("with LoRA they do not either: its gradient, which needs them, makes them again") {
  const PlannedTraining training(adapter_kind("lora").config);
  for (const int value : training.linear_inputs()) CHECK_FALSE(training.read_backward(value));
  CHECK(training.count_backward(kRecomputedScope, "rms_norm") == 4);
  CHECK(training.count_backward(kRecomputedScope, "swiglu") == 2);
  CHECK(training.count_backward(kRecomputedScope) == 6);
}

TEST_CASE("no gradient is computed for a frozen weight") {
  for (const AdapterKind& kind : adapter_kinds()) {
    INFO(kind.name);
    const PlannedTraining training(kind.config);
    std::map<const void*, int> written;  // by bound memory
    for (const plan::PlannedStep& step : training.backward()) {
      CHECK(step.op->name != "embedding_grad");
      const auto& out = training.micro.graph.value(step.out.empty() ? step.in[0] : step.out[0]);
      if (step.op->name == "matmul" && step.bound_output < 0)
        CHECK_MESSAGE(out.type.shape[0] % kTokens == 0, step.node->scope, " makes ", out.type);
      if (step.bound_output >= 0)
        ++written[training.micro.graph.value(step.bound_output).bound.data];
      if (step.op->name == "accumulate")
        ++written[training.micro.graph.value(step.in[0]).bound.data];
      if (step.op->name == "rms_norm_grad") CHECK(step.read[1] == 0);
    }
    size_t trained = 0;
    for (const Parameter& p : training.tiny.store.all()) {
      if (p.training != Training::trained) continue;
      CHECK(written[p.grad.data] == 1);
      ++trained;
    }
    CHECK(written.size() == trained);
    for (const plan::PlannedStep& step : training.schedule.steps) {
      if (step.op->name == "linear_cross_entropy") CHECK(step.read[3] == 0);
    }
  }
}

TEST_CASE("nothing flows to the frozen embedding below the first adapter") {
  const PlannedTraining all(adapter_kind("mora", "sharing").config);
  CHECK(all.count_backward("layers.0.", "rms_norm_grad") == 1);  // the MLP's norm, not the first
  CHECK(all.count_backward("layers.1.", "rms_norm_grad") == 2);
  // q, k and v of the first layer end their gradients in M; those of the second go on to x, through
  // the frozen weight and through M.
  CHECK(all.count_backward("layers.0.self_attn.q_proj", "matmul") == 1);
  CHECK(all.count_backward("layers.1.self_attn.q_proj", "matmul") == 3);

  AdapterConfig top = adapter_kind("mora", "sharing").config;
  top.target_modules = {"1.self_attn.v_proj"};
  const PlannedTraining second(top);
  CHECK(second.count_backward("layers.0.") == 0);
  CHECK(second.count_backward("q_proj") == 0);
  CHECK(second.count_backward("layers.1.self_attn.v_proj", "matmul") == 1);
  CHECK(second.count_backward("layers.1.", "rms_norm_grad") == 1);

  AdapterConfig last = top;
  last.target_modules = {"1.mlp.down_proj"};
  const PlannedTraining down(last);
  CHECK(down.count_backward("layers.1.", "rms_norm_grad") == 0);
  CHECK(down.count_backward("layers.1.", "swiglu_grad") == 0);
  CHECK(down.count_backward("down_proj", "matmul") == 1);
}

TEST_CASE("full training computes every gradient") {
  AdapterConfig full;
  full.method = "full";
  const PlannedTraining training(full);
  CHECK(training.count_backward("", "embedding_grad") == 1);
  CHECK(training.count_backward("layers.0.", "rms_norm_grad") == 2);
  CHECK(training.count_backward("layers.0.self_attn.q_proj", "matmul") == 2);
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
