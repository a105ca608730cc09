// Folders that are complete or absent: the one place through which checkpoints reach the disk.
//
// Files are written into a temporary folder; commit() writes MANIFEST.json last (sizes and SHA-256
// of every file, and of itself), flushes everything, and renames. A folder under its final name is
// therefore whole, after any crash.
#pragma once

#include <filesystem>
#include <map>
#include <string>

namespace mora {

inline constexpr const char* kManifestName = "MANIFEST.json";

class FolderCommit {
 public:
  // Makes `.tmp-<name>-<random>` in parent, which must exist. Error(io) if parent/name exists
  // already.
  FolderCommit(const std::filesystem::path& parent, const std::string& name);
  FolderCommit(const FolderCommit&) = delete;
  FolderCommit& operator=(const FolderCommit&) = delete;
  ~FolderCommit();  // removes the temporary folder unless committed

  // Write regular files here, and folders of them.
  const std::filesystem::path& path() const { return temporary_; }

  // Makes the folder appear as parent/name, durably. `manifest_extra` maps further keys of the
  // manifest to JSON text. Returns the final path. Error(io) if parent/name has appeared meanwhile;
  // the temporary is removed then.
  std::filesystem::path commit(const std::map<std::string, std::string>& manifest_extra = {});

 private:
  std::filesystem::path parent_;
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

// Checks the manifest's own hash, its magic and version, and the presence, size and SHA-256 of
// every file; a file that the manifest does not list is refused too. Returns the manifest's text.
// Error(data) names the file at fault.
std::string verify_folder(const std::filesystem::path& path);

// Removes a folder made by FolderCommit: first under another name, so that it is never seen half
// removed. Error(data) if its manifest does not carry this program's mark; the rest of it may be
// damaged.
void remove_folder(const std::filesystem::path& path);

// Removes what a dead process left in parent: only names of this module's own pattern (.tmp-*,
// .trash-* with 16 hexadecimal digits), never through links. Call it while holding the lock of the
// output folder.
void remove_stale_temporaries(const std::filesystem::path& parent);

}  // namespace mora
