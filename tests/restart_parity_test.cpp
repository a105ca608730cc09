// ReLoRA and ReMoRA against numbers that tests/golden/make_restart_goldens.py computed: the
// schedule and the resets of moments by the authors' code, whole runs over several merges by
// PyTorch.
#include <doctest/doctest.h>

#include "golden_training.hpp"
#include "mora/adapters/adapters.hpp"
#include "mora/train/restarts.hpp"
#include "mora/train/schedule.hpp"

TEST_SUITE_BEGIN("restart_parity");

namespace mora::testing {
namespace {

const SafetensorsFile& golden_file() {
  static const SafetensorsFile file(golden_folder() / "restarts.safetensors");
  return file;
}

TEST_CASE("the jagged cosine equals ReLoRA's at every step") {
  const SafetensorsFile& golden = golden_file();
  int compared = 0;
  for (; golden.contains(str("schedule", compared, ".settings")); ++compared) {
    const auto s = read_doubles(golden, str("schedule", compared, ".settings"));
    const auto whole = [&](size_t i) { return static_cast<int64_t>(s[i]); };
    const CosineRestarts schedule{.total = whole(0),
                                  .cycle = whole(1),
                                  .warmup = whole(2),
                                  .restart_warmup = whole(3),
                                  .min_ratio = s[4],
                                  .adjust = whole(5)};
    const auto factors = read_doubles(golden, str("schedule", compared, ".factors"));
    REQUIRE(static_cast<int64_t>(factors.size()) == schedule.total);
    for (size_t step = 0; step < factors.size(); ++step) {
      INFO("settings " << compared << ", step " << step);
      CHECK(std::fabs(schedule.factor(static_cast<int64_t>(step)) - factors[step]) < 1e-15);
    }
  }
  CHECK(compared == 11);
}

void check_pruning(const std::string& kind, const std::string& ratio, DType type) {
  const SafetensorsFile& golden = golden_file();
  const std::string suffix = type == DType::f32 ? ".f32." : ".f64.";
  for (const char* moment : {"exp_avg.", "exp_avg_sq."}) {
    for (const char* name : {"a", "b", "c", "d", "e"}) {
      const std::string tensor = std::string(moment) + name;
      INFO(kind << " " << ratio << suffix << tensor);
      const OwnedTensor found = read_tensor(golden, "moments" + suffix + tensor, type);
      const Random random(20240520, Purpose::restart, stream_of(tensor));
      if (kind == "random") prune_randomly(found.view(), std::stod(ratio), random);
      if (kind == "magnitude") prune_by_magnitude(found.view(), std::stod(ratio));
      CHECK(relative_error(found.view(),
                           read_doubles(golden, str(kind, ".", ratio, suffix, tensor))) == 0);
    }
  }
}

TEST_CASE("moments are pruned as by ReLoRA's optimizer_reset, to the last entry") {
  for (const DType type : {DType::f32, DType::f64}) {
    for (const char* ratio : {"0.9", "0.8", "0.999", "0.5", "0.01"})
      check_pruning("magnitude", ratio, type);
    for (const char* ratio : {"0.999", "0.5", "0.1"}) check_pruning("random", ratio, type);
  }
}

// ---- Whole runs.

struct Case {
  std::string name;
  AdapterConfig adapter;
  RestartConfig restart;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* name :
       {"relora", "relora_full", "remora_two", "remora_four", "remora_late", "remora_saved"}) {
    Case c{name, {}, {.merge_steps = 5}};
    c.adapter.method = c.name.starts_with("remora") ? "mora" : "lora";
    c.adapter.r = 4;
    c.adapter.lora_alpha = 8;
    if (c.name == "relora" || c.name == "remora_late") {
      c.restart.merge_at = "after_first_step";
      c.restart.optimizer_reset = c.name == "relora" ? "none" : "magnitude";
      c.restart.pruning_ratio = 0.437;
    }
    if (c.name == "remora_four") c.restart.regroup = "four";
    if (c.name == "remora_late") c.adapter.grouping = "contiguous";
    if (c.name == "remora_saved") c.adapter.modules_to_save = {"embed_tokens", "lm_head", "norm"};
    all.push_back(std::move(c));
  }
  return all;
}

// LoRA's A after so many merges as the golden run drew it.
void read_draws(const ParameterStore& store, int64_t merges) {
  int read = 0;
  for (const Parameter& p : store.all()) {
    if (!p.name.ends_with("lora_A.weight")) continue;
    golden_file().read(str("draw", merges, ".", p.name), p.value);
    ++read;
  }
  CHECK(read == 14);
}

void check_finals(const Case& c, const ParameterStore& store) {
  const std::string prefix = c.name + ".final.";
  int compared = 0;
  for (const auto& entry : golden_file().tensors()) {
    const std::string& name = entry.first;
    if (!name.starts_with(prefix)) continue;
    INFO(name);
    const Parameter& p = find(store, name.substr(prefix.size()));
    CHECK(relative_error(p.value, read_doubles(golden_file(), name)) < 1e-5);
    ++compared;
  }
  CHECK(compared >= 4);
}

void check_run(const Case& c, DType working) {
  const StepData data(golden_file());
  const InOrder ordered(data, 42);
  LoadedModel loaded(
      golden_folder() / "llama_untied", Training::frozen,
      [&](ParameterStore& store, Llama& model) {
        attach_adapters(c.adapter, store, model.linears());
        train_saved_modules(c.adapter, store);
        count_adapter_steps_apart(store);
      },
      0, working);
  initialise_adapters(loaded.store, 1, loaded.model.linears());
  const bool lora = c.adapter.method == "lora";
  if (lora) read_draws(loaded.store, 0);
  TrainConfig config = golden_training();
  config.lr_scheduler_type = "cosine_restarts";
  config.warmup_steps = 3;
  config.cycle_length = 5;
  config.restart_warmup_steps = 2;
  if (c.restart.optimizer_reset == "magnitude") config.adam_epsilon = 1e-3;
  Restarts restarts(c.restart, c.adapter, 42, loaded.store, loaded.model.linears());
  const auto backend = make_cpu_backend();
  Workspace workspace;
  Trainer trainer(loaded.model, loaded.store, ordered, config, 42, *backend, workspace, &restarts);
  const auto losses = read_doubles(golden_file(), c.name + ".losses"),
             norms = read_doubles(golden_file(), c.name + ".grad_norm");
  for (size_t s = 0; s < 20; ++s) {
    const int64_t merges = restarts.merges();
    const StepMetrics m = trainer.step();
    INFO("step " << m.step);
    CHECK(m.loss == doctest::Approx(losses[s]).epsilon(1e-5));
    CHECK(m.grad_norm == doctest::Approx(norms[s]).epsilon(1e-5));
    if (lora && restarts.merges() > merges) read_draws(loaded.store, restarts.merges());
  }
  CHECK(restarts.merges() == 3);
  if (working == DType::f64) check_finals(c, loaded.store);
}

// Rounding decides which moments are pruned: torch's own float32 run leaves its float64 run by
// 2e-4.
TEST_CASE("20 steps over three merges equal PyTorch's") {
  for (const Case& c : cases()) {
    for (const DType working : {DType::f32, DType::f64}) {
      INFO(c.name << " in " << (working == DType::f32 ? "f32" : "f64"));
      check_run(c, working);
    }
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
