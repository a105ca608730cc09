// mora-convert hf-to-gguf: a Hugging Face folder of a LLaMA becomes one GGUF file. Tensors pass one
// piece at a time; the file appears when it is complete.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "apps/convert.hpp"
#include "io/json.hpp"
#include "mora/io/tensor_rows.hpp"
#include "mora/io/text.hpp"
#include "mora/models/llama_gguf.hpp"
#include "mora/text/gguf_tokenizer.hpp"

namespace mora::apps {

namespace fs = std::filesystem;

namespace {

struct Options {
  std::string model, out, type = "f16";
};

struct FileType {
  const char *option, *name;
  uint32_t number;  // general.file_type
};
constexpr FileType kTypes[] = {
    {"f32", "F32", 0}, {"f16", "F16", 1}, {"bf16", "BF16", 32}, {"q8_0", "Q8_0", 7}};

constexpr const char* kRopeFreqs = "rope_freqs.weight";

// All problems of the folder's weights in one error.
void check_tensors(const SafetensorsFolder& weights, const LlamaConfig& config) {
  ParameterStore store;
  const Llama model(config, store, Training::frozen, 1);  // declares what there must be
  check_weights(weights, store, config);
}

// Norms stay F32, as does what has rows that the type's blocks do not fit.
const GgmlType& type_for(const LlamaGgufTensor& tensor, const GgmlType& wanted) {
  const bool fits = tensor.shape.size() > 1 && tensor.shape.back() % wanted.block_values == 0;
  return fits ? wanted : ggml_type("F32");
}

std::vector<StoredGgufTensor> tensors_of(const SafetensorsFolder& weights,
                                         const LlamaConfig& config, const GgmlType& wanted) {
  check_tensors(weights, config);
  std::vector<StoredGgufTensor> tensors;
  for (const LlamaGgufTensor& t : llama_gguf_tensors(config)) {
    TensorRows rows = rows_of(weights.file_of(t.name), t.name);
    if (t.rotated) {
      rows = reordered(std::move(rows),
                       [dim = config.head_dim](int64_t row) { return half_split_row(row, dim); });
    }
    const GgmlType& type = type_for(t, wanted);
    tensors.push_back(
        {t.gguf, &type, t.shape,
         [rows = std::move(rows), &type](const ByteSink& sink) { write_rows(rows, type, sink); }});
  }
  return tensors;
}

void add_rope_factors(std::vector<StoredGgufTensor>& tensors, const LlamaGguf& model) {
  if (!model.llama3) return;
  const auto& c = model.config;
  const auto divisors = std::make_shared<std::vector<float>>(
      llama3_divisors(*model.llama3, c.rope_theta, c.head_dim));
  tensors.push_back(
      {kRopeFreqs, &ggml_type("F32"), {c.head_dim / 2}, [divisors](const ByteSink& sink) {
         sink(std::as_bytes(std::span(*divisors)));
       }});
}

// Refuses what a tensor list without biases would drop.
void refuse_biases(const LlamaConfig& config, const fs::path& path) {
  const char* key = config.attention_bias ? "attention_bias" : "mlp_bias";
  if (!config.attention_bias && !config.mlp_bias) return;
  fail(ErrorKind::data, printable(path.string()), ": /", key,
       ": models with biases cannot be written to GGUF by this program");
}

// GGUF has no words for a RoPE that depends on the sequence.
void set_rope(LlamaGguf& model, const fs::path& path) {
  const RopeScaling& scaling = model.config.rope_scaling;
  switch (scaling.type) {
    case RopeType::standard:
      break;
    case RopeType::linear:
      model.linear_factor = scaling.factor;
      break;
    case RopeType::dynamic:
      fail(ErrorKind::data, printable(path.string()),
           ": RoPE of type \"dynamic\" cannot be written to GGUF; only default, linear and llama3");
    case RopeType::llama3:
      model.llama3 = {scaling.factor, scaling.low_freq_factor, scaling.high_freq_factor,
                      static_cast<double>(scaling.original_max_position_embeddings)};
  }
}

// The configuration, with the ids that it really names: LlamaConfig has defaults for them.
LlamaGguf read_model(const fs::path& path) {
  LlamaGguf model;
  model.config = read_llama_config(path);
  refuse_biases(model.config, path);
  set_rope(model, path);
  const Json document = parse_json(read_file(path, size_t{16} << 20), path.string());
  const JsonView json(document, path.string());
  auto id = [&](const char* key) -> std::optional<int64_t> {
    if (!json.has(key)) return std::nullopt;
    JsonView value = json.at(key);
    if (value.json().is_array()) {
      if (value.json().empty()) return std::nullopt;
      value = value.items().front();
    }
    const int64_t number = value.integer();
    return number < 0 ? std::nullopt : std::optional(number);  // some say -1 for none
  };
  model.bos = id("bos_token_id");
  model.eos = id("eos_token_id");
  model.pad = id("pad_token_id");
  return model;
}

// The folder's own name, for lists of models.
std::string model_name(const fs::path& folder) {
  return fs::weakly_canonical(folder).filename().string();
}

int convert_hf_to_gguf(const Options& options) {
  const auto* type = std::ranges::find(kTypes, options.type, &FileType::option);
  const auto start = std::chrono::steady_clock::now();
  const fs::path folder = options.model;
  const LlamaGguf model = read_model(folder / "config.json");
  const SafetensorsFolder weights(folder);
  std::vector<StoredGgufTensor> tensors = tensors_of(weights, model.config, ggml_type(type->name));
  add_rope_factors(tensors, model);
  GgufMetadata metadata;
  add_llama_keys(metadata, model);
  metadata.add_text("general.name", model_name(folder));
  metadata.add_u32("general.file_type", type->number);
  if (options.type == "q8_0") metadata.add_u32("general.quantization_version", 2);
  add_tokenizer_keys(metadata, folder, {model.config.vocab_size, model.bos, model.eos, model.pad});
  write_gguf(options.out, metadata, tensors);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("%s: %zu tensors, matrices as %s, in %.1f s\n", options.out.c_str(), tensors.size(),
              type->name, seconds.count());
  return 0;
}

}  // namespace

std::function<int()> declare_hf_to_gguf(CLI::App& command) {
  const auto options = std::make_shared<Options>();
  command.add_option("--model", options->model, "the Hugging Face folder")->required();
  command.add_option("--out", options->out, "the GGUF file to write")->required();
  command
      .add_option("--type", options->type, "of the matrices: f32, f16, bf16 or q8_0; norms are f32")
      ->capture_default_str()
      ->check(CLI::IsMember({"f32", "f16", "bf16", "q8_0"}));
  return [options] { return convert_hf_to_gguf(*options); };
}

}  // namespace mora::apps
