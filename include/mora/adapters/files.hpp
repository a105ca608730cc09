// Adapter folders in PEFT's layout: adapter_config.json and adapter_model.safetensors.
//
// LoRA files load in stock PEFT. MoRA files have exactly the keys of the authors' fork (lora_A =
// lora_B = M, mora_type); what the fork has no number for (decoupling, truncation, random groups, a
// scale) stands in the tensor file's metadata, which wins on reading, under a key that makes the
// fork refuse it.
#pragma once

#include <filesystem>
#include <string>

#include "mora/config/run_config.hpp"
#include "mora/io/safetensors_folder.hpp"
#include "mora/nn/parameter.hpp"

namespace mora {

// The model that an adapter was trained on, as its files name it.
struct AdapterBase {
  std::string name;         // base_model_name_or_path
  std::string sha256;       // tensors_sha256 of its weights, metadata "base_hash"; empty: not noted
  std::string sample = {};  // tensors_sample_sha256, metadata "mora.base_sample"; empty: not noted
  int64_t merges = 0;       // that a run had made into it, metadata "mora.merges"
};

// MoRA's scale, which the fork does not have: multiplied into the matrices, so that every program
// computes the same, or kept apart, so that a run goes on with the same bits; then the fork refuses
// the files.
enum class MoraScale { folded, kept };

// Writes both files into an existing folder: the adapter and the model's own trained parameters
// (modules_to_save). `config` is a run's own.
void save_adapter(const std::filesystem::path& folder, const AdapterConfig& config,
                  const ParameterStore& store, const AdapterBase& base, MoraScale scale);

// What kind of adapter a folder holds, with PEFT's rules for which modules are meant. Error(data)
// names file and key of anything that this program cannot apply exactly.
AdapterConfig read_adapter_config(const std::filesystem::path& folder);

// False when the adapter's files note a sample of other weights than `base` holds. Looks at a few
// KiB of each tensor; merging compares all of them.
bool may_belong_to(const std::filesystem::path& adapter, const SafetensorsFolder& base);

// Whether the folder that a configuration was read from has the tensors that the store's adapter
// parameters and modules_to_save ask for, before memory is given to them. Lists all missing,
// unexpected and wrongly shaped tensors in one Error(data).
void check_adapter(const AdapterConfig& config, const ParameterStore& store);

// Fills the store's adapter parameters, and the model's own that the folder replaces
// (modules_to_save) where these have memory. Errors as check_adapter, and, unless they are to be
// kept, Error(data) for numbers that are not finite.
enum class NonFinite { refuse, keep };
void load_adapter(const std::filesystem::path& folder, ParameterStore& store,
                  NonFinite non_finite = NonFinite::refuse);

// Where a folder's tensors are: adapter_model.safetensors.
std::filesystem::path adapter_tensors(const std::filesystem::path& folder);

// What a parameter is called there: "base_model.model.<name>".
std::string adapter_tensor_name(const std::string& parameter);

}  // namespace mora
