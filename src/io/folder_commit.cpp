// The commit protocol: files, then the manifest, then fsync of all, then one rename, then fsync of
// the parent. At every moment the final name stands for nothing or for a whole folder.
#include "mora/io/folder_commit.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "io/json.hpp"
#include "io/system.hpp"
#include "mora/io/sha256.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

constexpr const char* kMagic = "mora-checkpoint";
constexpr int64_t kFormatVersion = 1;
constexpr size_t kMaxManifest = size_t{16} << 20;
constexpr std::string_view kTemporary = ".tmp-";
constexpr std::string_view kTrash = ".trash-";
constexpr std::string_view kHashBefore = ",\n  \"manifest_sha256\": \"";
constexpr std::string_view kHashAfter = "\"\n}\n";
constexpr std::string_view kEnd = "\n}\n";
constexpr size_t kHashDigits = 64;

// Regular files of a folder and of the folders in it, by path from there; anything else in it is an
// error of the kind given.
std::set<std::string> list_files(const fs::path& folder, ErrorKind kind) {
  std::set<std::string> names;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (fs::is_directory(entry->symlink_status())) continue;
    if (!fs::is_regular_file(entry->symlink_status())) {
      fail(kind, shown(entry->path()), ": not a regular file; a checkpoint holds nothing else");
    }
    names.insert(entry->path().lexically_relative(folder).generic_string());
  }
  if (error) fail_system(kind, "list", folder, error.value());
  return names;
}

// The deepest first.
void sync_folders_in(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory()) sync_folders_in(entry.path());
  }
  sync_folder(folder);
}

// Names of the path that lead into the folder and nowhere else: "base/config.json".
bool stays_inside(const std::string& name) {
  const fs::path path(name);
  return !name.empty() && !path.has_root_path() &&
         std::ranges::none_of(path, [](const fs::path& part) {
           return part.empty() || part == "." || part == "..";
         });
}

// The manifest's last member is the hash of the text without that member.
std::string with_hash(std::string text) {
  const std::string hash = sha256_hex(text);
  text.resize(text.size() - kEnd.size());
  return text.append(kHashBefore).append(hash).append(kHashAfter);
}

bool has_right_hash(std::string_view text) {
  constexpr size_t kTail = kHashBefore.size() + kHashDigits + kHashAfter.size();
  if (text.size() < kTail) return false;
  const std::string_view tail = text.substr(text.size() - kTail);
  if (!tail.starts_with(kHashBefore) || !tail.ends_with(kHashAfter)) return false;
  const std::string body = std::string(text.substr(0, text.size() - kTail)) + std::string(kEnd);
  return sha256_hex(body) == tail.substr(kHashBefore.size(), kHashDigits);
}

std::string manifest_text(const fs::path& folder, const std::map<std::string, std::string>& extra) {
  Json manifest = {
      {"magic", kMagic}, {"format_version", kFormatVersion}, {"program_version", MORA_VERSION}};
  for (const auto& [key, text] : extra) {
    ensure(!manifest.contains(key) && key != "files" && key != "manifest_sha256", "manifest key \"",
           key, "\" is taken");
    manifest[key] = parse_json(text, "manifest field " + key, {.kind = ErrorKind::internal});
  }
  Json files = Json::array();
  for (const std::string& name : list_files(folder, ErrorKind::io)) {
    const fs::path path = folder / name;
    files.push_back(
        {{"name", name}, {"size", fs::file_size(path)}, {"sha256", sha256_of_file(path)}});
  }
  manifest["files"] = std::move(files);
  return with_hash(dump_json(manifest, 2) + "\n");
}

// Renames without replacing anything; where the file system cannot, looks first.
int rename_to_free_name(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  struct stat status {};
  if (::lstat(to.c_str(), &status) == 0) return EEXIST;
  return ::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

[[noreturn]] void fail_exists(const fs::path& target) {
  fail(ErrorKind::io, "cannot commit ", shown(target), ": it exists already");
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail_system(ErrorKind::io, "remove", path, error.value());
}

bool is_own_temporary(std::string_view name) {
  constexpr size_t kDigits = 16;
  const std::string_view prefix = name.starts_with(kTemporary) ? kTemporary : kTrash;
  if (!name.starts_with(prefix) || name.size() < prefix.size() + 2 + kDigits) return false;
  const std::string_view tail = name.substr(name.size() - kDigits - 1);
  return tail[0] == '-' &&
         tail.substr(1).find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

void check_file(const fs::path& path, const JsonView& entry) {
  std::error_code error;
  if (!fs::is_regular_file(fs::symlink_status(path, error))) {
    fail(ErrorKind::data, shown(path), ": missing, although ", kManifestName, " lists it");
  }
  const int64_t size = entry.at("size").integer();
  const auto found = fs::file_size(path, error);
  if (error) fail_system(ErrorKind::io, "examine", path, error.value());
  if (size < 0 || found != static_cast<uintmax_t>(size)) {
    fail(ErrorKind::data, shown(path), ": has ", found, " bytes, ", kManifestName, " says ", size);
  }
  if (sha256_of_file(path) != entry.at("sha256").string()) {
    fail(ErrorKind::data, shown(path), ": damaged (its SHA-256 is not that in ", kManifestName,
         ")");
  }
}

}  // namespace

FolderCommit::FolderCommit(const fs::path& parent, const std::string& name)
    : parent_(parent), target_(parent / name) {
  ensure(!name.empty() && name[0] != '.' && name.find('/') == std::string::npos, "\"",
         printable(name), "\" is no name for a checkpoint folder");
  struct stat status {};
  if (::lstat(target_.c_str(), &status) == 0) fail_exists(target_);
  const fs::path temporary = parent / (std::string(kTemporary) + name + "-" + random_suffix());
  if (::mkdir(temporary.c_str(), 0777) != 0) fail_system(ErrorKind::io, "make folder", temporary);
  temporary_ = temporary;
}

FolderCommit::~FolderCommit() {
  if (committed_) return;
  std::error_code ignored;  // what cannot be removed now is stale for remove_stale_temporaries()
  fs::remove_all(temporary_, ignored);
}

fs::path FolderCommit::commit(const std::map<std::string, std::string>& manifest_extra) {
  ensure(!committed_, "folder committed twice");
  const std::set<std::string> names = list_files(temporary_, ErrorKind::io);
  ensure(!names.contains(kManifestName), kManifestName, " is written by commit()");
  for (const std::string& name : names) sync_file(temporary_ / name);
  write_file_atomically(temporary_ / kManifestName, manifest_text(temporary_, manifest_extra));
  sync_folders_in(temporary_);
  const int error = rename_to_free_name(temporary_, target_);
  if (error == EEXIST || error == ENOTEMPTY) fail_exists(target_);
  if (error != 0) fail_system(ErrorKind::io, "rename the finished folder to", target_, error);
  committed_ = true;
  sync_folder(parent_);
  return target_;
}

std::string verify_folder(const fs::path& path) {
  const fs::path manifest_path = path / kManifestName;
  std::error_code error;
  if (!fs::is_regular_file(fs::symlink_status(manifest_path, error))) {
    fail(ErrorKind::data, shown(path), ": no ", kManifestName, ", so no complete checkpoint");
  }
  std::string text = read_file(manifest_path, kMaxManifest);
  if (!has_right_hash(text)) {
    fail(ErrorKind::data, shown(manifest_path), ": damaged (its own hash is wrong or missing)");
  }
  const Json json = parse_json(text, manifest_path.string());
  const JsonView manifest(json, manifest_path.string());
  if (manifest.at("magic").string() != kMagic) {
    manifest.at("magic").wrong(str("expected \"", kMagic, "\""));
  }
  const int64_t version = manifest.at("format_version").integer();
  if (version != kFormatVersion) {
    manifest.at("format_version")
        .wrong(str("is ", version, "; this program reads version ", kFormatVersion));
  }
  std::set<std::string> extra = list_files(path, ErrorKind::data);
  extra.erase(kManifestName);
  for (const JsonView& entry : manifest.at("files").items()) {
    const std::string name = entry.at("name").string();
    if (!stays_inside(name)) entry.at("name").wrong("does not lead to a file in the folder");
    check_file(path / name, entry);
    extra.erase(name);
  }
  if (!extra.empty()) {
    fail(ErrorKind::data, shown(path / *extra.begin()), ": not listed in ", kManifestName,
         "; remove it");
  }
  return text;
}

void remove_folder(const fs::path& path) {
  const fs::path manifest_path = path / kManifestName;
  const Json json = parse_json(read_file(manifest_path, kMaxManifest), manifest_path.string());
  const JsonView magic = JsonView(json, manifest_path.string()).at("magic");
  if (magic.string() != kMagic) magic.wrong(str("expected \"", kMagic, "\"; folder not removed"));
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const fs::path trash =
      parent / (std::string(kTrash) + path.filename().string() + "-" + random_suffix());
  const int error = rename_to_free_name(path, trash);
  if (error != 0) fail_system(ErrorKind::io, "rename", path, error);
  sync_folder(parent);
  remove_tree(trash);
}

void remove_stale_temporaries(const fs::path& parent) {
  std::vector<fs::path> stale;
  std::error_code error;
  for (fs::directory_iterator entry(parent, error), end; !error && entry != end;
       entry.increment(error)) {
    const fs::file_status status = entry->symlink_status();
    const bool ours = fs::is_directory(status) || fs::is_regular_file(status);
    if (ours && is_own_temporary(entry->path().filename().string())) stale.push_back(*entry);
  }
  if (error) fail_system(ErrorKind::io, "list", parent, error.value());
  for (const fs::path& path : stale) remove_tree(path);
}

}  // namespace mora
