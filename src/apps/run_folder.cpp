#include "apps/run_folder.hpp"

#include "mora/io/folder_commit.hpp"
#include "mora/report/evaluation.hpp"
#include "mora/train/checkpoint.hpp"

namespace mora::apps {

namespace fs = std::filesystem;

RunFolder::RunFolder(const fs::path& path, Existing existing) : path_(path) {
  std::error_code error;
  fs::create_directories(path / "checkpoints", error);
  if (error)
    fail(ErrorKind::io, "cannot create ", (path / "checkpoints").string(), ": ", error.message());
  lock_.emplace(path / "LOCK");
  check_free(path, existing);
  const bool anew = list_checkpoints(checkpoints()).empty() && !finished();
  if (existing == Existing::replace || (existing == Existing::resume && anew)) remove_earlier_run();
  remove_stale_temporaries(path);
  remove_stale_temporaries(path / "checkpoints");
}

void RunFolder::check_free(const fs::path& path, Existing existing) {
  std::error_code none;
  if (existing != Existing::refuse || !fs::exists(path / "metrics.jsonl", none)) return;
  fail(ErrorKind::usage, path.string(),
       " already holds a run; --resume it, --overwrite it, or choose another output_dir");
}

// Only what a run writes, by name; whatever else lies there stays.
void RunFolder::remove_earlier_run() {
  for (const fs::path& checkpoint : list_checkpoints(checkpoints())) remove_folder(checkpoint);
  for (const char* folder : {"adapter", "model", kInitial}) {
    if (fs::exists(path_ / folder)) remove_folder(path_ / folder);
  }
  for (const char* file :
       {"summary.json", kRunConfig, "metrics.jsonl", "uuid_pairs.jsonl", "profile.json"})
    fs::remove(path_ / file);
  remove_evaluations(path_ / "eval");
}

}  // namespace mora::apps
