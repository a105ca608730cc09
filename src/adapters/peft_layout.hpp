// PEFT's names for tensors and the key set of its configuration, for those who write or read its
// files.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "mora/config/run_config.hpp"

namespace mora::adapters {

// <prefix><path of the layer><suffix>
inline constexpr std::string_view kPrefix = "base_model.model.";
inline constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight",
                                  kMagnitude = ".lora_magnitude_vector";

// Our own metadata about the base: AdapterBase::sha256 and AdapterBase::sample.
inline constexpr const char *kBaseHash = "base_hash", *kBaseSample = "mora.base_sample";

// How often a run had merged its adapter into its base: AdapterBase::merges.
inline constexpr const char* kMerges = "mora.merges";

// Of settings of MoRA that the authors' code does not have: AdapterConfig::scale, ::cover and
// ::grouping_seed.
inline constexpr const char *kScale = "mora.scale", *kCover = "mora.cover",
                            *kGroupingSeed = "mora.grouping_seed";

// adapter_config.json: the key set of the authors' fork (peft 0.9.0 and two keys); LoRA leaves the
// fork's two keys out. Sorts its keys, as PEFT does.
nlohmann::json peft_config(const AdapterConfig& config, const std::string& base_model);

}  // namespace mora::adapters
