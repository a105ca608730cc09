// The weights of a LLaMA in Hugging Face folders, in and out.
#include <algorithm>
#include <set>

#include "mora/io/file.hpp"
#include "mora/io/safetensors_folder.hpp"
#include "mora/io/tensor_rows.hpp"
#include "mora/io/text.hpp"
#include "mora/models/llama.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

constexpr const char *kEmbedding = "model.embed_tokens.weight", *kOutput = "lm_head.weight";

// Buffers and duplicates that other programs store and nobody needs.
bool ignorable(const std::string& name, const LlamaConfig& config) {
  return name.ends_with(".rotary_emb.inv_freq") || (config.tie_word_embeddings && name == kOutput);
}

// Of a model whose output is tied, a second copy of the embedding may stand in the files; another
// matrix may not: transformers would take it, and the model would be another one.
std::string compare_output(const SafetensorsFolder& folder, const LlamaConfig& config) {
  if (!config.tie_word_embeddings || !folder.contains(kEmbedding) || !folder.contains(kOutput))
    return "";
  const SafetensorsFile &input = folder.file_of(kEmbedding), &output = folder.file_of(kOutput);
  const TensorInfo &a = input.info(kEmbedding), &b = output.info(kOutput);
  const bool same = a.dtype == b.dtype && a.shape == b.shape &&
                    std::ranges::equal(input.bytes(kEmbedding), output.bytes(kOutput));
  input.release(kEmbedding);
  output.release(kOutput);
  if (same) return "";
  return str("\n  ", kOutput, " is not ", kEmbedding,
             "; if it is right, set tie_word_embeddings to false");
}

std::string compare(const SafetensorsFolder& folder, const ParameterStore& store,
                    const LlamaConfig& config) {
  std::string problems;
  std::map<std::string, const Parameter*> expected;
  for (const Parameter& p : store.all()) {
    if (!is_adapter_parameter(p)) expected[p.name] = &p;
  }
  for (const auto& [name, p] : expected) {
    if (!folder.contains(name)) {
      problems += str("\n  missing: ", name, " ", p->shape);
    } else if (!std::ranges::equal(folder.info(name).shape, p->shape.dims())) {
      problems += str("\n  wrong shape: ", name, " is ", folder.info(name),
                      ", the configuration asks for ", p->shape);
    }
  }
  for (const auto& [name, file] : folder.tensors()) {
    if (!expected.contains(name) && !ignorable(name, config)) {
      problems += str("\n  unexpected: ", printable(name), " ", file->info(name));
    }
  }
  return problems + compare_output(folder, config);
}

}  // namespace

void check_weights(const SafetensorsFolder& folder, const ParameterStore& store,
                   const LlamaConfig& config) {
  const std::string problems = compare(folder, store, config);
  if (!problems.empty()) {
    fail(ErrorKind::data, folder.path().string(),
         ": the weights do not fit config.json:", problems);
  }
}

void load_weights(ParameterStore& store, const LlamaConfig& config, const fs::path& path) {
  const SafetensorsFolder folder(path);
  check_weights(folder, store, config);
  // In the order of the files, as disks read fastest.
  std::map<std::pair<const SafetensorsFile*, uint64_t>, std::vector<const Parameter*>> order;
  for (const Parameter& p : store.all()) {
    if (is_adapter_parameter(p)) continue;
    order[{&folder.file_of(p.name), folder.info(p.name).begin}].push_back(&p);
  }
  for (const auto& [place, parameters] : order) {
    for (const Parameter* p : parameters) place.first->read(p->name, p->value);
  }
}

DType stored_matrix_type(const SafetensorsFolder& folder) {
  std::set<std::string> types;
  for (const auto& [name, file] : folder.tensors()) {
    if (const TensorInfo& info = file->info(name); info.shape.size() >= 2) types.insert(info.dtype);
  }
  if (types == std::set<std::string>{"BF16"}) return DType::bf16;
  if (types == std::set<std::string>{"F16"}) return DType::f16;
  return DType::f32;
}

void save_model(const fs::path& folder, const LlamaConfig& config, const ParameterStore& store,
                DType dtype) {
  ensure(dtype == DType::f32 || dtype == DType::bf16, "save_model: ", dtype);
  const GgmlType& type = ggml_type(dtype == DType::f32 ? "F32" : "BF16");
  std::vector<StoredTensor> tensors;
  for (const Parameter& p : store.all()) {
    if (is_adapter_parameter(p)) continue;
    if (p.value.dtype() == dtype) {
      tensors.push_back(stored({p.name, p.value}));
      continue;
    }
    const auto dims = p.shape.dims();
    tensors.push_back({.name = p.name,
                       .dtype = std::string(type.name),
                       .shape = {dims.begin(), dims.end()},
                       .write = [rows = rows_of(p.name, p.value), &type](const ByteSink& sink) {
                         write_rows(rows, type, sink);
                       }});
  }
  write_file_atomically(folder / "config.json", to_json_text(config, dtype));
  write_safetensors_folder(folder, tensors, kMaxShardBytes);
}

}  // namespace mora
