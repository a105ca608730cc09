// Parity with PyTorch + transformers + PEFT + the authors' MoRA code, by numbers that
// tests/golden/make_goldens.py computed in float64: logits, loss, every gradient, greedy
// generation, 20 optimizer steps of every method, schedules.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "backend_under_test.hpp"
#include "golden.hpp"
#include "golden_training.hpp"
#include "model_parity.hpp"
#include "mora/adapters/adapters.hpp"
#include "mora/eval/generator.hpp"
#include "mora/train/schedule.hpp"
#include "mora/train/trainer.hpp"
#include "train/step_graph.hpp"

TEST_SUITE_BEGIN("parity");

namespace mora::testing {
namespace {

void check_model(const std::string& name, MatmulProvider provider) {
  const auto folder = golden_folder() / name;
  const SafetensorsFile golden(folder / "golden.safetensors");
  const auto ids = read_ints(golden, "input_ids"), lengths = read_ints(golden, "segment_lengths");
  LoadedModel loaded(folder, Training::trained, {}, std::ranges::max(lengths));
  const Sequences sequences(ids, read_ints(golden, "labels"), lengths);
  const int64_t used = static_cast<int64_t>(ids.size()),
                capacity = used + 3;  // with unused slots at the end
  const Batch batch = pack(sequences.pointers(), capacity);
  MicroGraph micro(loaded.model, loaded.store, capacity, 0);
  micro.batch.fill(batch, 1.0 / batch.weight_sum);
  const auto backend = backend_under_test(provider);
  Workspace workspace;
  Plan plan(micro.graph, std::array{micro.loss}, *backend, workspace);
  plan.run();
  CHECK(plan[micro.loss].as<float>()[0] ==
        doctest::Approx(read_doubles(golden, "loss")[0]).epsilon(1e-5));
  for (const Parameter& p : loaded.store.all()) {
    INFO(p.name);
    CHECK(relative_error(p.grad, read_doubles(golden, "grad." + p.name)) < 1e-5);
  }

  BatchTensors tensors(used, DType::f32);
  tensors.fill(pack(sequences.pointers(), used), 1.0);
  Graph graph;
  Context context(graph);
  const Var h = loaded.model.hidden(
      context, graph.bind(tensors.tokens.view(), "tokens"),
      graph.bind(tensors.positions.view(), "positions"),
      loaded.model.packed_attention(graph.bind(tensors.segment_start.view(), "start")));
  const Var logits = matmul(h, loaded.model.output_weight(context), {.tb = Transpose::yes});
  Plan logits_plan(graph, std::array{logits}, *backend, workspace);
  logits_plan.run();
  CHECK(relative_error(logits_plan[logits], read_doubles(golden, "logits")) < 1e-5);
}

TEST_CASE("logits, loss and every gradient equal transformers'") {
  for (const char* name : {"llama_untied", "llama_tied", "llama_llama3", "llama_linear",
                           "llama_dynamic", "llama_bias"}) {
    for (const auto provider : {MatmulProvider::automatic, MatmulProvider::eigen}) {
      INFO(name << " provider " << static_cast<int>(provider));
      check_model(name, provider);
    }
  }
}

TEST_CASE("greedy generation equals transformers', alone and beside other prompts") {
  for (const char* name :
       {"llama_untied", "llama_tied", "llama_llama3", "llama_linear", "llama_bias"}) {
    INFO(name);
    const auto folder = golden_folder() / name;
    const SafetensorsFile golden(folder / "golden.safetensors");
    LoadedModel loaded(folder, Training::frozen);
    const auto backend = backend_under_test();
    Workspace workspace;
    Generator generator(loaded.model, loaded.store, {.batch_size = 3, .capacity = 32}, *backend,
                        workspace);
    const auto prompt = read_ints(golden, "greedy.prompt"),
               expected = read_ints(golden, "greedy.continuation");
    const std::vector<std::vector<int32_t>> prompts = {
        prompt, {1}, {5, 6, 7, 8, 9, 10, 11}, prompt, prompt};
    const auto out = generator.generate(prompts, {.max_new_tokens = 16});
    REQUIRE(out.size() == prompts.size());
    for (const size_t i : {0, 3, 4}) CHECK(out[i] == expected);
  }
}

struct Method {
  std::string name;
  AdapterConfig adapter;
};

AdapterConfig adapter(const std::string& method, const std::string& operation,
                      const std::string& grouping) {
  AdapterConfig c;
  c.method = method;
  c.r = 4;
  c.lora_alpha = 8;
  c.operation = operation;
  c.grouping = grouping;
  return c;
}

std::vector<Method> methods() {
  std::vector<Method> all = {
      {"full", adapter("full", "", "")},
      {"lora", adapter("lora", "", "")},
      {"rslora", adapter("lora", "", "")},
      {"mora_sharing_strided", adapter("mora", "sharing", "strided")},
      {"mora_sharing_contiguous", adapter("mora", "sharing", "contiguous")},
      {"mora_sharing_contiguous_strided", adapter("mora", "sharing", "contiguous_strided")},
      {"mora_sharing_strided_contiguous", adapter("mora", "sharing", "strided_contiguous")},
      {"mora_rotation", adapter("mora", "rotation", "")},
      {"mora_decoupling", adapter("mora", "decoupling", "")},
      {"mora_truncation", adapter("mora", "truncation", "")}};
  all[2].adapter.use_rslora = true;
  return all;
}

TEST_CASE("20 AdamW steps of every method equal PyTorch's") {
  const SafetensorsFile golden(golden_folder() / "training.safetensors");
  const StepData data(golden);
  const InOrder ordered(data, 42);
  const auto lr = read_doubles(golden, "lr");
  for (const Method& method : methods()) {
    INFO(method.name);
    LoadedModel loaded(golden_folder() / "llama_untied",
                       method.adapter.method == "full" ? Training::trained : Training::frozen,
                       [&](ParameterStore& store, Llama& model) {
                         if (method.adapter.method != "full")
                           attach_adapters(method.adapter, store, model.linears());
                       });
    for (const Parameter& p : loaded.store.all()) {
      if (p.name.ends_with("lora_A.weight") && method.adapter.method == "lora") {
        golden.read(method.name + ".init." + p.name.substr(0, p.name.size() - 7), p.value);
      }
    }
    const auto backend = backend_under_test();
    Workspace workspace;
    Trainer trainer(loaded.model, loaded.store, ordered, golden_training(), 42, *backend,
                    workspace);
    const auto losses = read_doubles(golden, method.name + ".losses");
    const auto norms = read_doubles(golden, method.name + ".grad_norm");
    for (size_t s = 0; s < 20; ++s) {
      const StepMetrics m = trainer.step();
      INFO("step " << m.step);
      CHECK(m.loss == doctest::Approx(losses[s]).epsilon(1e-5));
      CHECK(m.grad_norm == doctest::Approx(norms[s]).epsilon(1e-5));
      CHECK(m.learning_rate == doctest::Approx(lr[s]).epsilon(1e-12));
    }
    const std::string prefix = method.name + ".final.";
    int compared = 0;
    for (const auto& entry : golden.tensors()) {
      const std::string& name = entry.first;
      if (!name.starts_with(prefix)) continue;
      const std::string tail = name.substr(prefix.size());
      const Parameter& p = find(loaded.store, tail.ends_with(".weight") ? tail : tail + ".weight");
      INFO(name);
      CHECK(relative_error(p.value, read_doubles(golden, name)) < 5e-5);
      ++compared;
    }
    CHECK(compared == (method.adapter.method == "lora" ? 4 : 2));
  }
}

TEST_CASE("the embedded model computes what transformers does") {
  const ModelParity p = compare_with_golden(std::filesystem::path(MORA_SOURCE_DIR) / "data/base",
                                            golden_folder() / "model_base.safetensors");
  CHECK(p.tokens == 256);
  CHECK(p.logits_error < 1e-5);
  CHECK(p.continuation == 64);
  CHECK(p.equal == 64);
}

TEST_CASE("delta and merged weight equal the authors' get_delta_weight") {
  const SafetensorsFile golden(golden_folder() / "deltas.safetensors");
  const std::map<std::string, AdapterConfig> kinds = {
      {"type1", adapter("mora", "sharing", "strided")},
      {"type2", adapter("mora", "sharing", "contiguous")},
      {"type3", adapter("mora", "sharing", "contiguous_strided")},
      {"type4", adapter("mora", "sharing", "strided_contiguous")},
      {"type6", adapter("mora", "rotation", "")},
      {"decoupling", adapter("mora", "decoupling", "")},
      {"truncation", adapter("mora", "truncation", "")}};
  std::map<std::string, int> compared;
  for (int i = 0; golden.contains(str("case", i, ".shape")); ++i) {
    const auto shape = read_ints(golden, str("case", i, ".shape"));
    for (const auto& [kind, settings] : kinds) {
      const std::string name = str("case", i, ".", kind);
      if (!golden.contains(name + ".M")) continue;
      INFO(name << " in " << shape[0] << " out " << shape[1] << " r " << shape[2]);
      AdapterConfig config = settings;
      config.r = shape[2];
      ParameterStore store(DType::f64, DType::f64);
      Linear linear(Scope(store, "layer"), shape[0], shape[1], {}, Training::frozen);
      linear.attach(make_adapter(config, Scope(store, "layer"), shape[0], shape[1]));
      store.allocate();
      golden.read(name + ".M", find(store, "layer.lora_A.weight").value);
      golden.read(str("case", i, ".W"), linear.weight().value);
      OwnedTensor delta({DType::f64, {shape[1], shape[0]}});
      delta_weight(linear, delta.view());
      CHECK(relative_error(delta.view(), read_doubles(golden, name + ".delta")) < 1e-6);
      const auto w = linear.weight().value.as<double>();
      for (size_t j = 0; j < w.size(); ++j) delta.as<double>()[j] += w[j];
      CHECK(relative_error(delta.view(), read_doubles(golden, name + ".merged")) < 1e-6);
      ++compared[kind];
    }
  }
  for (const auto& entry : kinds) {
    const std::string& kind = entry.first;
    INFO(kind);
    CHECK(compared[kind] >= 11);
  }
}

TEST_CASE("schedules equal transformers' get_scheduler") {
  const SafetensorsFile golden(golden_folder() / "schedules.safetensors");
  CHECK(golden.tensors().size() == 6);
  for (const auto& entry : golden.tensors()) {
    const std::string& name = entry.first;
    INFO(name);
    const auto factors = read_doubles(golden, name);
    const std::string type = name.substr(0, name.find('.'));
    const int64_t warmup = name.ends_with("warmup7") ? 7 : 0;
    for (int64_t s = 0; s <= 100; ++s) {
      CHECK(schedule_factor(type, s, warmup, 100) ==
            doctest::Approx(factors[static_cast<size_t>(s)]).epsilon(1e-12));
    }
  }
}

TEST_CASE("AdamW equals torch.optim.AdamW") {
  const SafetensorsFile golden(golden_folder() / "adamw.safetensors");
  const OwnedTensor p = read_tensor(golden, "initial", DType::f32),
                    grads = read_tensor(golden, "grads", DType::f32);
  const OwnedTensor m({DType::f32, {37}}), v({DType::f32, {37}}), g({DType::f32, {37}}),
      hyper({DType::f64, {3}});
  Graph graph;
  auto bind = [&](const OwnedTensor& t) { return graph.bind(t.view(), "t"); };
  const Var gradients = bind(g);
  adamw({bind(p), gradients, bind(m), bind(v)}, squared_norm(gradients), bind(hyper),
        {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1, .max_grad_norm = 0});
  const auto backend = backend_under_test();
  Workspace workspace;
  Plan plan(graph, {}, *backend, workspace);
  const auto expected = read_doubles(golden, "params_f64");
  for (size_t s = 0; s < 5; ++s) {
    for (size_t i = 0; i < 37; ++i) g.as<float>()[i] = grads.as<float>()[s * 37 + i];
    const double t = static_cast<double>(s + 1);
    hyper.as<double>()[0] = 1e-2;
    hyper.as<double>()[1] = 1 - std::pow(0.9, t);
    hyper.as<double>()[2] = 1 - std::pow(0.999, t);
    plan.run();
    for (size_t i = 0; i < 37; ++i)
      CHECK(std::fabs(p.as<float>()[i] - expected[s * 37 + i]) < 1e-6);
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
