// Checkpoints: complete folders that hold everything a run needs to go on.
//
//   <output_dir>/checkpoints/step-00000300/
//     adapter_config.json, adapter_model.safetensors
//                            (config.json, model.safetensors and the tokenizer for full training)
//     base/                  the whole model that the adapter belongs to, once a restarting run has
//                            merged earlier ones into it
//     optimizer.safetensors  exp_avg.<name> and exp_avg_sq.<name> of every trained parameter
//     state.json             TrainingState
//     MANIFEST.json          sizes and SHA-256 of the others, written last
//
// Everything reaches the disk through FolderCommit: a folder under its final name is whole.
#pragma once

#include <filesystem>

#include "mora/adapters/files.hpp"
#include "mora/models/llama.hpp"
#include "mora/train/run_identity.hpp"

namespace mora {

// Steps finished since the last line of the log.
struct LogWindow {
  double loss = 0, seconds = 0;  // sums
  int64_t steps = 0, tokens = 0;

  bool operator==(const LogWindow&) const = default;
};

// Where a run stands after a step.
struct TrainingState {
  int64_t step = 0;
  int64_t tokens = 0;
  double loss = 0;     // of the last step
  double seconds = 0;  // spent in steps
  LogWindow window;
  int64_t metrics_bytes = 0;  // length of metrics.jsonl
  RunIdentity identity;

  bool operator==(const TrainingState&) const = default;
};

// What is trained, for the writer: the model's own weights or an adapter.
struct TrainedModel {
  const LlamaConfig& model;
  const AdapterConfig& adapter;
  const ParameterStore& store;
  AdapterBase base;                 // noted in an adapter's files
  std::filesystem::path tokenizer;  // file or folder, copied beside full weights; empty: none
};

// Writes the trained weights (not the optimizer) into an existing folder, as other programs load
// them. `dtype`: of full weights; adapters are always f32. `scale`: of MoRA's files.
void save_trained(const std::filesystem::path& folder, const TrainedModel& trained, DType dtype,
                  MoraScale scale);

// Writes all weights, adapters apart, as a model's folder.
void save_whole(const std::filesystem::path& folder, const TrainedModel& trained, DType dtype);

// Commits <checkpoints>/step-<step> and returns its path.
std::filesystem::path save_checkpoint(const std::filesystem::path& checkpoints,
                                      const TrainedModel& trained, const TrainingState& state);

// Verifies a checkpoint's hashes and that it belongs to the run `identity`, then fills weights and
// optimizer state. Error(data) names what is damaged or does not fit, Error(usage) what was changed
// since; nothing is loaded then.
TrainingState load_checkpoint(const std::filesystem::path& checkpoint, const RunIdentity& identity,
                              const TrainedModel& trained, ParameterStore& store);

// The committed checkpoints of a run, oldest first.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& checkpoints);

// Removes the oldest checkpoints so that `keep` remain (0: all stay).
void prune_checkpoints(const std::filesystem::path& checkpoints, int64_t keep);

}  // namespace mora
