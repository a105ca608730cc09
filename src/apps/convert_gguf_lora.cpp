// A LoRA in GGUF has one alpha for the file, and llama.cpp applies B A alpha / r with each tensor's
// own rank r. What PEFT scales otherwise (rsLoRA, alpha_pattern) goes into B, whose rows are in
// GGUF's order where q and k are adapted.
#include "apps/convert_gguf_lora.hpp"

#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <set>

#include "adapters/methods.hpp"
#include "adapters/module_rules.hpp"
#include "adapters/peft_layout.hpp"
#include "mora/adapters/files.hpp"
#include "mora/io/tensor_rows.hpp"
#include "mora/io/text.hpp"
#include "mora/models/llama_gguf.hpp"

namespace mora::apps {

namespace fs = std::filesystem;

using adapters::kA;
using adapters::kB;
using adapters::kPrefix;

namespace {

constexpr const char* kAdvice =
    ", which a LoRA in GGUF cannot express; merge it and convert the model";

AdapterConfig read_lora(const fs::path& adapter) {
  AdapterConfig config = read_adapter_config(adapter);
  const std::string file = printable((adapter / "adapter_config.json").string());
  if (config.method != "lora") {
    fail(ErrorKind::data, file, ": /use_mora is set", kAdvice,
         ", or make a LoRA of it first (mora-convert adapter --to lora)");
  }
  if (config.use_dora)
    fail(ErrorKind::data, file, ": /use_dora: DoRA rescales the base", kAdvice,
         ", or take the nearest LoRA first (mora-convert adapter --to lora --rank N)");
  if (!config.modules_to_save.empty())
    fail(ErrorKind::data, file, ": /modules_to_save is set", kAdvice);
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
                             const adapters::ModuleRules& rules) {
  auto wrong = [&](const auto&... problem) {
    fail(ErrorKind::data, printable(file.path().string()), ": ", problem...);
  };
  std::vector<Lora> pairs;
  std::set<std::string, std::less<>> used;
  for (const LlamaGgufTensor& t : llama_gguf_tensors(base)) {
    const std::string module = module_of(t.name);
    const std::string a = str(kPrefix, module, kA), b = str(kPrefix, module, kB);
    const std::optional<AdapterConfig> own = rules.config_of(module);
    if (!own && !file.contains(a) && !file.contains(b)) continue;
    const std::vector<int64_t>&in = file.info(a).shape, &out = file.info(b).shape;
    if (t.shape.size() != 2 || t.name == "model.embed_tokens.weight" || in.size() != 2 ||
        out.size() != 2 || in[0] != out[1] || in[0] < 1 || in[1] != t.shape[1] ||
        out[0] != t.shape[0]) {
      wrong("the LoRA of ", module, " is ", file.info(a), " and ", file.info(b),
            ", which does not fit the base's ", Shape(std::span<const int64_t>(t.shape)));
    }
    if (!own) wrong(module, " is none of the target_modules of the adapter's configuration");
    if (own->r != in[0]) {
      wrong("the LoRA of ", module, " has rank ", in[0], ", but the configuration says ", own->r);
    }
    used.insert({a, b});
    pairs.push_back({t, module, in[0], adapters::lora_scale(*own)});
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
  const adapters::ModuleRules rules(read_lora(adapter));
  const LlamaConfig model = read_llama_config(base / "config.json");
  const SafetensorsFile file(adapter_tensors(adapter));
  const std::vector<Lora> pairs = find_pairs(file, model, rules);
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
