// The trainer's promises: losses weighted by tokens, the same bits whatever the threads and
// however often, gradients of the whole model, and weights that survive a failed step.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "backend_under_test.hpp"
#include "mora/core/parallel.hpp"
#include "mora/eval/loss.hpp"
#include "op_harness.hpp"
#include "temporary_folder.hpp"
#include "tiny_training.hpp"
#include "train/step_graph.hpp"

TEST_SUITE_BEGIN("trainer");

namespace mora::testing {
namespace {

std::vector<AdapterKind> trained_kinds() {
  return {{"full", full_training()},
          adapter_kinds()[2],
          adapter_kind("mora", "sharing"),
          adapter_kind("mora", "rotation")};
}

std::vector<MatmulProvider> providers() {
  if (!has_onednn()) return {MatmulProvider::eigen};
  return {MatmulProvider::eigen, MatmulProvider::onednn};
}

double largest_difference(const Tensor& a, const Tensor& b) {
  double difference = 0;
  for (size_t i = 0; i < a.as<double>().size(); ++i)
    difference = std::max(difference, std::fabs(a.as<double>()[i] - b.as<double>()[i]));
  return difference;
}

const Parameter& find(const ParameterStore& store, const std::string& name) {
  return *std::ranges::find(store.all(), name, &Parameter::name);
}
const Parameter& find(const TinyLlama& tiny, const std::string& name) {
  return find(tiny.store, name);
}

TEST_CASE("eight micro-batches of one are one of eight, whatever their lengths and weights") {
  const TinyExamples data(20);
  for (AdapterKind kind : trained_kinds()) {
    INFO(kind.name);
    kind.config.lora_dropout = 0;
    const TrainingSetup setup{.adapter = kind.config,
                              .model = {.working = DType::f64, .frozen_matrices = DType::f64}};
    TinyTraining whole(setup, data, tiny_train_config(8, 1));
    const std::vector<double> losses = whole.steps(5);
    for (const auto& [batch, accumulation] : {std::pair{1, 8}, std::pair{2, 4}}) {
      TinyTraining parts(setup, data, tiny_train_config(batch, accumulation));
      const std::vector<double> found = parts.steps(5);
      for (size_t s = 0; s < losses.size(); ++s)
        CHECK(found[s] == doctest::Approx(losses[s]).epsilon(1e-12));
      CHECK(largest_difference(parts.tiny.store.values(), whole.tiny.store.values()) < 1e-9);
      CHECK(parts.trainer.epoch() == whole.trainer.epoch());
    }
  }
}

// Methods with dropout where they have it, the last two with a merge every 20 steps.
std::vector<TrainingSetup> dropping_setups() {
  std::vector<TrainingSetup> setups;
  for (AdapterKind kind : trained_kinds()) {
    kind.config.lora_dropout = 0.1;
    setups.push_back({.adapter = kind.config});
  }
  setups[0].adapter.lora_dropout = 0;  // full training has none
  setups.push_back(setups[1]);
  setups.back().adapter.use_dora = true;
  for (const size_t merging : {1, 2}) {
    setups.push_back(setups[merging]);
    setups.back().restart.merge_steps = 20;
    setups.back().model.restarts = true;
  }
  return setups;
}

TEST_CASE("fifty steps give the same bits for any number of threads, and every time") {
  const TinyExamples data(60);
  for (TrainingSetup setup : dropping_setups()) {
    for (const MatmulProvider provider : providers()) {
      setup.provider = provider;
      for (const char* dtype : {"fp32", "bf16"}) {
        INFO(setup.adapter.method << " " << setup.adapter.operation << ", provider "
                                  << static_cast<int>(provider) << ", " << dtype);
        TrainConfig config = tiny_train_config(24);
        config.dtype = dtype;
        StateBytes expected;
        for (const int threads : {1, 2, 3, 4, 8, 1}) {
          const Threads guard(threads);
          TinyTraining run(setup, data, config);
          run.steps(50);
          if (expected.empty()) expected = run.state();
          CHECK(run.state() == expected);
        }
      }
    }
  }
}

double mean(const TinyLlama& tiny, const ExampleSource& data, int64_t batch) {
  const auto backend = backend_under_test(MatmulProvider::eigen);
  Workspace workspace;
  return mean_loss(example_losses(tiny.model, tiny.store, data, 0, batch, *backend, workspace))
      .loss;
}

TEST_CASE("evaluation has no dropout and gives the loss of training without it") {
  const TinyExamples data(20);
  const TinyOptions wide{.working = DType::f64, .frozen_matrices = DType::f64};
  for (AdapterKind kind : trained_kinds()) {
    INFO(kind.name);
    AdapterConfig dropping = kind.config;
    dropping.lora_dropout = 0.5;
    kind.config.lora_dropout = 0;
    TinyTraining plain({.adapter = kind.config, .model = wide}, data, tiny_train_config(20));
    const double loss = mean(plain.tiny, data, 7);
    CHECK(mean(TinyLlama(dropping, wide), data, 7) == loss);
    CHECK(mean(plain.tiny, data, 20) == doctest::Approx(loss).epsilon(1e-12));
    CHECK(plain.trainer.step().loss == doctest::Approx(loss).epsilon(1e-12));
  }
}

TEST_CASE("dropout's masks depend on the step and the micro-batch, and on nothing else") {
  TinyExamples data(1);
  for (const char* method : {"lora", "mora"}) {
    AdapterConfig config = adapter_kind(method).config;
    config.lora_dropout = 0.3;
    const TinyLlama tiny(config);
    const auto length = static_cast<int64_t>(data.examples()[0].tokens.size());
    MicroGraph micro(tiny.model, tiny.store, length, 8), other(tiny.model, tiny.store, length, 9);
    const Batch batch = pack(std::array{static_cast<const Example*>(&data.examples()[0])}, length);
    const auto backend = backend_under_test();
    Workspace workspace;
    auto loss = [&](MicroGraph& graph, int32_t step, int32_t part) {
      graph.batch.fill(batch, 1);
      graph.step.as<int32_t>()[0] = step;
      graph.step.as<int32_t>()[1] = part;
      Plan plan(graph.graph, std::array{graph.loss}, *backend, workspace);
      plan.run();
      return plan[graph.loss].as<float>()[0];
    };
    std::vector<float> losses = {loss(micro, 0, 0), loss(micro, 0, 1), loss(micro, 1, 0),
                                 loss(micro, 1, 1), loss(other, 0, 0)};
    CHECK(loss(micro, 0, 0) == losses[0]);
    std::ranges::sort(losses);
    CHECK(std::ranges::adjacent_find(losses) == losses.end());
  }
}

// Runs a step that must fail, and checks that nothing was learnt from it.
std::string failed_step(TinyTraining& run, ErrorKind kind) {
  const StateBytes before = run.state();
  const int64_t finished = run.trainer.finished_steps();
  std::string message = message_of(kind, [&] { run.trainer.step(); });
  CHECK(run.state() == before);
  CHECK(run.trainer.finished_steps() == finished);
  return message;
}

TEST_CASE("a NaN is reported with the layer where it appears; the weights stay") {
  const TinyExamples data(20);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const AdapterKind& kind : trained_kinds()) {
    for (const char* layer : {"model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj"}) {
      INFO(kind.name << " " << layer);
      TinyTraining run({.adapter = kind.config}, data, tiny_train_config(2, 3));
      run.steps(2);
      const Parameter& weight = find(run.tiny, std::string(layer) + ".weight");
      const float good = weight.value.as<float>()[7];
      weight.value.as<float>()[7] = nan;
      const std::string message = failed_step(run, ErrorKind::numerical);
      CHECK(message.find("step 3") != std::string::npos);
      CHECK(message.find(layer) != std::string::npos);
      weight.value.as<float>()[7] = good;
      run.steps(1);  // and can go on
      CHECK(run.trainer.finished_steps() == 3);
    }
  }
}

TEST_CASE("a gradient that overflows is named by the step that made it, not by what it reached") {
  const TinyExamples data(20);
  for (const AdapterKind& kind : trained_kinds()) {
    TinyTraining run({.adapter = kind.config}, data, tiny_train_config(1, 4));
    for (float& w : find(run.tiny, "model.norm.weight").value.as<float>()) w = 1e30f;
    const std::string message = failed_step(run, ErrorKind::numerical);
    INFO(message);
    CHECK(message.find("the gradient norm is not finite") != std::string::npos);
    CHECK(message.find("first seen") == std::string::npos);  // only the sum of squares overflowed
  }
  AdapterConfig config = adapter_kind("lora").config;
  config.target_modules = {"down_proj", "q_proj"};
  TinyTraining run({.adapter = config}, data, tiny_train_config(1, 4));
  const std::string layer = "model.layers.1.mlp.down_proj";
  for (float& w : find(run.tiny, layer + ".lora_A.weight").value.as<float>()) w *= 1e-37f;
  for (float& w : find(run.tiny, layer + ".lora_B.weight").value.as<float>())
    w = std::copysign(3e38f, w);
  for (float& w : find(run.tiny, "lm_head.weight").value.as<float>()) w *= 1000;
  const std::string message = failed_step(run, ErrorKind::numerical);
  INFO(message);
  CHECK(message.find("the gradient norm is not finite; first seen in") != std::string::npos);
  CHECK(message.find(layer) != std::string::npos);
}

TEST_CASE("a batch without any weight is an error") {
  TinyExamples data(6);
  for (Example& e : data.examples()) std::ranges::fill(e.weights, 0.0f);
  TinyTraining run({.adapter = adapter_kind("lora").config}, data, tiny_train_config(2, 2));
  CHECK(failed_step(run, ErrorKind::data).find("nothing to learn") != std::string::npos);
}

TEST_CASE("a base stored in bf16 computes with its rounded weights exactly") {
  const TinyExamples data(20);
  for (const char* method : {"lora", "mora"}) {
    for (const MatmulProvider provider : providers()) {
      const TrainingSetup narrow{.adapter = adapter_kind(method).config,
                                 .model = {.frozen_matrices = DType::bf16},
                                 .provider = provider};
      TrainingSetup wide = narrow;
      wide.model.frozen_matrices = DType::f32;
      TinyTraining stored(narrow, data, tiny_train_config(5)),
          reference(wide, data, tiny_train_config(5));
      const double unrounded = mean(reference.tiny, data, 5);
      int64_t rounded = 0;
      for (const Parameter& p : stored.tiny.store.all()) {
        if (p.value.dtype() != DType::bf16) continue;
        convert(p.value, find(reference.tiny, p.name).value);
        ++rounded;
      }
      CHECK(rounded == 2 + 2 * 7);
      CHECK(mean(stored.tiny, data, 5) == mean(reference.tiny, data, 5));
      CHECK(mean(stored.tiny, data, 5) != unrounded);
      CHECK(stored.steps(4) == reference.steps(4));
      CHECK(stored.state() == reference.state());
    }
  }
}

// The moments of n numbers that should be independent with mean 0 and this standard deviation.
void check_moments(std::span<const float> x, double deviation) {
  double sum = 0, squares = 0;
  for (const float v : x) {
    sum += static_cast<double>(v);
    squares += static_cast<double>(v) * static_cast<double>(v);
  }
  const auto n = static_cast<double>(x.size());
  CHECK(std::fabs(sum / n) < 4 * deviation / std::sqrt(n));
  CHECK(std::fabs(std::sqrt(squares / n) / deviation - 1) < 3 / std::sqrt(n));
}

TEST_CASE("initial weights: N(0, 0.02), norms 1, LoRA's A uniform; a matter of seed and name") {
  LlamaConfig config = tiny_config({});
  config.hidden_size = 128;
  config.intermediate_size = 160;
  config.initializer_range = 0.02;
  StateBytes expected;
  for (const int threads : {1, 2, 4}) {
    const Threads guard(threads);
    ParameterStore store, other;
    Llama model(config, store, Training::trained), second(config, other, Training::trained);
    attach_adapters(adapter_kind("lora").config, store, model.linears());
    store.allocate();
    other.allocate();
    store.initialise(1);
    other.initialise(2);
    for (const Parameter& p : store.all()) {
      INFO(p.name);
      const auto x = p.value.as<float>();
      if (p.name.find("norm") != std::string::npos) {
        CHECK(std::ranges::all_of(x, [](float v) { return v == 1; }));
      } else if (p.name.ends_with("lora_B.weight")) {
        CHECK(std::ranges::all_of(x, [](float v) { return v == 0; }));
      } else if (p.name.ends_with("lora_A.weight")) {
        const double bound = 1 / std::sqrt(static_cast<double>(p.shape[1]));
        CHECK(std::ranges::all_of(x, [&](float v) { return std::fabs(v) <= bound; }));
        CHECK(std::ranges::any_of(x, [&](float v) { return std::fabs(v) > 0.9 * bound; }));
      } else if (x.size() >= 7000) {
        check_moments(x, 0.02);
      }
    }
    const std::string q_proj = "model.layers.0.self_attn.q_proj.weight";
    const auto q = find(store, q_proj).value.as<float>(),
               up = find(store, "model.layers.0.mlp.up_proj.weight").value.as<float>();
    CHECK_FALSE(std::equal(q.begin(), q.begin() + 100, up.begin()));
    CHECK_FALSE(std::ranges::equal(q, find(other, q_proj).value.as<float>()));
    const auto bytes = std::as_bytes(store.values().as<float>());
    if (expected.empty()) expected.assign(bytes.begin(), bytes.end());
    CHECK(std::ranges::equal(bytes, expected));
  }
}

// A direction in which a derivative is the limit of a difference. DoRA's norms, which change with A
// and B, are constants to its derivatives by definition: these hold still, and method_parity_test
// compares them with PEFT's.
OwnedTensor direction_of(const TinyLlama& tiny) {
  OwnedTensor v(tiny.store.values().type);
  fill_random(v.view(), "direction", 1);
  const double* first = tiny.store.values().as<double>().data();
  for (const Parameter& p : tiny.store.all()) {
    if (!tiny.adapter.use_dora || p.training == Training::frozen) continue;
    if (p.name.find(".lora_A") == p.name.npos && p.name.find(".lora_B") == p.name.npos) continue;
    const auto begin = v.as<double>().begin() + (p.value.as<double>().data() - first);
    std::fill_n(begin, p.value.elements(), 0.0);
  }
  return v;
}

// |<gradient, v> - dloss/dv| over all trained weights at once, relative.
double gradient_error(const AdapterConfig& adapter, const TinyOptions& options) {
  const TinyLlama tiny(adapter, options);
  TinyExamples data(4);
  std::vector<const Example*> examples;
  int64_t tokens = 3;  // unused slots
  for (const Example& e : data.examples()) {
    examples.push_back(&e);
    tokens += static_cast<int64_t>(e.tokens.size());
  }
  const Batch batch = pack(examples, tokens);
  MicroGraph micro(tiny.model, tiny.store, tokens, 0);
  micro.batch.fill(batch, 1 / batch.weight_sum);
  const auto backend = backend_under_test();
  Workspace workspace;
  Plan plan(micro.graph, std::array{micro.loss}, *backend, workspace);
  plan.run();
  const auto values = tiny.store.values().as<double>(), g = tiny.store.gradients().as<double>();
  const std::vector<double> start(values.begin(), values.end());
  const OwnedTensor v = direction_of(tiny);
  double analytic = 0;
  for (size_t i = 0; i < g.size(); ++i) analytic += g[i] * v.as<double>()[i];
  auto difference = [&](double h) {
    std::array<double, 2> loss{};
    for (const size_t side : {0, 1}) {
      for (size_t i = 0; i < start.size(); ++i)
        values[i] = start[i] + (side == 0 ? h : -h) * v.as<double>()[i];
      plan.run();
      loss[side] = plan[micro.loss].as<double>()[0];
    }
    return (loss[0] - loss[1]) / (2 * h);
  };
  const double numeric = (4 * difference(5e-5) - difference(1e-4)) / 3;
  return std::fabs(analytic - numeric) / std::max(std::fabs(analytic), std::fabs(numeric));
}

TEST_CASE("the gradient of the whole model, tied and untied with biases, for every method") {
  std::vector<AdapterKind> kinds = adapter_kinds();
  kinds.push_back({"full", full_training()});
  for (const AdapterKind& kind : kinds) {
    for (const bool tied : {true, false}) {
      INFO(kind.name, tied ? ", tied" : ", untied with biases");
      CHECK(gradient_error(kind.config, {.tied = tied,
                                         .biases = !tied,
                                         .working = DType::f64,
                                         .frozen_matrices = DType::f64}) < 1e-6);
    }
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
