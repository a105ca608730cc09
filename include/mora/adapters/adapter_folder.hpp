// An adapter folder opened without a model: one layer for each matrix that it changes, holding
// nothing but the adapter (in f64), as the algebra of updates wants it.
#pragma once

#include <deque>
#include <filesystem>
#include <optional>

#include "mora/adapters/adapters.hpp"
#include "mora/io/safetensors_folder.hpp"

namespace mora {

class AdapterFolder {
 public:
  // Which base it was trained on: `model` unless empty, else base_model_name_or_path where that is
  // a folder with weights. MoRA's matrices do not tell which layers they are for, so that without a
  // base they are Error(usage). Other errors as read_adapter_config and load_adapter.
  AdapterFolder(const std::filesystem::path& folder, const std::filesystem::path& model);

  const AdapterConfig& config() const { return config_; }
  const std::string& base_name() const { return base_name_; }  // as the adapter has it
  const SafetensorsFolder* base() const { return base_ ? &*base_ : nullptr; }
  const std::deque<Linear>& layers() const { return layers_; }  // sorted as numbers count

 private:
  void add_layer(const SafetensorsFile& file, const std::string& path);

  AdapterConfig config_;
  std::string base_name_;
  std::optional<SafetensorsFolder> base_;
  ParameterStore store_{DType::f64};
  std::deque<Linear> layers_;
};

}  // namespace mora
