#include "mora/adapters/adapter_folder.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "adapters/module_rules.hpp"
#include "adapters/peft_layout.hpp"
#include "mora/adapters/files.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace fs = std::filesystem;

using adapters::kA;
using adapters::kB;
using adapters::kPrefix;

namespace {

constexpr std::string_view kWeight = ".weight";

bool has_weights(const fs::path& folder) {
  std::error_code none;
  return fs::is_regular_file(folder / "model.safetensors", none) ||
         fs::is_regular_file(folder / "model.safetensors.index.json", none);
}

}  // namespace

AdapterFolder::AdapterFolder(const fs::path& folder, const fs::path& model)
    : config_(read_adapter_config(folder)) {
  if (!model.empty()) {
    base_.emplace(model);
  } else if (has_weights(base_name())) {
    base_.emplace(base_name());
  }
  const SafetensorsFile file(adapter_tensors(folder));
  for (const std::string& path : layer_paths(file)) add_layer(file, path);
  declare_replaced(file);
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

void AdapterFolder::update_of(const Linear& layer, const Tensor& out) const {
  OwnedTensor weight;
  if (config_.use_dora) {
    weight = OwnedTensor({DType::f64, layer.weight().shape}, Fill::none);
    const SafetensorsFile& file = base_->file_of(layer.weight().name);
    file.read(layer.weight().name, weight.view());
    file.release(layer.weight().name);
  }
  delta_weight(layer, weight.view(), out);
}

// Of the layers that the file has, and those of the base that the configuration means.
std::vector<std::string> AdapterFolder::layer_paths(const SafetensorsFile& file) const {
  std::set<std::string> paths;
  for (const auto& entry : file.tensors()) {
    const std::string_view name = entry.first;
    if (!name.starts_with(kPrefix) || !name.ends_with(kA)) continue;
    if (name.size() <= kPrefix.size() + kA.size()) continue;
    paths.emplace(name.substr(kPrefix.size(), name.size() - kPrefix.size() - kA.size()));
  }
  if (paths.empty())
    fail(ErrorKind::data, printable(file.path().string()), ": holds no LoRA of a linear layer");
  if (base_) {
    const adapters::ModuleRules rules(config_);
    for (const auto& [name, from] : base_->tensors()) {
      if (!name.ends_with(kWeight) || from->info(name).shape.size() != 2) continue;
      const std::string path = name.substr(0, name.size() - kWeight.size());
      if (rules.config_of(path)) paths.insert(path);
    }
  }
  std::vector<std::string> sorted(paths.begin(), paths.end());
  std::ranges::sort(sorted, counts_before);
  return sorted;
}

// Their shapes are the base's, so that others do not fit. Without a base any do.
void AdapterFolder::declare_replaced(const SafetensorsFile& file) {
  std::set<std::string> declared;
  for (const Linear& linear : layers_) declared.insert(linear.weight().name);
  const auto declare = [&](const std::string& name, std::span<const int64_t> shape) {
    if (declared.insert(name).second) store_.declare(name, Shape(shape), {}, Training::frozen);
  };
  for (const auto& [name, info] : file.tensors()) {
    if (!name.starts_with(kPrefix) || name.find(".lora_") != name.npos) continue;
    const std::string own = name.substr(kPrefix.size());
    if (declared.contains(own) || (base_ && !base_->contains(own))) continue;
    if (info.shape.size() > Shape::kMaxRank) {
      fail(ErrorKind::data, printable(file.path().string()), ": tensor \"", printable(name),
           "\" is ", info, ", expected no more than ", Shape::kMaxRank, " dimensions");
    }
    declare(own, base_ ? base_->info(own).shape : info.shape);
    replaced_.push_back(own);
  }
  std::ranges::sort(replaced_, counts_before);
  // A model without this tensor would have its output tied to the embedding.
  const std::string output = "lm_head.weight";
  if (!base_) declare(output, std::array<int64_t, 2>{1, 1});
  if (base_ && base_->contains(output)) declare(output, base_->info(output).shape);
}

void AdapterFolder::add_layer(const SafetensorsFile& file, const std::string& path) {
  const std::string name = str(kPrefix, path), weight = str(path, kWeight);
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
  } else if (config_.method == "mora" || config_.use_dora) {
    fail(ErrorKind::usage, printable(file.path().string()),
         config_.use_dora ? ": DoRA's update depends on the base's weights"
                          : ": MoRA's matrices do not say which shapes the layers have",
         ", and the base \"", printable(base_name()),
         "\" is no folder with weights here; give it with --model");
  }
  layers_.emplace_back(Scope(store_, path), in, out, Init{}, Training::frozen);
}

}  // namespace mora
