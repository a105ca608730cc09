#include "mora/adapters/adapter_folder.hpp"

#include <algorithm>
#include <set>

#include "adapters/peft_layout.hpp"
#include "io/json.hpp"
#include "mora/adapters/files.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace fs = std::filesystem;

using adapters::kA;
using adapters::kB;
using adapters::kPrefix;

namespace {

std::string base_name_in(const fs::path& folder) {
  const fs::path file = folder / "adapter_config.json";
  const Json document = parse_json(read_file(file, size_t{16} << 20), file.string());
  const JsonView json(document, file.string());
  return json.has("base_model_name_or_path") ? json.at("base_model_name_or_path").string() : "";
}

bool has_weights(const fs::path& folder) {
  std::error_code none;
  return fs::is_regular_file(folder / "model.safetensors", none) ||
         fs::is_regular_file(folder / "model.safetensors.index.json", none);
}

std::vector<std::string> layer_paths(const SafetensorsFile& file) {
  std::vector<std::string> paths;
  for (const auto& entry : file.tensors()) {
    const std::string_view name = entry.first;
    if (!name.starts_with(kPrefix) || !name.ends_with(kA)) continue;
    if (name.size() <= kPrefix.size() + kA.size()) continue;
    paths.emplace_back(name.substr(kPrefix.size(), name.size() - kPrefix.size() - kA.size()));
  }
  if (paths.empty())
    fail(ErrorKind::data, printable(file.path().string()), ": holds no LoRA of a linear layer");
  std::ranges::sort(paths, counts_before);
  return paths;
}

}  // namespace

AdapterFolder::AdapterFolder(const fs::path& folder, const fs::path& model)
    : config_(read_adapter_config(folder)), base_name_(base_name_in(folder)) {
  if (!model.empty()) {
    base_.emplace(model);
  } else if (has_weights(base_name_)) {
    base_.emplace(base_name_);
  }
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  for (const std::string& path : layer_paths(file)) add_layer(file, path);
  std::vector<Linear*> linears;
  for (Linear& linear : layers_) linears.push_back(&linear);
  attach_adapters(config_, store_, linears);
  for (const Linear& linear : layers_) {
    if (linear.adapter() != nullptr) continue;
    fail(ErrorKind::data, printable(file.path().string()), ": ", printable(linear.path()),
         " is none of the target_modules of the adapter's configuration");
  }
  store_.allocate_trained();
  load_adapter(folder, store_, NonFinite::keep);  // who looks into it wants to see them
}

void AdapterFolder::add_layer(const SafetensorsFile& file, const std::string& path) {
  const std::string name = str(kPrefix, path), weight = path + ".weight";
  const TensorInfo &a = file.info(str(name, kA)), &b = file.info(str(name, kB));
  const auto require_matrix = [](const fs::path& where, const std::string& tensor,
                                 const TensorInfo& info) {
    if (info.shape.size() == 2 && info.shape[0] > 0 && info.shape[1] > 0) return;
    fail(ErrorKind::data, printable(where.string()), ": tensor \"", printable(tensor), "\" is ",
         info, ", expected a matrix");
  };
  require_matrix(file.path(), str(name, kA), a);
  require_matrix(file.path(), str(name, kB), b);
  int64_t in = a.shape[1], out = b.shape[0];
  if (base_) {
    const TensorInfo& info = base_->info(weight);
    require_matrix(base_->path(), weight, info);
    out = info.shape[0], in = info.shape[1];
  } else if (config_.method == "mora") {
    fail(ErrorKind::usage, printable(file.path().string()),
         ": MoRA's matrices do not say which shapes the layers have, and the base \"",
         printable(base_name_), "\" is no folder with weights here; give it with --model");
  }
  layers_.emplace_back(Scope(store_, path), in, out, Init{}, Training::frozen);
}

}  // namespace mora
