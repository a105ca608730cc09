// A folder of ordinary files that appears under its name when it is complete: for conversions,
// whose result other programs read (a checkpoint of ours carries a manifest, see FolderCommit).
#pragma once

#include <filesystem>

namespace mora {

class FolderDraft {
 public:
  // Makes a temporary folder beside `target`, which must not exist or be an empty folder;
  // Error(usage) otherwise. The folder that `target` is in must exist.
  explicit FolderDraft(const std::filesystem::path& target);
  FolderDraft(const FolderDraft&) = delete;
  FolderDraft& operator=(const FolderDraft&) = delete;
  ~FolderDraft();  // removes the temporary folder unless committed

  const std::filesystem::path& path() const { return temporary_; }  // write files here

  // Puts the folder in its place, durably. Files must have been flushed by whoever wrote them, as
  // AtomicFile does. Error(io) if something has appeared there meanwhile.
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  bool committed_ = false;
};

}  // namespace mora
