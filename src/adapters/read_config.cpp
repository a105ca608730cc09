// Reading adapter_config.json, of any version of PEFT and of the MoRA authors' fork. A key is
// understood, known to change nothing, or refused by name when it is set to something.
#include <charconv>
#include <cmath>
#include <map>

#include "adapters/module_rules.hpp"
#include "adapters/mora_types.hpp"
#include "adapters/peft_layout.hpp"
#include "io/json.hpp"
#include "mora/adapters/files.hpp"
#include "mora/io/file.hpp"
#include "mora/io/safetensors.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace fs = std::filesystem;

using adapters::PythonRegex;

namespace {

constexpr size_t kMaxPatterns = 1024;  // every linear layer of a model of 405 billion has 882
constexpr const char* kMerge =
    "; merge the adapter with PEFT (merge_and_unload) and use the merged model instead";

// Says nothing if the pattern compiles.
void require_regex(const JsonView& value, const std::string& pattern) {
  try {
    PythonRegex compiled(pattern);
  } catch (const Error& error) {
    value.wrong(error.what());
  }
}

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

std::vector<std::string> strings(const JsonView& list) {
  const std::vector<JsonView> items = list.items();
  if (items.size() > kMaxPatterns) list.wrong(str("has more than ", kMaxPatterns, " names"));
  std::vector<std::string> values;
  for (const JsonView& item : items) values.push_back(item.string());
  return values;
}

int64_t rank_of(const JsonView& value) {
  const int64_t rank = value.integer();
  if (rank < 1 || rank > 65536) value.wrong("the rank must be between 1 and 65536");
  return rank;
}

template <class T>
void read_patterns(const JsonView& object, AdapterFile::Rules rules, T (*read)(const JsonView&),
                   std::vector<std::pair<std::string, T>>& patterns) {
  for (const auto& [key, value] : object.members()) {
    require_regex(object, adapters::pattern_of_key(key, rules));
    patterns.emplace_back(key, read(value));
  }
  if (patterns.size() > kMaxPatterns)
    object.wrong(str("has more than ", kMaxPatterns, " patterns"));
}

void read_target_modules(const JsonView& value, AdapterConfig& c) {
  if (!value.json().is_string()) {
    c.target_modules = strings(value);
    return;
  }
  c.target_modules.clear();
  c.file.target_pattern = value.string();
  if (lower(value.string()) == kAllLinear) {
    c.file.target_pattern = kAllLinear;
  } else {
    require_regex(value, c.file.target_pattern);
  }
}

void read_exclude_modules(const JsonView& value, AdapterConfig& c) {
  if (!value.json().is_string()) {
    c.file.exclude_modules = strings(value);
    return;
  }
  c.file.exclude_pattern = value.string();
  require_regex(value, c.file.exclude_pattern);
}

void read_layers_to_transform(const JsonView& value, AdapterConfig& c) {
  if (!value.json().is_array()) {
    c.file.layers_to_transform = {value.integer()};
    return;
  }
  for (const JsonView& layer : value.items()) c.file.layers_to_transform.push_back(layer.integer());
  if (c.file.layers_to_transform.size() > kMaxPatterns)
    value.wrong(str("has more than ", kMaxPatterns, " layers"));
}

void read_layers_pattern(const JsonView& value, AdapterConfig& c) {
  if (!value.json().is_string()) {
    c.file.layers_pattern = strings(value);
  } else if (!value.string().empty()) {
    c.file.layers_pattern = {value.string()};
  }
  for (const std::string& pattern : c.file.layers_pattern)
    require_regex(value, adapters::pattern_of_layers(&pattern, c.file.rules));
}

void read_modules_to_save(const JsonView& value, AdapterConfig& c) {
  c.modules_to_save = strings(value);
  for (const std::string& module : c.modules_to_save) {
    if (module.empty()) value.wrong("a name is empty");
    require_regex(value, adapters::pattern_of_saved(module));
  }
}

// Some ways to begin move a part of the base's weights into the adapter; PEFT writes "true" here
// when it has taken that back.
void read_init(const JsonView& value, AdapterConfig&) {
  if (value.json().is_boolean()) return;
  const std::string init = lower(value.string());
  if (init == "gaussian" || init == "eva" || init == "orthogonal") return;
  value.wrong(str("\"", printable(init),
                  "\" changes the base's weights, which the adapter's files do not hold; save it "
                  "from PEFT with path_initial_model_for_weight_conversion, which makes it a plain "
                  "LoRA"));
}

void read_dropout(const JsonView& value, AdapterConfig& c) {
  c.lora_dropout = value.number();
  if (!(c.lora_dropout >= 0 && c.lora_dropout < 1)) value.wrong("expected a number in [0, 1)");
}

using ReadKey = void (*)(const JsonView&, AdapterConfig&);

void nothing(const JsonView&, AdapterConfig&) {}

const std::map<std::string, ReadKey, std::less<>>& known_keys() {
  static const std::map<std::string, ReadKey, std::less<>> keys = {
      {"peft_type",
       [](const JsonView& v, AdapterConfig&) {
         if (v.string() != "LORA") v.wrong(str("expected \"LORA\", found ", brief(v.json())));
       }},
      {"r", [](const JsonView& v, AdapterConfig& c) { c.r = rank_of(v); }},
      {"lora_alpha", [](const JsonView& v, AdapterConfig& c) { c.lora_alpha = v.number(); }},
      {"lora_dropout", read_dropout},
      {"use_rslora", [](const JsonView& v, AdapterConfig& c) { c.use_rslora = v.boolean(); }},
      {"use_dora", [](const JsonView& v, AdapterConfig& c) { c.use_dora = v.boolean(); }},
      {"use_mora",
       [](const JsonView& v, AdapterConfig& c) { c.method = v.boolean() ? "mora" : "lora"; }},
      {"mora_type", nothing},      // read together with the tensors' metadata
      {"mora_operator", nothing},  // ours; the metadata say it, too
      {"target_modules", read_target_modules},
      {"exclude_modules", read_exclude_modules},
      {"layers_to_transform", read_layers_to_transform},
      {"layers_pattern", read_layers_pattern},
      {"rank_pattern",
       [](const JsonView& v, AdapterConfig& c) {
         read_patterns(v, c.file.rules, rank_of, c.file.rank_pattern);
       }},
      {"alpha_pattern",
       [](const JsonView& v, AdapterConfig& c) {
         read_patterns<double>(
             v, c.file.rules, [](const JsonView& alpha) { return alpha.number(); },
             c.file.alpha_pattern);
       }},
      {"modules_to_save", read_modules_to_save},
      {"base_model_name_or_path",
       [](const JsonView& v, AdapterConfig& c) { c.file.base_model = v.string(); }},
      {"init_lora_weights", read_init},
      {"bias",
       [](const JsonView& v, AdapterConfig&) {
         if (v.string() != "none") v.wrong(str("trained biases are not supported", kMerge));
       }},
      // Where the file comes from, and what matters only while PEFT trains.
      {"auto_mapping", nothing},
      {"corda_config", nothing},
      {"eva_config", nothing},
      {"inference_mode", nothing},
      {"loftq_config", nothing},
      {"lora_ga_config", nothing},
      {"megatron_core", nothing},
      {"peft_version", nothing},
      {"qalora_group_size", nothing},
      {"revision", nothing},
      {"runtime_config", nothing},
      {"task_type", nothing},
  };
  return keys;
}

struct Refused {
  const char *key, *what;
};
constexpr Refused kRefused[] = {
    {"alora_invocation_tokens", "activated LoRA"},
    {"arrow_config", "a mixture of adapters (Arrow)"},
    {"ensure_weight_tying", "an adapter of tied weights"},
    {"fan_in_fan_out", "a transposed base layer"},
    {"kasa_config", "KaSA"},
    {"layer_replication", "a model with repeated layers"},
    {"lora_bias", "a bias in lora_B"},
    {"megatron_config", "a Megatron model"},
    {"monteclora_config", "MonteCLoRA"},
    {"target_parameters", "LoRA of parameters instead of modules"},
    {"trainable_token_indices", "single trained tokens"},
    {"use_bdlora", "block-diagonal LoRA"},
    {"use_qalora", "QA-LoRA"},
    {"velora_config", "VeLoRA"},
};

bool is_set(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  return !(value.is_structured() && value.empty());
}

void read_key(const std::string& key, const JsonView& value, AdapterConfig& config) {
  if (value.json().is_null()) return;
  const auto known = known_keys().find(key);
  if (known != known_keys().end()) return known->second(value, config);
  if (!is_set(value.json())) return;
  const auto* refused = std::ranges::find(kRefused, std::string_view(key), &Refused::key);
  if (refused != std::end(kRefused)) value.wrong(str(refused->what, " is not supported", kMerge));
  value.wrong(str("this program does not know what it changes", kMerge));
}

// mlx-lm writes a file of the same name.
void require_peft(const JsonView& json) {
  if (json.has("peft_type")) return;
  if (json.has("fine_tune_type") || json.has("lora_parameters")) {
    json.wrong(
        "this is an adapter of mlx-lm, whose matrices are transposed and scaled otherwise; make a "
        "whole model of it (mlx_lm.fuse) and use that");
  }
  json.wrong("\"peft_type\" is missing: this is no configuration of a PEFT adapter");
}

void check_targets(const JsonView& json, const AdapterConfig& c) {
  json.at("target_modules");
  if (c.file.target_pattern.empty() && c.target_modules.empty())
    json.at("target_modules").wrong("names no module");
  if (!c.file.layers_pattern.empty() && c.file.layers_to_transform.empty())
    json.at("layers_pattern").wrong("means nothing without layers_to_transform");
  if (!c.file.layers_to_transform.empty() && !c.file.target_pattern.empty()) {
    json.at("layers_to_transform")
        .wrong("goes with a list of target_modules only, not with a pattern");
  }
}

template <class T>
bool read_number(const std::string& text, T& number) {
  const char *begin = text.data(), *end = begin + text.size();
  const auto [stop, error] = std::from_chars(begin, end, number);
  return error == std::errc() && stop == end;
}

// What the authors' code has no word for, which nobody else's file has.
void read_own_settings(const SafetensorsFile& file, AdapterConfig& c) {
  const auto wrong = [&](const char* key, const std::string& value, const char* expected) {
    fail(ErrorKind::data, file.path().string(), ": the metadata give ", key, " = \"",
         printable(value), "\", expected ", expected);
  };
  const auto& data = file.metadata();
  const auto scale = data.find(adapters::kScale), cover = data.find(adapters::kCover);
  if (scale != data.end()) {
    if (!read_number(scale->second, c.scale) || !(c.scale > 0 && std::isfinite(c.scale)))
      wrong(adapters::kScale, scale->second, "a number above 0");
  }
  const auto seed = data.find(adapters::kGroupingSeed);
  if (adapters::is_random(c)) {
    const std::string text = seed == data.end() ? "" : seed->second;
    if (!read_number(text, c.grouping_seed) || c.grouping_seed < 0)
      wrong(adapters::kGroupingSeed, text, "a whole number that is not negative");
  } else if (seed != data.end()) {
    wrong(adapters::kGroupingSeed, seed->second, "none, because the grouping is not \"random\"");
  }
  if (cover == data.end()) return;
  if (c.operation != "rotation" || (cover->second != "used" && cover->second != "all"))
    wrong(adapters::kCover, cover->second, "\"used\" or \"all\", of rotation");
  c.cover = cover->second;
}

// The operator by our names, if the file has them.
bool read_named_operator(const SafetensorsFile& file, AdapterConfig& c) {
  const auto& data = file.metadata();
  const auto named = data.find("mora.operator"), grouping = data.find("mora.grouping");
  if (named == data.end()) return false;
  c.operation = named->second;
  if (grouping != data.end()) c.grouping = grouping->second;
  if (adapters::authors_type(c) == nullptr && !adapters::is_random(c) &&
      c.operation != "decoupling" && c.operation != "truncation") {
    fail(ErrorKind::data, file.path().string(), ": the metadata name the operator \"",
         printable(c.operation), "\" with grouping \"", printable(c.grouping),
         "\", which this program does not have");
  }
  return true;
}

void read_operator(const JsonView& json, const SafetensorsFile& file, AdapterConfig& c) {
  if (read_named_operator(file, c)) return read_own_settings(file, c);
  const int64_t number = json.has("mora_type") ? json.at("mora_type").integer() : 1;
  const auto* type = std::ranges::find(adapters::kMoraTypes, number, &adapters::MoraType::number);
  if (type == std::end(adapters::kMoraTypes))
    json.at("mora_type").wrong("known types are 1, 2, 3, 4 and 6");
  c.operation = type->operation;
  if (!type->grouping.empty()) c.grouping = type->grouping;
}

}  // namespace

AdapterConfig read_adapter_config(const fs::path& folder) {
  const fs::path file = folder / "adapter_config.json", tensors = adapter_tensors(folder);
  const std::string text = read_file(file, size_t{16} << 20);
  const Json document = parse_json(text, file.string());
  const JsonView json(document, file.string());
  if (!document.is_object()) json.wrong_type("an object");
  require_peft(json);
  AdapterConfig c;
  c.lora_alpha = 8;  // PEFT's default
  c.target_modules.clear();
  if (document.contains("use_mora")) c.file.rules = AdapterFile::Rules::authors;
  for (const auto& [key, value] : json.members()) read_key(key, value, c);
  check_targets(json, c);
  if (c.method == "mora" && c.use_dora)
    json.at("use_dora").wrong("DoRA goes with LoRA, not with MoRA (use_mora)");
  if (c.method == "mora") read_operator(json, SafetensorsFile(tensors), c);
  c.file.folder = folder;
  return c;
}

}  // namespace mora
