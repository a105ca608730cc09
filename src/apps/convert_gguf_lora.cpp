// A LoRA in GGUF has one alpha for the file, and llama.cpp applies B A alpha / r with each tensor's
// own rank r. What PEFT scales otherwise (rsLoRA, alpha_pattern) goes into B, whose rows are in
// GGUF's order where q and k are adapted.
#include "apps/convert_gguf_lora.hpp"

#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <set>

#include "io/json.hpp"
#include "mora/io/tensor_rows.hpp"
#include "mora/io/text.hpp"
#include "mora/models/llama_gguf.hpp"

namespace mora::apps {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight";
constexpr const char* kAdvice =
    ", which a LoRA in GGUF cannot express; merge it and convert the model";

struct LoraConfig {
  double alpha = 8;
  bool rank_stabilised = false;
  std::vector<std::pair<std::string, double>> alphas;  // by the end of a module's name

  double scale(const std::string& module, int64_t rank) const;
};

bool ends_with_module(std::string_view name, std::string_view end) {
  return name == end || (name.ends_with(end) && name[name.size() - end.size() - 1] == '.');
}

double LoraConfig::scale(const std::string& module, int64_t rank) const {
  double a = alpha;
  for (const auto& [end, value] : alphas) {
    if (!ends_with_module(module, end)) continue;
    a = value;
    break;  // PEFT takes the first that matches
  }
  const auto r = static_cast<double>(rank);
  return a / (rank_stabilised ? std::sqrt(r) : r);
}

bool is_set(const JsonView& json, std::string_view key) {
  if (!json.has(key)) return false;
  const Json& value = json.at(key).json();
  return value.is_boolean() ? value.get<bool>() : !(value.is_structured() && value.empty());
}

void refuse_unsupported(const JsonView& json) {
  if (json.at("peft_type").string() != "LORA") json.at("peft_type").wrong("is not \"LORA\"");
  for (const char* key : {"use_dora", "use_mora", "modules_to_save", "fan_in_fan_out", "lora_bias",
                          "use_qalora", "layer_replication", "alora_invocation_tokens",
                          "trainable_token_indices", "target_parameters"}) {
    if (is_set(json, key)) json.at(key).wrong(str("is set", kAdvice));
  }
  if (json.has("bias") && json.at("bias").string() != "none") {
    json.at("bias").wrong(str("is not \"none\"", kAdvice));
  }
  if (!json.has("init_lora_weights") || !json.at("init_lora_weights").json().is_string()) return;
  const std::string init = json.at("init_lora_weights").string();
  if (init != "gaussian" && init != "eva" && init != "orthogonal") {
    json.at("init_lora_weights").wrong(str("changes the base model", kAdvice));
  }
}

LoraConfig read_config(const fs::path& path) {
  const Json document = parse_json(read_file(path, size_t{16} << 20), path.string());
  const JsonView json(document, path.string());
  refuse_unsupported(json);
  LoraConfig config;
  if (json.has("lora_alpha")) config.alpha = json.at("lora_alpha").number();
  config.rank_stabilised = is_set(json, "use_rslora");
  if (!json.has("alpha_pattern")) return config;
  for (const auto& [key, value] : json.at("alpha_pattern").members()) {
    if (key.find_first_of("\\*+?()[]{}|^$") != key.npos) {
      value.wrong("is for a regular expression; only names of modules are supported here");
    }
    config.alphas.emplace_back(key, value.number());
  }
  return config;
}

// One adapted tensor of the base.
struct Lora {
  LlamaGgufTensor base;
  std::string module;
  int64_t rank = 0;
  double scale = 0;
};

std::string module_of(const std::string& tensor) {
  return tensor.substr(0, tensor.size() - std::string_view(".weight").size());
}

// The pairs in the file, in the order of the base's tensors; anything else in it is an error.
std::vector<Lora> find_pairs(const SafetensorsFile& file, const LlamaConfig& base,
                             const LoraConfig& config) {
  auto wrong = [&](const auto&... problem) {
    fail(ErrorKind::data, printable(file.path().string()), ": ", problem...);
  };
  std::vector<Lora> pairs;
  std::set<std::string, std::less<>> used;
  for (const LlamaGgufTensor& t : llama_gguf_tensors(base)) {
    const std::string module = module_of(t.name);
    const std::string a = str(kPrefix, module, kA), b = str(kPrefix, module, kB);
    if (!file.contains(a) && !file.contains(b)) continue;
    const std::vector<int64_t>&in = file.info(a).shape, &out = file.info(b).shape;
    if (t.shape.size() != 2 || t.name == "model.embed_tokens.weight" || in.size() != 2 ||
        out.size() != 2 || in[0] != out[1] || in[0] < 1 || in[1] != t.shape[1] ||
        out[0] != t.shape[0]) {
      wrong("the LoRA of ", module, " is ", file.info(a), " and ", file.info(b),
            ", which does not fit the base's ", Shape(std::span<const int64_t>(t.shape)));
    }
    used.insert({a, b});
    pairs.push_back({t, module, in[0], config.scale(module, in[0])});
  }
  for (const auto& [name, info] : file.tensors()) {
    if (!used.contains(name)) {
      wrong("tensor \"", printable(name), "\" ", info, " is no LoRA of a matrix of the base",
            kAdvice);
    }
  }
  if (pairs.empty()) wrong("holds no LoRA");
  return pairs;
}

TensorRows scaled(TensorRows rows, float factor) {
  if (factor == 1.0f) return rows;
  rows.read = [read = std::move(rows.read), factor](int64_t row, std::span<float> into) {
    read(row, into);
    for (float& value : into) value *= factor;
  };
  return rows;
}

StoredGgufTensor stored_rows(std::string name, TensorRows rows) {
  const std::vector<int64_t> shape = {rows.rows, rows.row};
  return {
      std::move(name), &ggml_type("F32"), shape,
      [rows = std::move(rows)](const ByteSink& sink) { write_rows(rows, ggml_type("F32"), sink); }};
}

std::vector<StoredGgufTensor> tensors_of(const SafetensorsFile& file,
                                         const std::vector<Lora>& pairs, int64_t head_dim,
                                         float alpha) {
  std::vector<StoredGgufTensor> tensors;
  for (const Lora& lora : pairs) {
    const std::string name = str(kPrefix, lora.module);
    TensorRows b = rows_of(file, str(name, kB));
    if (lora.base.rotated) {
      b = reordered(std::move(b),
                    [head_dim](int64_t row) { return half_split_row(row, head_dim); });
    }
    const double factor = lora.scale * static_cast<double>(lora.rank) / static_cast<double>(alpha);
    tensors.push_back(stored_rows(lora.base.gguf + ".lora_a", rows_of(file, str(name, kA))));
    tensors.push_back(
        stored_rows(lora.base.gguf + ".lora_b", scaled(std::move(b), static_cast<float>(factor))));
  }
  return tensors;
}

}  // namespace

int adapter_to_gguf_lora(const fs::path& adapter, const fs::path& base, const fs::path& out) {
  const LoraConfig config = read_config(adapter / "adapter_config.json");
  const LlamaConfig model = read_llama_config(base / "config.json");
  const SafetensorsFile file(adapter / "adapter_model.safetensors");
  const std::vector<Lora> pairs = find_pairs(file, model, config);
  // The first tensor's alpha is the file's; where all agree, every B stays as it is.
  const auto alpha =
      static_cast<float>(pairs.front().scale * static_cast<double>(pairs.front().rank));
  if (!std::isfinite(alpha) || alpha == 0.0f) {
    fail(ErrorKind::data, printable((adapter / "adapter_config.json").string()),
         ": gives the alpha ", alpha, "; expected a number other than 0");
  }
  GgufMetadata metadata;
  metadata.add_text("general.architecture", "llama");
  metadata.add_text("general.type", "adapter");
  metadata.add_text("general.name", fs::weakly_canonical(adapter).filename().string());
  metadata.add_u32("general.file_type", 0);
  metadata.add_text("adapter.type", "lora");
  metadata.add_f32("adapter.lora.alpha", alpha);
  write_gguf(out, metadata, tensors_of(file, pairs, model.head_dim, alpha));
  std::printf("%s: a LoRA of %zu matrices, alpha %g\n", out.c_str(), pairs.size(),
              static_cast<double>(alpha));
  return 0;
}

}  // namespace mora::apps
