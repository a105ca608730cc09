// mora-convert merge: base + adapter become one model, tensor by tensor; then the result is read
// back and its logits are compared with those of base and adapter.
#include <cmath>
#include <cstdio>
#include <memory>

#include "apps/convert.hpp"
#include "apps/session.hpp"
#include "io/json.hpp"
#include "mora/adapters/adapters.hpp"
#include "mora/adapters/files.hpp"
#include "mora/eval/logits.hpp"
#include "mora/io/folder_draft.hpp"
#include "mora/io/tensor_rows.hpp"
#include "mora/text/tokenizer.hpp"

namespace mora::apps {

namespace fs = std::filesystem;

namespace {

struct Options {
  std::string model, adapter, out, dtype = "stored", max_shard_size = "5GB", text;
};

struct StoredType {
  const char *option, *file;  // as in config.json, as in safetensors
};
constexpr StoredType kTypes[] = {
    {"stored", ""}, {"float32", "F32"}, {"float16", "F16"}, {"bfloat16", "BF16"}};

constexpr size_t kMaxConfig = size_t{16} << 20;

constexpr const char* kSample =
    "The ferry leaves at half past seven, and nobody waits for those who are late. On board there "
    "are 48 seats, 3 lamps and one dog; the price is 2.50 each way. def fare(n): return 2.5 * n";

// "5GB", "300MB", "70000": decimal units, as transformers has them.
uint64_t size_of_text(const std::string& text) {
  size_t end = 0;
  double number = 0;
  try {
    number = std::stod(text, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  const std::string unit = text.substr(end);
  const double factor = unit == "KB"   ? 1e3
                        : unit == "MB" ? 1e6
                        : unit == "GB" ? 1e9
                        : unit.empty() ? 1
                                       : 0;
  const double bytes = number * factor;
  if (end == 0 || !(bytes >= 1 && bytes < 1e18)) {
    fail(ErrorKind::usage, "--max-shard-size is \"", text,
         "\", expected a size such as 5GB, 300MB or 70000");
  }
  return static_cast<uint64_t>(bytes);
}

// The base's declared parameters and the adapter's values. The base's values stay in their files.
struct Pieces {
  LlamaConfig config;
  SafetensorsFolder base;
  SafetensorsFile adapted;
  ParameterStore store;
  Llama model;

  Pieces(const fs::path& base_folder, const fs::path& adapter)
      : config(read_llama_config(base_folder / "config.json")),
        base(base_folder),
        adapted(adapter_tensors(adapter)),
        model(config, store, Training::frozen, 1) {
    check_weights(base, store, config);
    attach_adapters(read_adapter_config(adapter), store, model.linears());
    store.allocate_trained();
    load_adapter(adapter, store);
  }
};

void check_base(const Pieces& pieces) {
  const auto& metadata = pieces.adapted.metadata();
  const auto found = metadata.find("base_hash");
  if (found == metadata.end() || found->second == tensors_sha256(pieces.base)) return;
  fail(ErrorKind::data, pieces.base.path().string(),
       ": these are not the weights that the adapter was trained on (their hash differs from the "
       "one in ",
       pieces.adapted.path().string(), "); give the base model it was trained on");
}

// W + delta in f32, in the stored type.
void write_merged(const SafetensorsFile& file, const Linear& linear, const GgmlType& type,
                  const ByteSink& sink) {
  const std::string& name = linear.weight().name;
  const Type whole{DType::f32, linear.weight().shape};
  const OwnedTensor weight(whole, Fill::none), merged(whole, Fill::none);
  file.read(name, weight.view());
  merged_weight(linear, weight.view(), merged.view());
  write_rows(rows_of(name, merged.view()), type, sink);
}

StoredTensor merged_tensor(const Pieces& pieces, const Parameter& p, const Linear* linear,
                           const std::string& wanted) {
  const TensorInfo& info = pieces.base.file_of(p.name).info(p.name);
  const std::string dtype = wanted.empty() ? info.dtype : wanted;
  if (dtype == "F64") {
    fail(ErrorKind::usage, pieces.base.path().string(), ": ", p.name,
         " is F64, which mora does not write; choose with --dtype float32, float16 or bfloat16");
  }
  StoredTensor tensor{.name = p.name, .dtype = dtype, .shape = info.shape, .write = {}};
  // modules_to_save: the adapter has a whole tensor in place of the base's.
  const bool replaced = pieces.adapted.contains(adapter_tensor_name(p.name));
  const SafetensorsFile& file = replaced ? pieces.adapted : pieces.base.file_of(p.name);
  const std::string name = replaced ? adapter_tensor_name(p.name) : p.name;
  tensor.write = [&file, name, linear, dtype,
                  stored = file.info(name).dtype](const ByteSink& sink) {
    if (linear != nullptr) {
      write_merged(file, *linear, ggml_type(dtype), sink);
    } else if (dtype == stored) {
      sink(file.bytes(name));
    } else {
      write_rows(rows_of(file, name), ggml_type(dtype), sink);
    }
    file.release(name);
  };
  return tensor;
}

std::vector<StoredTensor> merged_tensors(Pieces& pieces, const std::string& dtype) {
  std::map<std::string, const Linear*> changed;
  for (const Linear* linear : pieces.model.linears()) {
    if (linear->adapter() != nullptr) changed[linear->weight().name] = linear;
  }
  std::vector<StoredTensor> tensors;
  for (const Parameter& p : pieces.store.all()) {
    if (is_adapter_parameter(p)) continue;
    const auto found = changed.find(p.name);
    tensors.push_back(
        merged_tensor(pieces, p, found == changed.end() ? nullptr : found->second, dtype));
  }
  return tensors;
}

std::string config_text(const fs::path& file, const StoredType& type) {
  const std::string text = read_file(file, kMaxConfig);
  if (*type.file == '\0') return text;
  Json json = parse_json(text, file.string());
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (json.contains(key)) json[key] = type.option;
  }
  return dump_json(json, 2) + "\n";
}

std::vector<int32_t> sample_ids(const Options& options, const LlamaConfig& config) {
  const std::string text =
      options.text.empty() ? kSample : read_file(options.text, size_t{1} << 20);
  std::vector<int32_t> ids = load_tokenizer_for(config, options.model)->encode(text);
  const int64_t most = std::min<int64_t>(256, config.max_position_embeddings);
  if (static_cast<int64_t>(ids.size()) > most) ids.resize(static_cast<size_t>(most));
  if (ids.empty()) fail(ErrorKind::usage, "--text: ", options.text, " holds no text");
  return ids;
}

// The logits of a folder's model, with the adapter when one is given.
OwnedTensor logits_of(const fs::path& folder, const std::string& adapter,
                      std::span<const int32_t> ids) {
  const LlamaConfig config = read_llama_config(folder / "config.json");
  ParameterStore store(DType::f32, stored_matrix_type(SafetensorsFolder(folder)));
  Llama model(config, store, Training::frozen, static_cast<int64_t>(ids.size()));
  if (!adapter.empty()) attach_adapters(read_adapter_config(adapter), store, model.linears());
  store.allocate();
  load_weights(store, config, folder);
  if (!adapter.empty()) load_adapter(adapter, store);
  return sequence_logits(model, store, ids, *make_cpu_backend());
}

// Whether all weights of the merged model are F32: only then nothing was rounded.
bool is_exact(const SafetensorsFolder& folder) {
  for (const auto& [name, file] : folder.tensors()) {
    if (file->info(name).dtype != "F32") return false;
  }
  return true;
}

void verify(const Options& options, const fs::path& merged, const LlamaConfig& config) {
  const std::vector<int32_t> ids = sample_ids(options, config);
  const OwnedTensor expected = logits_of(options.model, options.adapter, ids),
                    found = logits_of(merged, "", ids);
  double difference = 0, largest = 0;
  for (size_t i = 0; i < expected.as<float>().size(); ++i) {
    const auto e = static_cast<double>(expected.as<float>()[i]),
               f = static_cast<double>(found.as<float>()[i]);
    difference = std::max(difference, std::isfinite(e - f) ? std::fabs(e - f) : INFINITY);
    largest = std::max(largest, std::fabs(e));
  }
  const bool exact = is_exact(SafetensorsFolder(merged));
  std::printf("logits over %zu tokens: largest difference %.3g, largest logit %.3g%s\n", ids.size(),
              difference, largest,
              exact ? "" : " (weights rounded to a half-precision type; float32 would be exact)");
  // Half precision moves weights by up to 2^-9 of their size; logits must still be near.
  const double bound = exact ? 1e-4 : 0.1;
  if (difference <= bound * largest) return;
  fail(ErrorKind::numerical, "the merged model differs by ", difference / largest,
       " of the largest logit, more than ", bound, "; nothing was written");
}

int merge(const Options& options) {
  const StoredType* type = std::ranges::find(kTypes, options.dtype, &StoredType::option);
  const uint64_t shard = size_of_text(options.max_shard_size);
  FolderDraft folder(options.out);
  Pieces pieces(options.model, options.adapter);
  check_base(pieces);
  copy_tokenizer(options.model, folder.path());
  write_file_atomically(folder.path() / "config.json",
                        config_text(fs::path(options.model) / "config.json", *type));
  write_safetensors_folder(folder.path(), merged_tensors(pieces, type->file), shard);
  verify(options, folder.path(), pieces.config);
  folder.commit();
  std::printf("merged into %s\n", options.out.c_str());
  return 0;
}

}  // namespace

std::function<int()> declare_merge(CLI::App& command) {
  const auto options = std::make_shared<Options>();
  command.add_option("--model", options->model, "the base model's folder")->required();
  command.add_option("--adapter", options->adapter, "the adapter's folder")->required();
  command.add_option("--out", options->out, "the folder to make; new or empty")->required();
  command.add_option("--dtype", options->dtype, "type of the weights; stored: as in the base")
      ->capture_default_str()
      ->check(CLI::IsMember({"stored", "float32", "float16", "bfloat16"}));
  command.add_option("--max-shard-size", options->max_shard_size, "largest file of weights")
      ->capture_default_str();
  command.add_option("--text", options->text, "a text to compare the logits on");
  return [options] { return merge(*options); };
}

}  // namespace mora::apps
