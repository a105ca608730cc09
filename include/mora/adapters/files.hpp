// Adapter folders in PEFT's layout: adapter_config.json and adapter_model.safetensors.
//
// LoRA files load in stock PEFT. MoRA files have exactly the keys of the authors' fork (lora_A =
// lora_B = M, mora_type); what the fork has no number for (decoupling, truncation) stands in the
// tensor file's metadata, which wins on reading.
#pragma once

#include <filesystem>
#include <string>

#include "mora/config/run_config.hpp"
#include "mora/nn/parameter.hpp"

namespace mora {

// Writes both files into an existing folder. `base_model` is noted as base_model_name_or_path.
void save_adapter(const std::filesystem::path& folder, const AdapterConfig& config,
                  const ParameterStore& store, const std::string& base_model);

// What kind of adapter a folder holds. Error(data) for anything that this program cannot apply
// exactly.
AdapterConfig read_adapter_config(const std::filesystem::path& folder);

// Fills the store's adapter parameters. Lists all missing, unexpected and wrongly shaped tensors in
// one Error(data).
void load_adapter(const std::filesystem::path& folder, ParameterStore& store);

}  // namespace mora
