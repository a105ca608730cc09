// Files: whole reads, lines (plain or gzip), read-only maps, locks, and writes that are on the disk
// or did not happen.
//
// Every error names the operation, the path and the system's reason. An input that is missing or
// unreadable is ErrorKind::data; a failing device, a full disk or a refused write is ErrorKind::io.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace mora {

// A file descriptor that closes itself. close() reports what a destructor cannot.
class FileHandle {
 public:
  FileHandle() = default;
  explicit FileHandle(int descriptor) : descriptor_(descriptor) {}
  FileHandle(FileHandle&& other) noexcept;
  FileHandle& operator=(FileHandle&& other) noexcept;
  ~FileHandle();

  int get() const { return descriptor_; }
  int release();

 private:
  int descriptor_ = -1;
};

// Opens an input for reading; errors as above.
FileHandle open_input(const std::filesystem::path& path);

// The whole file. A file of more than max_bytes is Error(data).
std::string read_file(const std::filesystem::path& path, size_t max_bytes);

// Calls line(number, text) for each line, numbers from 1. A path that ends in ".gz" is read through
// zlib (several members may follow each other; a torn or corrupt one is Error(data)). A final "\r"
// and a byte-order mark at the start of the file are removed; a last line without "\n" counts. A
// line above 64 MiB is Error(data). The text is valid during the call only; whether it is UTF-8 is
// for the caller to check.
void read_lines(const std::filesystem::path& path,
                const std::function<void(int64_t number, std::string_view text)>& line);

// A regular file mapped read-only. Its bytes stay valid while the object lives.
class MappedFile {
 public:
  enum class Access { sequential, random };

  explicit MappedFile(const std::filesystem::path& path, Access access = Access::sequential);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }

  // Gives back the memory of the pages that lie wholly within `part` of bytes(); what is read again
  // comes from the file. For those who go through files larger than the memory.
  void release(std::span<const std::byte> part) const;

  // Copies the bytes from `offset` on without mapping their pages: for what is kept elsewhere and
  // must not be in memory twice. May be called from several threads. Error(data) if the file has
  // become shorter.
  void copy(size_t offset, std::span<std::byte> into) const;

 private:
  std::filesystem::path path_;
  FileHandle file_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// A new file that appears under its name only when commit() has put all of it on the disk: a
// temporary in the same folder, fsync, rename over the old file, fsync of the folder. Without
// commit() nothing remains.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  FileHandle handle_;
};

void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

// Flushes to the disk what a file holds, or which names a folder holds.
void sync_file(const std::filesystem::path& path);
void sync_folder(const std::filesystem::path& path);

// 16 random hexadecimal digits from the system, for names of temporaries.
std::string random_suffix();

// An exclusive lock on `file` (created if missing, never deleted) for the life of the object; the
// system drops it when the process ends, however it ends. Error(locked) names the folder if another
// process holds it.
class FileLock {
 public:
  explicit FileLock(const std::filesystem::path& file);

 private:
  FileHandle handle_;
};

}  // namespace mora
