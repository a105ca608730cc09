// What must be the same for a run to go on as if it had never stopped.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "mora/config/run_config.hpp"
#include "mora/models/llama.hpp"
#include "mora/train/example_source.hpp"

namespace mora {

using Settings = std::map<std::string, std::string>;  // "train.learning_rate" -> "0.003"

// Of run_config.json and state.json: a configuration's 16 MiB, its paths made absolute.
inline constexpr size_t kMaxSettings = size_t{64} << 20;

struct RunIdentity {
  Settings settings;             // of the configuration, and of the model's config.json
  std::string data_sha256;       // of the training examples
  std::string base_sample = {};  // tensors_sample_sha256 of the model's folder; empty: none

  bool operator==(const RunIdentity&) const = default;
};

// All settings but those that change nothing in the weights: where results go, how often something
// is logged, saved or scored, and the number of threads.
RunIdentity identity_of(const RunConfig& config, const LlamaConfig& model,
                        const ExampleSource& data);

// Error(usage) naming all that is not the same as when `checkpoint` was made.
void check_identity(const std::filesystem::path& checkpoint, const RunIdentity& saved,
                    const RunIdentity& now);

// The same for a finished run that left no checkpoint, by its run_config.json.
void check_finished_run(const std::filesystem::path& run_config, const RunConfig& now);

}  // namespace mora
