#include "mora/adapters/files.hpp"

#include <algorithm>
#include <charconv>
#include <deque>
#include <set>

#include "adapters/module_rules.hpp"
#include "adapters/mora_types.hpp"
#include "adapters/peft_layout.hpp"
#include "adapters/saved_modules.hpp"
#include "io/json.hpp"
#include "mora/adapters/low_rank.hpp"
#include "mora/io/file.hpp"
#include "mora/io/safetensors.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace fs = std::filesystem;

using adapters::kA;
using adapters::kB;
using adapters::kPrefix;

nlohmann::json adapters::peft_config(const AdapterConfig& c, const std::string& base_model) {
  const bool mora = c.method == "mora";
  nlohmann::json json;
  json["alpha_pattern"] = nlohmann::json::object();
  json["auto_mapping"] = nullptr;
  json["base_model_name_or_path"] = base_model;
  json["bias"] = "none";
  json["fan_in_fan_out"] = false;
  json["inference_mode"] = true;
  json["init_lora_weights"] = true;
  if (c.init_lora_weights == "gaussian") json["init_lora_weights"] = c.init_lora_weights;
  json["layers_pattern"] = nullptr;
  json["layers_to_transform"] = nullptr;
  json["loftq_config"] = nlohmann::json::object();
  json["lora_alpha"] = c.lora_alpha;
  json["lora_dropout"] = c.lora_dropout;
  json["megatron_config"] = nullptr;
  json["megatron_core"] = "megatron.core";
  json["modules_to_save"] = nullptr;
  if (!c.modules_to_save.empty()) json["modules_to_save"] = c.modules_to_save;
  json["peft_type"] = "LORA";
  json["r"] = c.r;
  json["rank_pattern"] = nlohmann::json::object();
  json["revision"] = nullptr;
  json["target_modules"] = c.target_modules;
  json["task_type"] = "CAUSAL_LM";
  json["use_dora"] = c.use_dora;
  json["use_rslora"] = !mora && c.use_rslora;
  if (mora) {
    json["mora_type"] = adapters::mora_type_number(c);
    json["use_mora"] = true;
    // The fork stops at a key that it does not know, before it merges something else.
    if (adapters::mora_type_number(c) == 0) json["mora_operator"] = c.operation;
  }
  return json;
}

namespace {

constexpr const char* kMerge = "; merge the adapter with PEFT and use the merged model";

// The text that reads as the same number.
std::string shortest(double number) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

std::map<std::string, std::string> metadata(const AdapterConfig& c, const AdapterBase& base) {
  std::map<std::string, std::string> data = {{"mora.method", c.method}};
  if (!base.sha256.empty()) data[adapters::kBaseHash] = base.sha256;
  if (!base.sample.empty()) data[adapters::kBaseSample] = base.sample;
  if (base.merges > 0) data[adapters::kMerges] = std::to_string(base.merges);
  if (c.method != "mora") return data;
  data["mora.operator"] = c.operation;
  if (c.operation == "sharing") data["mora.grouping"] = c.grouping;
  if (adapters::is_random(c)) data[adapters::kGroupingSeed] = std::to_string(c.grouping_seed);
  if (c.cover != "used") data[adapters::kCover] = c.cover;
  if (c.scale != 1) data[adapters::kScale] = shortest(c.scale);
  return data;
}

OwnedTensor times(const Tensor& tensor, double factor) {
  OwnedTensor wide({DType::f64, tensor.shape()}), result(tensor.type);
  convert(tensor, wide.view());
  for (double& x : wide.as<double>()) x *= factor;
  convert(wide.view(), result.view());
  return result;
}

}  // namespace

fs::path adapter_tensors(const fs::path& folder) {
  std::error_code none;
  fs::path file = folder / "adapter_model.safetensors";
  if (!fs::exists(file, none) && fs::exists(folder / "adapter_model.bin", none)) {
    fail(ErrorKind::data, folder.string(),
         ": holds adapter_model.bin, a pickle, which can run code and is not read; load and save "
         "the adapter with PEFT, which writes adapter_model.safetensors");
  }
  return file;
}

bool may_belong_to(const fs::path& adapter, const SafetensorsFolder& base) {
  const SafetensorsFile file(adapter_tensors(adapter));
  const auto noted = file.metadata().find(adapters::kBaseSample);
  return noted == file.metadata().end() || noted->second == tensors_sample_sha256(base);
}

std::string adapter_tensor_name(const std::string& parameter) {
  return str(kPrefix, parameter);
}

void save_adapter(const fs::path& folder, const AdapterConfig& run, const ParameterStore& store,
                  const AdapterBase& base, MoraScale scale) {
  ensure(run.file == AdapterFile{}, "an adapter that was read from files is not written again");
  AdapterConfig config = run;
  const bool mora = config.method == "mora";
  const bool folds = mora && scale == MoraScale::folded && config.scale != 1;
  std::deque<OwnedTensor> folded;
  std::vector<NamedTensor> tensors;
  for (const Parameter& p : store.all()) {
    const bool of_adapter = is_adapter_parameter(p);
    if (!of_adapter && p.training == Training::frozen) continue;
    Tensor value = p.value;
    if (of_adapter && folds) value = folded.emplace_back(times(p.value, config.scale)).view();
    const std::string name = adapter_tensor_name(p.name);
    tensors.push_back({name, value});
    if (of_adapter && mora)
      tensors.push_back(
          {str(std::string_view(name).substr(0, name.size() - kA.size()), kB), value});
  }
  if (folds) config.scale = 1;
  write_file_atomically(folder / "adapter_config.json",
                        dump_json(adapters::peft_config(config, base.name), 2) + "\n");
  write_safetensors(folder / "adapter_model.safetensors", tensors, metadata(config, base));
}

namespace {

bool is_real(const std::string& dtype) {
  return dtype == "F32" || dtype == "BF16" || dtype == "F16" || dtype == "F64";
}

std::string problem_of(const SafetensorsFile& file, const std::string& name, const Parameter& p) {
  if (!file.contains(name)) return str("\n  missing: ", name, " ", p.shape);
  const TensorInfo& info = file.info(name);
  if (!std::ranges::equal(info.shape, p.shape.dims())) {
    return str("\n  wrong shape: ", name, " is ", info,
               is_adapter_parameter(p) ? ", the model and rank ask for " : ", the model's is ",
               p.shape);
  }
  return is_real(info.dtype)
             ? ""
             : str("\n  wrong type: ", name, " is ", info, ", expected floating point");
}

// What stands in files that train something we have no place for.
std::string_view advice_for(std::string_view name) {
  if (name.ends_with(".lora_embedding_A") || name.ends_with(".lora_embedding_B"))
    return "LoRA on the embedding is not supported";
  if (name.starts_with(str(kPrefix, "lm_head.lora_"))) return "LoRA on lm_head is not supported";
  if (name.ends_with(adapters::kMagnitude)) return "DoRA where use_dora is not set";
  if (name.ends_with(".bias")) return "trained biases are not supported";
  return "";
}

// MoRA's lora_B stands in the file as a copy of lora_A; the authors' code applies the copy.
std::string problem_of_surplus(const SafetensorsFile& file, const std::string& name,
                               const std::set<std::string>& expected) {
  const std::string a =
      name.ends_with(kB) ? str(std::string_view(name).substr(0, name.size() - kB.size()), kA) : "";
  if (!expected.contains(a)) {
    const std::string_view advice = advice_for(name);
    return str("\n  unexpected: ", printable(name), " ", file.info(name),
               advice.empty() ? "" : str(": ", advice, kMerge));
  }
  if (file.contains(a) && !std::ranges::equal(file.bytes(a), file.bytes(name)))
    return str("\n  not the same as lora_A: ", name, ", of which MoRA has only one matrix");
  return "";
}

std::string module_of(const std::string& parameter) {
  return parameter.substr(0, parameter.rfind('.'));
}

// The layers that have an adapter.
std::set<std::string> adapted_modules(const ParameterStore& store) {
  std::set<std::string> modules;
  for (const Parameter& p : store.all()) {
    if (p.name.ends_with(kA)) modules.insert(p.name.substr(0, p.name.size() - kA.size()));
  }
  return modules;
}

void check_names(const SafetensorsFile& file, const AdapterConfig* config,
                 const ParameterStore& store) {
  std::string problems;
  std::set<std::string> expected;
  const std::set<std::string> adapted = adapted_modules(store);
  for (const Parameter& p : store.all()) {
    const std::string name = adapter_tensor_name(p.name);
    if (!is_adapter_parameter(p)) {
      const bool saved =
          config == nullptr ? p.training == Training::trained : adapters::is_saved(*config, name);
      if (!saved && !file.contains(name)) continue;
      if (!saved && adapted.contains(module_of(p.name))) continue;  // unexpected: PEFT ignores it
    }
    expected.insert(name);
    problems += problem_of(file, name, p);
    if (adapters::is_tied_embedding(store, p.name)) {
      problems += str("\n  unsupported: ", name,
                      " replaces an embedding that is also the model's output", kMerge);
    }
  }
  for (const auto& [name, info] : file.tensors()) {
    if (!expected.contains(name)) problems += problem_of_surplus(file, name, expected);
  }
  if (!problems.empty())
    fail(ErrorKind::data, file.path().string(), ": the adapter does not fit the model:", problems);
}

}  // namespace

void check_adapter(const AdapterConfig& config, const ParameterStore& store) {
  check_names(SafetensorsFile(adapter_tensors(config.file.folder)), &config, store);
}

void load_adapter(const fs::path& folder, ParameterStore& store, NonFinite non_finite) {
  const SafetensorsFile file(adapter_tensors(folder));
  check_names(file, nullptr, store);
  for (const Parameter& p : store.all()) {
    const std::string name = adapter_tensor_name(p.name);
    if (!file.contains(name) || !p.value) continue;
    file.read(name, p.value);
    if (non_finite == NonFinite::keep || is_finite(p.value)) continue;
    fail(ErrorKind::data, file.path().string(), ": tensor \"", name,
         "\" holds numbers that are not finite; its training has failed");
  }
}

}  // namespace mora
