// Files through the system's own calls, every result checked: a write error may surface only at
// fsync or close.
#include "mora/io/file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <system_error>
#include <utility>

#include "io/system.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

// What the person who named the input can put right; anything else is the system's trouble.
ErrorKind input_error_kind(int error) {
  switch (error) {
    case ENOENT:
    case EACCES:
    case EPERM:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case ENXIO:
      return ErrorKind::data;
    default:
      return ErrorKind::io;
  }
}

struct stat status_of(const FileHandle& file, const fs::path& path) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail_system(ErrorKind::io, "examine", path);
  return status;
}

void write_full(const FileHandle& file, const fs::path& path, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(file.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_system(ErrorKind::io, "write", path);
    if (n == 0) fail_system(ErrorKind::io, "write", path, ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

void close_checked(FileHandle file, const fs::path& path) {
  // EINTR has closed the descriptor on Linux; fsync has reported what could fail before.
  if (::close(file.release()) != 0 && errno != EINTR) fail_system(ErrorKind::io, "close", path);
}

FileHandle open_for_sync(const fs::path& path, int flags) {
  FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags));
  if (file.get() < 0) fail_system(ErrorKind::io, "open", path);
  return file;
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

}  // namespace

std::string shown(const fs::path& path) {
  return printable(path.string(), 4096);
}

void fail_system(ErrorKind kind, std::string_view operation, const fs::path& path, int error) {
  fail(kind, "cannot ", operation, " ", shown(path), ": ", std::generic_category().message(error));
}

FileHandle create_exclusively(const fs::path& path) {
  FileHandle file(::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (file.get() < 0) fail_system(ErrorKind::io, "create", path);
  return file;
}

size_t read_full(const FileHandle& file, const fs::path& path, std::span<std::byte> buffer) {
  size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t n = ::read(file.get(), buffer.data() + done, buffer.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_system(input_error_kind(errno), "read", path);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

FileHandle::FileHandle(FileHandle&& other) noexcept : descriptor_(other.release()) {}

FileHandle& FileHandle::operator=(FileHandle&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

FileHandle::~FileHandle() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

int FileHandle::release() {
  return std::exchange(descriptor_, -1);
}

FileHandle open_input(const fs::path& path) {
  FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) fail_system(input_error_kind(errno), "open", path);
  return file;
}

std::string read_file(const fs::path& path, size_t max_bytes) {
  const FileHandle file = open_input(path);
  std::string bytes;
  constexpr size_t kPiece = size_t{1} << 20;
  while (bytes.size() <= max_bytes) {
    const size_t before = bytes.size();
    bytes.resize(before + kPiece);
    const size_t n =
        read_full(file, path, std::as_writable_bytes(std::span(bytes)).subspan(before));
    bytes.resize(before + n);
    if (n < kPiece && bytes.size() <= max_bytes) return bytes;
  }
  fail(ErrorKind::data, shown(path), ": file is larger than the ", max_bytes,
       " bytes allowed here");
}

MappedFile::MappedFile(const fs::path& path, Access access) : path_(path) {
  // Without O_NONBLOCK, opening a pipe would wait for a writer before fstat can refuse it.
  FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) fail_system(input_error_kind(errno), "open", path);
  const struct stat status = status_of(file, path);
  if (!S_ISREG(status.st_mode)) fail(ErrorKind::data, shown(path), ": not a regular file");
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;  // a map of nothing is refused by the system
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) fail_system(ErrorKind::io, "map", path);
  data_ = static_cast<const std::byte*>(data);
  // Only a hint: the map serves without it.
  ::madvise(data, size_, access == Access::sequential ? MADV_SEQUENTIAL : MADV_RANDOM);
  file_ = std::move(file);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::move(other.file_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::span<const std::byte> part) const {
  static const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = static_cast<size_t>(part.data() - data_), end = begin + part.size();
  const size_t first = (begin + page - 1) / page * page, last = end / page * page;
  // A hint as well: the pages are clean, so nothing can be lost.
  if (first < last) ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

void MappedFile::copy(size_t offset, std::span<std::byte> into) const {
  ensure(offset <= size_ && into.size() <= size_ - offset, "copy beyond the end of ", shown(path_));
  while (!into.empty()) {
    const ssize_t n = ::pread(file_.get(), into.data(), into.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_system(ErrorKind::io, "read", path_);
    if (n == 0) fail(ErrorKind::data, shown(path_), ": has become shorter while it was read");
    offset += static_cast<size_t>(n);
    into = into.subspan(static_cast<size_t>(n));
  }
}

AtomicFile::AtomicFile(fs::path path)
    : path_(std::move(path)),
      temporary_(folder_of(path_) / (".tmp-" + path_.filename().string() + "-" + random_suffix())),
      handle_(create_exclusively(temporary_)) {}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write_full(handle_, path_, bytes);
}

void AtomicFile::commit() {
  ensure(!temporary_.empty(), "AtomicFile committed twice");
  // A failed fsync is final: the system may have dropped the bytes, and a second call would report
  // success.
  if (::fsync(handle_.get()) != 0) fail_system(ErrorKind::io, "flush to disk", path_);
  close_checked(std::move(handle_), path_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail_system(ErrorKind::io, "rename the finished file to", path_);
  }
  temporary_.clear();
  sync_folder(folder_of(path_));
}

void write_file_atomically(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void sync_file(const fs::path& path) {
  FileHandle file = open_for_sync(path, O_NOFOLLOW);
  if (::fsync(file.get()) != 0) fail_system(ErrorKind::io, "flush to disk", path);
  close_checked(std::move(file), path);
}

void sync_folder(const fs::path& path) {
  FileHandle folder = open_for_sync(path, O_DIRECTORY);
  // EINVAL: this file system has nothing to flush for a folder.
  if (::fsync(folder.get()) != 0 && errno != EINVAL) {
    fail_system(ErrorKind::io, "flush to disk", path);
  }
  close_checked(std::move(folder), path);
}

std::string random_suffix() {
  uint64_t bits = 0;
  if (::getrandom(&bits, sizeof bits, 0) != static_cast<ssize_t>(sizeof bits)) {
    fail_system(ErrorKind::io, "get random bytes for", "a temporary name");
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(bits));
  return text;
}

FileLock::FileLock(const fs::path& file)
    : handle_(::open(file.c_str(), O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0666)) {
  if (handle_.get() < 0) fail_system(ErrorKind::io, "open", file);
  int result = 0;
  do {
    result = ::flock(handle_.get(), LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return;
  if (errno != EWOULDBLOCK) fail_system(ErrorKind::io, "lock", file);
  fail(ErrorKind::locked, shown(folder_of(file)),
       ": another run is using this folder; wait for it to end or choose another one");
}

}  // namespace mora
