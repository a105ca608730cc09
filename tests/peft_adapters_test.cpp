// Adapter folders of stock PEFT and of the MoRA authors' fork: whatever they write is applied as
// they apply it, or refused by name.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "backend_under_test.hpp"
#include "golden.hpp"
#include "io/json.hpp"
#include "mora/adapters/adapters.hpp"
#include "mora/adapters/files.hpp"
#include "mora/adapters/lora_export.hpp"
#include "mora/eval/logits.hpp"
#include "mora/io/file.hpp"
#include "mora/report/inspect.hpp"
#include "temporary_folder.hpp"

namespace mora::testing {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kConfig = ".config";

// One case of a golden file as the folder that PEFT wrote.
struct Case {
  TemporaryFolder folder;
  std::deque<OwnedTensor> memory;
  std::vector<NamedTensor> tensors;
  Json config;

  Case(const SafetensorsFile& goldens, const std::string& name) {
    const std::string begin = name + ".tensors.";
    for (const auto& [key, info] : goldens.tensors()) {
      if (!key.starts_with(begin)) continue;
      const DType dtype = info.dtype == "BF16"  ? DType::bf16
                          : info.dtype == "F16" ? DType::f16
                                                : DType::f32;
      memory.push_back(read_tensor(goldens, key, dtype));
      tensors.push_back({key.substr(begin.size()), memory.back().view()});
    }
    config = parse_json(goldens.metadata().at(name + std::string(kConfig)), name);
  }

  void add(const std::string& name, std::vector<int64_t> shape) {
    memory.emplace_back(Type{DType::f32, Shape(std::span<const int64_t>(shape))});
    tensors.push_back({name, memory.back().view()});
  }
  NamedTensor& find(const std::string& name) {
    return *std::ranges::find(tensors, name, &NamedTensor::name);
  }
  void write() const {
    write_file_atomically(folder / "adapter_config.json", dump_json(config));
    write_safetensors(folder / "adapter_model.safetensors", tensors);
  }
};

std::vector<std::string> names(const SafetensorsFile& goldens) {
  std::vector<std::string> found;
  for (const auto& [key, value] : goldens.metadata()) {
    if (key.ends_with(kConfig)) found.push_back(key.substr(0, key.size() - kConfig.size()));
  }
  return found;
}

// The model with the folder's adapter.
struct Adapted {
  ParameterStore store;
  Llama model;

  Adapted(const fs::path& base, const fs::path& adapter, DType frozen_matrices = DType::f32)
      : store(DType::f32, frozen_matrices),
        model(read_llama_config(base / "config.json"), store, Training::frozen) {
    attach_adapters(read_adapter_config(adapter), store, model.linears());
    store.allocate();
    load_weights(store, model.config(), base);
    load_adapter(adapter, store);
  }
};

const char* const kBase = "llama_adapters";
constexpr int64_t kLargestRank = 43;  // of its matrices

void check_goldens(const std::string& file, double tolerance) {
  const SafetensorsFile goldens(golden_folder() / file);
  const std::vector<int32_t> ids = read_ints(goldens, "input_ids");
  const auto backend = backend_under_test(MatmulProvider::automatic);
  int count = 0;
  for (const std::string& name : names(goldens)) {
    INFO(file << ": " << name);
    const Case each(goldens, name);
    each.write();
    const auto error = [&](const fs::path& adapter) {
      const Adapted adapted(golden_folder() / kBase, adapter);
      const OwnedTensor logits = sequence_logits(adapted.model, adapted.store, ids, *backend);
      return relative_error(logits.view(), read_doubles(goldens, name + ".logits"));
    };
    CHECK(error(each.folder.path()) < tolerance);
    ++count;
    const AdapterFolder folder(each.folder.path(), golden_folder() / kBase);
    // The LoRA that is made of it is the same function, and has all that it replaces; updates of
    // full rank need a LoRA of that rank.
    const bool full_rank = folder.config().operation == "rotation" || folder.config().use_dora;
    fs::create_directory(each.folder / "lora");
    save_lora(each.folder / "lora", folder, each.folder.path(),
              lora_layers(folder, full_rank ? kLargestRank : 0));
    CHECK(error(each.folder / "lora") < tolerance);
  }
  CHECK(count >= 14);
}

std::string refusal(const Case& changed, const std::string& base = kBase) {
  changed.write();
  return message_of(ErrorKind::data,
                    [&] { Adapted adapted(golden_folder() / base, changed.folder.path()); });
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE_BEGIN("peft_adapters");

TEST_CASE("stock PEFT's adapters give its logits") {
  check_goldens("adapters_peft.safetensors", 1e-5);
}

TEST_CASE("the authors' fork's adapters give its logits, MoRA of every type") {
  check_goldens("adapters_fork.safetensors", 1e-5);
}

TEST_CASE("configurations are understood, or refused by key") {
  const SafetensorsFile goldens(golden_folder() / "adapters_peft.safetensors");
  struct Bad {
    std::string key;
    Json value;
    std::string part;
  };
  const Json list = Json::array();
  const std::vector<Bad> cases = {
      {"peft_type", "LOHA", "LORA"},
      {"peft_type", nullptr, "peft_type"},
      {"r", 0, "between 1 and 65536"},
      {"r", -1, "between 1 and 65536"},
      {"r", 65537, "between 1 and 65536"},
      {"r", 2.5, "/r"},
      {"r", 1e300, "/r"},
      {"r", "2", "/r"},
      {"r", true, "/r"},
      {"r", 3, "wrong shape"},
      {"lora_alpha", "3", "/lora_alpha"},
      {"lora_alpha", list, "/lora_alpha"},
      {"lora_dropout", 1.0, "/lora_dropout"},
      {"lora_dropout", -0.1, "/lora_dropout"},
      {"use_rslora", 1, "/use_rslora"},
      {"use_dora", true, "missing: base_model.model.model.layers.0.mlp.down_proj.lora_magnitude"},
      {"use_dora", 1, "/use_dora"},
      {"use_mora", "yes", "/use_mora"},
      {"use_mora", true, "adapter_model.safetensors"},
      {"bias", "all", "/bias"},
      {"bias", "lora_only", "/bias"},
      {"bias", 1, "/bias"},
      {"fan_in_fan_out", true, "/fan_in_fan_out"},
      {"lora_bias", true, "/lora_bias"},
      {"use_qalora", true, "/use_qalora"},
      {"use_bdlora", Json({{"x", 1}}), "/use_bdlora"},
      {"target_parameters", Json::array({"experts"}), "/target_parameters"},
      {"trainable_token_indices", Json::array({3}), "/trainable_token_indices"},
      {"alora_invocation_tokens", Json::array({3}), "/alora_invocation_tokens"},
      {"layer_replication", Json::array({Json::array({0, 2})}), "/layer_replication"},
      {"megatron_config", Json({{"a", 1}}), "/megatron_config"},
      {"init_lora_weights", "pissa_niter_4", "pissa"},
      {"init_lora_weights", "olora", "olora"},
      {"init_lora_weights", "corda", "corda"},
      {"init_lora_weights", "loftq", "loftq"},
      {"init_lora_weights", 3, "/init_lora_weights"},
      {"something_new", 5, "something_new"},
      {"something_new", true, "something_new"},
      {"target_modules", nullptr, "target_modules"},
      {"target_modules", list, "names no module"},
      {"target_modules", Json::array({1}), "/target_modules"},
      {"target_modules", 7, "/target_modules"},
      {"target_modules", "(", "does not compile"},
      {"target_modules", "a{,3}", "not supported"},
      {"target_modules", "\\p{L}+", "not supported"},
      {"target_modules", "(?R)", "not supported"},
      {"target_modules", ".*nothing", "no linear layer"},
      {"target_modules", "(([a-z.0-9_]+)+)+[A-Z]", "limit"},
      {"target_modules", Json::array({"q_proj", "lm_head"}), "lm_head"},
      {"target_modules", Json::array({"embed_tokens"}), "embed_tokens"},
      {"target_modules", Json::array({"q_proj"}), "unexpected"},
      {"exclude_modules", Json::array({"q_proj"}), "unexpected"},
      {"exclude_modules", "(q", "does not compile"},
      {"exclude_modules", 1, "/exclude_modules"},
      {"layers_to_transform", Json::array({0}), "unexpected"},
      {"layers_to_transform", Json::array({"0"}), "/layers_to_transform"},
      {"layers_to_transform", 1.5, "/layers_to_transform"},
      {"layers_pattern", "layers", "layers_to_transform"},
      {"rank_pattern", Json({{"q_proj", 0}}), "/rank_pattern"},
      {"rank_pattern", Json({{"q_proj", "4"}}), "/rank_pattern"},
      {"rank_pattern", Json({{"q_proj", 4}}), "wrong shape"},
      {"rank_pattern", Json({{"(", 4}}), "/rank_pattern"},
      {"rank_pattern", list, "/rank_pattern"},
      {"alpha_pattern", Json({{"q_proj", nullptr}}), "/alpha_pattern"},
      {"alpha_pattern", Json({{"[", 1}}), "/alpha_pattern"},
      {"modules_to_save", Json::array({"lm_head"}), "missing"},
      {"modules_to_save", Json::array({"norm"}), "missing: base_model.model.model.layers.1.input_"},
      {"modules_to_save", Json::array({"0.mlp"}),
       "missing: base_model.model.model.layers.0.mlp.up_"},
      {"modules_to_save", Json::array({"proj"}), "missing"},
      {"modules_to_save", Json::array({""}), "/modules_to_save"},
      {"modules_to_save", Json::array({"("}), "does not compile"},
      {"modules_to_save", "lm_head", "/modules_to_save"},
      {"base_model_name_or_path", 3, "/base_model_name_or_path"},
      {"target_modules", "a{2, 3}", "not supported"},
  };
  CHECK(cases.size() > 65);
  for (const Bad& bad : cases) {
    INFO(bad.key << ": " << bad.value.dump());
    Case each(goldens, "plain");
    each.config[bad.key] = bad.value;
    const std::string message = refusal(each);
    CHECK_MESSAGE(has(message, bad.part), message);
    CHECK(has(message, each.folder.path().string()));
    if (!has(message, "does not fit the model")) CHECK(!has(message, "\n"));
  }
  for (const auto& entry :
       std::initializer_list<std::pair<const char*, Json>>{{"something_new", false},
                                                           {"something_new", nullptr},
                                                           {"use_dora", false},
                                                           {"megatron_config", nullptr},
                                                           {"loftq_config", Json::object()},
                                                           {"init_lora_weights", "gaussian"},
                                                           {"peft_version", "9.9"},
                                                           {"exclude_modules", "nothing.*"}}) {
    INFO(entry.first);
    Case each(goldens, "plain");
    each.config[entry.first] = entry.second;
    each.write();
    CHECK_NOTHROW(Adapted(golden_folder() / kBase, each.folder.path()));
  }
}

TEST_CASE("tensors that do not fit are listed, with what they are") {
  const SafetensorsFile goldens(golden_folder() / "adapters_peft.safetensors");
  const std::string q = "base_model.model.model.layers.0.self_attn.q_proj";
  const auto with = [&](const std::string& name, std::vector<int64_t> shape) {
    Case each(goldens, "plain");
    each.add(name, std::move(shape));
    return refusal(each);
  };
  CHECK(has(with(q + ".lora_magnitude_vector", {24}), "DoRA"));
  CHECK(has(with(q + ".lora_B.bias", {24}), "biases"));
  CHECK(has(with(q + ".weight", {24, 24}), "unexpected: " + q + ".weight"));
  CHECK(has(with("base_model.model.model.embed_tokens.lora_embedding_A", {2, 37}), "embedding"));
  CHECK(has(with("base_model.model.lm_head.lora_A.weight", {2, 24}), "lm_head"));
  CHECK(has(with("base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight", {2, 24}),
            "unexpected"));
  CHECK(has(with("base_model.model.lm_head.weight", {38, 24}), "wrong shape"));
  Case each(goldens, "plain");
  each.find(q + ".lora_A.weight").tensor.as<float>()[3] = INFINITY;
  CHECK(has(refusal(each), "not finite"));
  Case lost(goldens, "plain");
  std::erase_if(lost.tensors, [&](const NamedTensor& t) { return t.name == q + ".lora_B.weight"; });
  CHECK(has(refusal(lost), "missing: " + q + ".lora_B.weight"));
  const Case pickle(goldens, "plain");
  pickle.write();
  fs::rename(pickle.folder / "adapter_model.safetensors", pickle.folder / "adapter_model.bin");
  CHECK(has(message_of(ErrorKind::data, [&] { read_adapter_config(pickle.folder.path()); }),
            "pickle"));
}

TEST_CASE("a folder is read without its model, with what it replaces") {
  const SafetensorsFile goldens(golden_folder() / "adapters_peft.safetensors");
  const fs::path base = golden_folder() / kBase;
  Case each(goldens, "saved_output");
  each.write();
  for (const fs::path& model : {fs::path(), base}) {
    const AdapterFolder folder(each.folder.path(), model);
    CHECK(folder.layers().size() == 2);
    CHECK(folder.replaced() ==
          std::vector<std::string>{"lm_head.weight", "model.embed_tokens.weight"});
    const Inspection report =
        inspect({.path = each.folder.path(), .other = {}, .model = model, .top = 1});
    CHECK(has(report.text, "in place of the base's: lm_head.weight model.embed_tokens.weight"));
    CHECK(has(report.text, "model.layers.1.self_attn.q_proj"));
  }
  const auto problem = [&](Case& changed, const fs::path& model) {
    changed.write();
    return message_of(ErrorKind::data, [&] { AdapterFolder(changed.folder.path(), model); });
  };
  each.add("base_model.model.model.norm.weight", {23});
  CHECK(has(problem(each, base), "norm.weight"));
  std::vector<StoredTensor> stored_tensors;
  for (const NamedTensor& t : each.tensors) stored_tensors.push_back(stored(t));
  stored_tensors.back().shape = {23, 1, 1, 1, 1};
  write_safetensors(each.folder / "adapter_model.safetensors",
                    std::span<const StoredTensor>(stored_tensors));
  CHECK(has(message_of(ErrorKind::data, [&] { AdapterFolder(each.folder.path(), ""); }),
            "norm.weight"));
  Case lost(goldens, "plain");
  const std::string v = "base_model.model.model.layers.0.self_attn.v_proj.lora_";
  std::erase_if(lost.tensors, [&](const NamedTensor& t) { return t.name.starts_with(v); });
  CHECK(has(problem(lost, base), v));
  lost.add("base_model.model.lm_head.lora_A.weight", {2, 24});
  lost.add("base_model.model.lm_head.lora_B.weight", {37, 2});
  CHECK(has(problem(lost, ""), "lm_head"));
}

TEST_CASE("what an adapter replaces is not rounded to the type of the base's matrices") {
  const SafetensorsFile goldens(golden_folder() / "adapters_peft.safetensors");
  for (const char* name : {"saved_output", "saved_layer", "saved_block"}) {
    INFO(name);
    Case each(goldens, name);
    each.write();
    Adapted adapted(golden_folder() / kBase, each.folder.path(), DType::bf16);
    const SafetensorsFile file(each.folder / "adapter_model.safetensors");
    int replaced = 0, narrow = 0;
    for (const Parameter& p : adapted.store.all()) {
      narrow += p.value.dtype() == DType::bf16;
      if (is_adapter_parameter(p) || !file.contains(adapter_tensor_name(p.name))) continue;
      ++replaced;
      REQUIRE(p.value.dtype() == DType::f32);
      const OwnedTensor expected = read_tensor(file, adapter_tensor_name(p.name), DType::f32);
      CHECK(std::ranges::equal(p.value.as<float>(), expected.as<float>()));
    }
    CHECK(replaced > 0);
    CHECK(narrow > 10);
    const auto backend = backend_under_test(MatmulProvider::automatic);
    const OwnedTensor logits =
        sequence_logits(adapted.model, adapted.store, read_ints(goldens, "input_ids"), *backend);
    CHECK(relative_error(logits.view(), read_doubles(goldens, name + std::string(".logits"))) <
          0.02);
  }
}

TEST_CASE("an embedding that is also the output is not replaced") {
  const SafetensorsFile goldens(golden_folder() / "adapters_fork.safetensors");
  Case each(goldens, "lora");
  each.config["modules_to_save"] = Json::array({"embed_tokens"});
  each.add("base_model.model.model.embed_tokens.weight", {101, 48});
  CHECK(has(refusal(each, "llama_tied"), "also the model's output"));
}

TEST_SUITE_END();

}  // namespace mora::testing
