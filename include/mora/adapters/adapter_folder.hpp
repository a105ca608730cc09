// An adapter folder opened without a model: one layer for each matrix that it changes, holding
// nothing but the adapter (in f64), as the algebra of updates wants it, and the names of the
// tensors that it replaces.
#pragma once

#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "mora/adapters/adapters.hpp"
#include "mora/io/safetensors_folder.hpp"

namespace mora {

class AdapterFolder {
 public:
  // Which base it was trained on: `model` unless empty, else base_model_name_or_path where that is
  // a folder with weights. MoRA's matrices do not tell which layers they are for, and DoRA's update
  // depends on the base's weights, so that without a base they are Error(usage). Other errors as
  // read_adapter_config and load_adapter; that a layer is missing is seen with a base only.
  AdapterFolder(const std::filesystem::path& folder, const std::filesystem::path& model);

  const AdapterConfig& config() const { return config_; }
  const std::string& base_name() const { return config_.file.base_model; }
  const SafetensorsFolder* base() const { return base_ ? &*base_ : nullptr; }
  const std::deque<Linear>& layers() const { return layers_; }  // sorted as numbers count
  // The layer's change of the weight into `out` [out, in], f64.
  void update_of(const Linear& layer, const Tensor& out) const;
  // Tensors of the base ("model.norm.weight") that the file has whole (modules_to_save).
  const std::vector<std::string>& replaced() const { return replaced_; }

 private:
  std::vector<std::string> layer_paths(const SafetensorsFile& file) const;
  void add_layer(const SafetensorsFile& file, const std::string& path);
  void declare_replaced(const SafetensorsFile& file);

  AdapterConfig config_;
  std::optional<SafetensorsFolder> base_;
  ParameterStore store_{DType::f64};
  std::deque<Linear> layers_;
  std::vector<std::string> replaced_;
};

}  // namespace mora
