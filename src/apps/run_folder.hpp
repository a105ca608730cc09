// The output folder of a run, locked for the whole of it.
#pragma once

#include <filesystem>
#include <optional>

#include "apps/train_run.hpp"
#include "mora/io/file.hpp"

namespace mora::apps {

// The weights that a run from scratch begins with: the base of its adapter, and what its updates
// are measured from.
inline constexpr const char* kInitial = "initial_model";

inline constexpr const char* kRunConfig = "run_config.json";

class RunFolder {
 public:
  // Makes and locks the folder, and removes an earlier run where `existing` says so. Error(usage)
  // or Error(io).
  RunFolder(const std::filesystem::path& path, Existing existing);

  // Error(usage) when the folder holds a run that may not be touched.
  static void check_free(const std::filesystem::path& path, Existing existing);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  bool finished() const { return std::filesystem::exists(path_ / "summary.json"); }

 private:
  void remove_earlier_run();

  std::filesystem::path path_;
  std::optional<FileLock> lock_;
};

}  // namespace mora::apps
