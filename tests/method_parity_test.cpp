// DoRA, LoRA+, AsyLoRA's start and modules_to_save against PyTorch and stock PEFT, by numbers that
// tests/golden/make_method_goldens.py computed in float64.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "adapters/singular_frame.hpp"
#include "backend_under_test.hpp"
#include "golden_training.hpp"
#include "mora/adapters/adapters.hpp"

TEST_SUITE_BEGIN("method_parity");

namespace mora::testing {
namespace {

struct Case {
  std::string name, base, start;
  AdapterConfig adapter;
  double ratio = 1;
};

Case a_case(const std::string& name, const std::string& base) {
  Case c{name, base, base, {}, 1};
  c.adapter.r = 4;
  c.adapter.lora_alpha = 8;
  return c;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* name : {"dora", "rsdora", "dora_tied", "loraplus", "loraplus_dora", "asymmetric",
                           "saved", "saved_tied"}) {
    const std::string text = name;
    Case c = a_case(text, text.ends_with("_tied") ? "tied" : "untied");
    c.adapter.use_dora = text.find("dora") != text.npos;
    c.adapter.use_rslora = text.starts_with("rs");
    if (text.starts_with("loraplus")) c.ratio = 4;
    if (text == "asymmetric") c.start = text;
    if (text == "saved")
      c.adapter.modules_to_save = {"embed_tokens", "lm_head", "norm", "input_layernorm",
                                   "post_attention_layernorm"};
    if (text == "saved_tied") c.adapter.modules_to_save = {"norm", "1.mlp.down_proj"};
    all.push_back(std::move(c));
  }
  return all;
}

void read_start(const SafetensorsFile& golden, const Case& c, LoadedModel& loaded) {
  initialise_adapters(loaded.store, 1, loaded.model.linears());
  int read = 0;
  for (const Parameter& p : loaded.store.all()) {
    if (!p.name.ends_with("lora_A.weight")) continue;
    golden.read(c.start + ".init." + p.name, p.value);
    ++read;
  }
  CHECK(read >= 13);
}

void check_finals(const SafetensorsFile& golden, const Case& c, const ParameterStore& store) {
  const std::string prefix = c.name + ".final.";
  int compared = 0;
  for (const auto& entry : golden.tensors()) {
    const std::string& name = entry.first;
    if (!name.starts_with(prefix)) continue;
    INFO(name);
    const Parameter& p = find(store, name.substr(prefix.size()));
    CHECK(p.training == Training::trained);
    CHECK(relative_error(p.value, read_doubles(golden, name)) < 1e-5);
    ++compared;
  }
  CHECK(compared >= 4);
}

// torch's own float32 runs differ from its float64 runs by up to 1.4e-4 of a final tensor's largest
// number (an Adam step of a gradient near 0), so that final weights are compared in f64.
void check_steps(const SafetensorsFile& golden, const Case& c, DType working) {
  const StepData data(golden, c.base + ".");
  const InOrder ordered(data, 42);
  LoadedModel loaded(
      golden_folder() / ("llama_" + c.base), Training::frozen,
      [&](ParameterStore& store, Llama& model) {
        attach_adapters(c.adapter, store, model.linears());
        train_saved_modules(c.adapter, store);
        set_loraplus_ratio(store, c.ratio);
      },
      0, working);
  read_start(golden, c, loaded);
  const auto backend = backend_under_test();
  Workspace workspace;
  Trainer trainer(loaded.model, loaded.store, ordered, golden_training(), 42, *backend, workspace);
  const auto losses = read_doubles(golden, c.name + ".losses"),
             norms = read_doubles(golden, c.name + ".grad_norm");
  for (size_t s = 0; s < 20; ++s) {
    const StepMetrics m = trainer.step();
    INFO("step " << m.step);
    CHECK(m.loss == doctest::Approx(losses[s]).epsilon(1e-5));
    CHECK(m.grad_norm == doctest::Approx(norms[s]).epsilon(1e-5));
  }
  if (working == DType::f64) check_finals(golden, c, loaded.store);
}

TEST_CASE("20 AdamW steps equal PEFT's") {
  const SafetensorsFile golden(golden_folder() / "methods.safetensors");
  for (const Case& c : cases()) {
    for (const DType working : {DType::f32, DType::f64}) {
      INFO(c.name << " in " << (working == DType::f32 ? "f32" : "f64"));
      check_steps(golden, c, working);
    }
  }
}

TEST_CASE("the frame of a matrix is numpy's, from the singular vectors of its full decomposition") {
  const SafetensorsFile golden(golden_folder() / "methods.safetensors");
  int compared = 0;
  for (; golden.contains(str("frame", compared, ".matrix")); ++compared) {
    const OwnedTensor matrix = read_tensor(golden, str("frame", compared, ".matrix"), DType::f64);
    const auto expected = read_doubles(golden, str("frame", compared, ".rows"));
    const int64_t n = matrix.view().shape()[1];
    const OwnedTensor rows({DType::f64, {static_cast<int64_t>(expected.size()) / n, n}});
    adapters::singular_frame(matrix.view(), rows.view());
    INFO(matrix.view().shape() << " to " << rows.view().shape());
    CHECK(relative_error(rows.view(), expected) < 1e-9);
  }
  CHECK(compared == 5);
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
