// One rename: it takes the place of an empty folder, too, and fails if anything is in it.
#include "mora/io/folder_draft.hpp"

#include <cstdio>
#include <system_error>

#include "io/system.hpp"
#include "mora/io/file.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

// "a/b/" is b in a.
fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

FolderDraft::FolderDraft(const fs::path& target)
    : target_(without_slash(fs::absolute(target).lexically_normal())) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(target_, error);
  const bool free =
      !fs::exists(status) || (fs::is_directory(status) && fs::is_empty(target_, error));
  if (!free || error == std::errc::permission_denied) {
    fail(ErrorKind::usage, shown(target_),
         ": exists and is no empty folder; name a new one for the output");
  }
  temporary_ =
      target_.parent_path() / str(".tmp-", target_.filename().string(), "-", random_suffix());
  if (!fs::create_directory(temporary_, error)) {
    fail_system(ErrorKind::io, "make folder", temporary_, error.value());
  }
}

FolderDraft::~FolderDraft() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(temporary_, ignored);
}

void FolderDraft::commit() {
  sync_folder(temporary_);
  if (std::rename(temporary_.c_str(), target_.c_str()) != 0) {
    fail_system(ErrorKind::io, "rename the finished folder to", target_);
  }
  committed_ = true;
  sync_folder(target_.parent_path());
}

}  // namespace mora
