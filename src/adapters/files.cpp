#include "mora/adapters/files.hpp"

#include <algorithm>
#include <set>

#include "adapters/peft_layout.hpp"
#include "io/json.hpp"
#include "mora/io/file.hpp"
#include "mora/io/safetensors.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace fs = std::filesystem;

using adapters::kA;
using adapters::kB;
using adapters::kPrefix;

namespace {

// The authors' numbers for what we name. 0: theirs has none.
struct MoraType {
  int64_t number;
  std::string_view operation, grouping;
};
constexpr MoraType kTypes[] = {{1, "sharing", "strided"},
                               {2, "sharing", "contiguous"},
                               {3, "sharing", "contiguous_strided"},
                               {4, "sharing", "strided_contiguous"},
                               {6, "rotation", ""}};

int64_t type_number(const AdapterConfig& c) {
  for (const MoraType& t : kTypes) {
    if (t.operation == c.operation && (t.grouping.empty() || t.grouping == c.grouping))
      return t.number;
  }
  return 0;
}

}  // namespace

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
  json["layers_pattern"] = nullptr;
  json["layers_to_transform"] = nullptr;
  json["loftq_config"] = nlohmann::json::object();
  json["lora_alpha"] = c.lora_alpha;
  json["lora_dropout"] = c.lora_dropout;
  json["megatron_config"] = nullptr;
  json["megatron_core"] = "megatron.core";
  json["modules_to_save"] = nullptr;
  json["peft_type"] = "LORA";
  json["r"] = c.r;
  json["rank_pattern"] = nlohmann::json::object();
  json["revision"] = nullptr;
  json["target_modules"] = c.target_modules;
  json["task_type"] = "CAUSAL_LM";
  json["use_dora"] = false;
  json["use_rslora"] = !mora && c.use_rslora;
  if (mora) {
    json["mora_type"] = type_number(c);
    json["use_mora"] = true;
  }
  return json;
}

namespace {

std::map<std::string, std::string> metadata(const AdapterConfig& c) {
  std::map<std::string, std::string> data = {{"mora.method", c.method}};
  if (c.method != "mora") return data;
  data["mora.operator"] = c.operation;
  if (c.operation == "sharing") data["mora.grouping"] = c.grouping;
  return data;
}

}  // namespace

void save_adapter(const fs::path& folder, const AdapterConfig& config, const ParameterStore& store,
                  const std::string& base_model) {
  std::vector<NamedTensor> tensors;
  for (const Parameter& p : store.all()) {
    if (!is_adapter_parameter(p)) continue;
    const std::string name = str(kPrefix, p.name);
    tensors.push_back({name, p.value});
    if (config.method == "mora") {
      tensors.push_back(
          {str(std::string_view(name).substr(0, name.size() - kA.size()), kB), p.value});
    }
  }
  write_file_atomically(folder / "adapter_config.json",
                        adapters::peft_config(config, base_model).dump(2) + "\n");
  write_safetensors(folder / "adapter_model.safetensors", tensors, metadata(config));
}

namespace {

void refuse_unsupported(const JsonView& json) {
  auto must_be = [&](std::string_view key, bool fine) {
    if (!fine) json.at(key).wrong("this kind of adapter is not supported");
  };
  if (json.has("peft_type")) must_be("peft_type", json.at("peft_type").string() == "LORA");
  if (json.has("bias")) must_be("bias", json.at("bias").string() == "none");
  for (const char* key : {"fan_in_fan_out", "use_dora", "lora_bias"}) {
    if (json.has(key)) must_be(key, !json.at(key).boolean());
  }
  for (const char* key :
       {"rank_pattern", "alpha_pattern", "modules_to_save", "layers_to_transform"}) {
    if (json.has(key)) must_be(key, json.at(key).json().empty());
  }
}

// The operator by our names, if the file has them.
bool read_named_operator(const SafetensorsFile& file, AdapterConfig& c) {
  const auto& data = file.metadata();
  const auto named = data.find("mora.operator"), grouping = data.find("mora.grouping");
  if (named == data.end()) return false;
  c.operation = named->second;
  if (grouping != data.end()) c.grouping = grouping->second;
  if (type_number(c) == 0 && c.operation != "decoupling" && c.operation != "truncation") {
    fail(ErrorKind::data, file.path().string(), ": the metadata name the operator \"",
         printable(c.operation), "\" with grouping \"", printable(c.grouping),
         "\", which this program does not have");
  }
  return true;
}

void read_operator(const JsonView& json, const SafetensorsFile& file, AdapterConfig& c) {
  if (read_named_operator(file, c)) return;
  const int64_t number = json.has("mora_type") ? json.at("mora_type").integer() : 1;
  const auto type = std::ranges::find(kTypes, number, &MoraType::number);
  if (type == std::end(kTypes)) json.at("mora_type").wrong("known types are 1, 2, 3, 4 and 6");
  c.operation = type->operation;
  if (!type->grouping.empty()) c.grouping = type->grouping;
}

}  // namespace

AdapterConfig read_adapter_config(const fs::path& folder) {
  const fs::path file = folder / "adapter_config.json";
  const std::string text = read_file(file, size_t{16} << 20);
  const Json document = parse_json(text, file.string());
  const JsonView json(document, file.string());
  if (!document.is_object()) json.wrong_type("an object");
  refuse_unsupported(json);
  AdapterConfig c;
  c.method = json.has("use_mora") && json.at("use_mora").boolean() ? "mora" : "lora";
  c.r = json.at("r").integer();
  if (c.r < 1 || c.r > 65536) json.at("r").wrong("the rank must be between 1 and 65536");
  if (json.has("lora_alpha")) c.lora_alpha = json.at("lora_alpha").number();
  if (json.has("use_rslora")) c.use_rslora = json.at("use_rslora").boolean();
  c.target_modules.clear();
  for (const JsonView& target : json.at("target_modules").items())
    c.target_modules.push_back(target.string());
  if (c.method == "mora")
    read_operator(json, SafetensorsFile(folder / "adapter_model.safetensors"), c);
  return c;
}

namespace {

std::string problem_of(const SafetensorsFile& file, const std::string& name, const Parameter& p) {
  if (!file.contains(name)) return str("\n  missing: ", name, " ", p.shape);
  const TensorInfo& info = file.info(name);
  if (!std::ranges::equal(info.shape, p.shape.dims())) {
    return str("\n  wrong shape: ", name, " is ", info, ", the model and rank ask for ", p.shape);
  }
  const bool real =
      info.dtype == "F32" || info.dtype == "BF16" || info.dtype == "F16" || info.dtype == "F64";
  return real ? "" : str("\n  wrong type: ", name, " is ", info, ", expected floating point");
}

// MoRA's lora_B stands in the file as a copy of lora_A; the authors' code applies the copy.
std::string problem_of_surplus(const SafetensorsFile& file, const std::string& name,
                               const std::set<std::string>& expected) {
  const std::string a =
      name.ends_with(kB) ? str(std::string_view(name).substr(0, name.size() - kB.size()), kA) : "";
  if (!expected.contains(a)) return str("\n  unexpected: ", printable(name), " ", file.info(name));
  if (file.contains(a) && !std::ranges::equal(file.bytes(a), file.bytes(name)))
    return str("\n  not the same as lora_A: ", name, ", of which MoRA has only one matrix");
  return "";
}

}  // namespace

void load_adapter(const fs::path& folder, ParameterStore& store) {
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  std::string problems;
  std::set<std::string> expected;
  for (const Parameter& p : store.all()) {
    if (!is_adapter_parameter(p)) continue;
    const std::string name = str(kPrefix, p.name);
    expected.insert(name);
    problems += problem_of(file, name, p);
  }
  for (const auto& [name, info] : file.tensors()) {
    if (!expected.contains(name)) problems += problem_of_surplus(file, name, expected);
  }
  if (!problems.empty())
    fail(ErrorKind::data, file.path().string(), ": the adapter does not fit the model:", problems);
  for (const Parameter& p : store.all()) {
    if (is_adapter_parameter(p)) file.read(str(kPrefix, p.name), p.value);
  }
}

}  // namespace mora
