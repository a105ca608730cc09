// mora-convert gguf-to-hf: a LLaMA in GGUF becomes a Hugging Face folder. Tensors pass one piece at
// a time; the folder appears when it is complete.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "apps/convert.hpp"
#include "io/json.hpp"
#include "mora/io/folder_draft.hpp"
#include "mora/io/tensor_rows.hpp"
#include "mora/models/llama_gguf.hpp"
#include "mora/text/gguf_tokenizer.hpp"

namespace mora::apps {

namespace fs = std::filesystem;

namespace {

struct Options {
  std::string model, out, dtype = "float32";
};

struct StoredType {
  const char *option, *file;  // as in config.json, as in safetensors and GGUF
};
constexpr StoredType kTypes[] = {{"float32", "F32"}, {"float16", "F16"}, {"bfloat16", "BF16"}};

Json or_null(const std::optional<int64_t>& id) {
  return id ? Json(*id) : Json(nullptr);
}

RopeScaling scaling_of(const LlamaGguf& model) {
  if (model.linear_factor != 1) return {.type = RopeType::linear, .factor = model.linear_factor};
  if (!model.llama3) return {};
  return {.type = RopeType::llama3,
          .factor = model.llama3->factor,
          .low_freq_factor = model.llama3->low,
          .high_freq_factor = model.llama3->high,
          .original_max_position_embeddings = static_cast<int64_t>(model.llama3->original)};
}

std::string config_text(const LlamaGguf& model, const std::string& dtype) {
  LlamaConfig config = model.config;
  config.rope_scaling = scaling_of(model);
  Json json = parse_json(to_json_text(config, DType::f32), "config.json");
  json["bos_token_id"] = or_null(model.bos);
  json["eos_token_id"] = or_null(model.eos);
  json["pad_token_id"] = or_null(model.pad);
  json["torch_dtype"] = dtype;
  return dump_json(json, 2) + "\n";
}

std::vector<StoredTensor> tensors_of(const GgufFile& file, const LlamaConfig& config,
                                     const std::string& dtype) {
  std::vector<StoredTensor> tensors;
  for (const LlamaGgufTensor& t : llama_gguf_tensors(config)) {
    TensorRows rows = rows_of(file, t.gguf);
    if (t.rotated) {
      rows = reordered(std::move(rows),
                       [dim = config.head_dim](int64_t row) { return gguf_row(row, dim); });
    }
    tensors.push_back({.name = t.name,
                       .dtype = dtype,
                       .shape = t.shape,
                       .write = [rows = std::move(rows), &type = ggml_type(dtype)](
                                    const ByteSink& sink) { write_rows(rows, type, sink); }});
  }
  return tensors;
}

int convert_gguf_to_hf(const Options& options) {
  const auto* type = std::ranges::find(kTypes, options.dtype, &StoredType::option);
  const auto start = std::chrono::steady_clock::now();
  const GgufFile file(options.model);
  const LlamaGguf model = read_llama_gguf(file);
  const auto tokenizer = tokenizer_files(file, model.config.vocab_size);
  FolderDraft folder(options.out);
  for (const auto& [name, text] : tokenizer) write_file_atomically(folder.path() / name, text);
  write_file_atomically(folder.path() / "config.json", config_text(model, options.dtype));
  const std::vector<StoredTensor> tensors = tensors_of(file, model.config, type->file);
  write_safetensors(folder.path() / "model.safetensors", tensors);
  folder.commit();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf(
      "%s: %zu tensors as %s, %s, in %.1f s\n", options.out.c_str(), tensors.size(), type->option,
      tokenizer.contains("tokenizer.json") ? "tokenizer.json" : "tokenizer.model", seconds.count());
  return 0;
}

}  // namespace

std::function<int()> declare_gguf_to_hf(CLI::App& command) {
  const auto options = std::make_shared<Options>();
  command.add_option("--model", options->model, "the GGUF file")->required();
  command.add_option("--out", options->out, "the folder to make; new or empty")->required();
  command
      .add_option("--dtype", options->dtype,
                  "float32 (keeps every value), float16 or bfloat16 (round)")
      ->capture_default_str()
      ->check(CLI::IsMember({"float32", "float16", "bfloat16"}));
  return [options] { return convert_gguf_to_hf(*options); };
}

}  // namespace mora::apps
