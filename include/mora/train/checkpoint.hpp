// Checkpoints: complete folders that hold everything a run needs to go on.
//
//   <output_dir>/checkpoints/step-00000300/
//     adapter_config.json, adapter_model.safetensors   (or config.json, model.safetensors for full
//     training) optimizer.safetensors    exp_avg.<name> and exp_avg_sq.<name> of every trained
//     parameter state.json               step, tokens, seed MANIFEST.json            sizes and
//     SHA-256 of the others, written last
//
// Everything reaches the disk through FolderCommit: a folder under its final name is whole.
#pragma once

#include <filesystem>
#include <string>

#include "mora/config/run_config.hpp"
#include "mora/models/llama.hpp"

namespace mora {

struct TrainingState {
  int64_t step = 0;
  int64_t tokens = 0;
  uint64_t seed = 0;
};

// What is trained, for the writer: the model's own weights or an adapter.
struct TrainedModel {
  const LlamaConfig& model;
  const AdapterConfig& adapter;
  const ParameterStore& store;
  std::string base_model;           // noted in an adapter's configuration
  std::filesystem::path tokenizer;  // copied beside full weights; empty: none
};

// Writes the trained weights (not the optimizer) into an existing folder, as other programs load
// them. `dtype`: of full weights; adapters are always f32.
void save_trained(const std::filesystem::path& folder, const TrainedModel& trained, DType dtype);

// Commits <checkpoints>/step-<step> and returns its path.
std::filesystem::path save_checkpoint(const std::filesystem::path& checkpoints,
                                      const TrainedModel& trained, const TrainingState& state);

// Verifies a checkpoint's hashes, then fills weights and optimizer state. Error(data) names what
// does not fit; nothing is changed then.
TrainingState load_checkpoint(const std::filesystem::path& checkpoint, const TrainedModel& trained,
                              ParameterStore& store);

// The committed checkpoints of a run, oldest first.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& checkpoints);

// Removes the oldest checkpoints so that `keep` remain (0: all stay).
void prune_checkpoints(const std::filesystem::path& checkpoints, int64_t keep);

}  // namespace mora
