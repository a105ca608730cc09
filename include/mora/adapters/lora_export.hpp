// An adapter as PEFT's plain LoRA of scale 1: what every program that knows LoRA can load.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mora/adapters/adapter_folder.hpp"
#include "mora/adapters/low_rank.hpp"

namespace mora {

// One layer's update b a. `factors` is called when the tensors are written, twice.
struct LoraLayer {
  std::string path;
  int64_t out = 0, in = 0, rank = 0;
  double norm = 0, error = 0;  // Frobenius: of the update, of what the rank leaves out
  std::function<LowRank()> factors;
};

// All layers, exactly (rank 0) or cut to at most `rank`. They refer to the adapter. Error(usage)
// where the method has no factors and no rank is given; Error(data) for numbers that are not
// finite.
std::vector<LoraLayer> lora_layers(const AdapterFolder& adapter, int64_t rank);

// Writes both files into an existing folder, in F32, lora_alpha = r. The most frequent rank is r,
// others stand in rank_pattern and alpha_pattern. Which layers are meant, and the tensors that are
// replaced (modules_to_save), are copied from `source`, the folder of the adapter.
void save_lora(const std::filesystem::path& folder, const AdapterFolder& adapter,
               const std::filesystem::path& source, const std::vector<LoraLayer>& layers);

}  // namespace mora
