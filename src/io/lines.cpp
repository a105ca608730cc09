// Lines of plain and gzip files, in memory that is bounded by the longest line allowed.
#include <zlib.h>

#include <cstring>
#include <memory>
#include <vector>

#include "io/system.hpp"
#include "mora/io/file.hpp"

namespace mora {

namespace {

constexpr size_t kPiece = size_t{1} << 18;
constexpr size_t kMaxLine = size_t{64} << 20;

// Pieces of the input; an empty piece is its end.
class Source {
 public:
  explicit Source(const std::filesystem::path& path) : path_(path), file_(open_input(path)) {}
  virtual ~Source() = default;
  virtual std::string_view next() { return read(); }

 protected:
  std::string_view read() {
    const size_t n = read_full(file_, path_, std::as_writable_bytes(std::span(input_)));
    return {input_.data(), n};
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  FileHandle file_;
  std::vector<char> input_ = std::vector<char>(kPiece);
};

class GzipSource : public Source {
 public:
  explicit GzipSource(const std::filesystem::path& path) : Source(path) {
    constexpr int kGzipOnly = 15 + 16;
    if (inflateInit2(&stream_, kGzipOnly) != Z_OK) fail(ErrorKind::memory, "zlib: out of memory");
  }
  ~GzipSource() override { inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  std::string_view next() override {
    while (true) {
      if (stream_.avail_in == 0 && !refill()) return {};
      if (member_ended_) {
        inflateReset(&stream_);
        member_ended_ = false;
      }
      stream_.next_out = reinterpret_cast<Bytef*>(output_.data());
      stream_.avail_out = static_cast<uInt>(output_.size());
      const int result = inflate(&stream_, Z_NO_FLUSH);
      if (result == Z_STREAM_END) {
        member_ended_ = true;
      } else if (result != Z_OK && result != Z_BUF_ERROR) {
        fail(ErrorKind::data, shown(path()), ": corrupt gzip data",
             stream_.msg == nullptr ? "" : str(" (", stream_.msg, ")"));
      }
      const size_t made = output_.size() - stream_.avail_out;
      if (made > 0) return {output_.data(), made};
    }
  }

 private:
  // False at the end of a whole file.
  bool refill() {
    const std::string_view piece = read();
    if (piece.empty() && !member_ended_) {
      fail(ErrorKind::data, shown(path()), ": gzip data end in the middle; the file is incomplete");
    }
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));
    stream_.avail_in = static_cast<uInt>(piece.size());
    return !piece.empty();
  }

  z_stream stream_{};
  std::vector<char> output_ = std::vector<char>(kPiece);
  bool member_ended_ = false;
};

class LineSplitter {
 public:
  LineSplitter(const std::filesystem::path& path,
               const std::function<void(int64_t, std::string_view)>& line)
      : path_(path), line_(line) {}

  void feed(std::string_view piece) {
    while (!piece.empty()) {
      const void* found = std::memchr(piece.data(), '\n', piece.size());
      if (found == nullptr) {
        append(piece);
        return;
      }
      const auto length = static_cast<size_t>(static_cast<const char*>(found) - piece.data());
      if (pending_.empty()) {
        emit(piece.substr(0, length));
      } else {
        append(piece.substr(0, length));
        emit(pending_);
        pending_.clear();
      }
      piece.remove_prefix(length + 1);
    }
  }

  void finish() {
    if (!pending_.empty()) emit(pending_);
  }

 private:
  void append(std::string_view text) {
    if (text.size() > kMaxLine - pending_.size()) {
      fail(ErrorKind::data, shown(path_), ":", number_, ": line is longer than ", kMaxLine >> 20,
           " MiB");
    }
    pending_ += text;
  }

  void emit(std::string_view text) {
    if (number_ == 1 && text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
    if (text.ends_with('\r')) text.remove_suffix(1);
    line_(number_, text);
    ++number_;
  }

  const std::filesystem::path& path_;
  const std::function<void(int64_t, std::string_view)>& line_;
  std::string pending_;
  int64_t number_ = 1;
};

}  // namespace

void read_lines(const std::filesystem::path& path,
                const std::function<void(int64_t number, std::string_view text)>& line) {
  std::unique_ptr<Source> source;
  if (path.extension() == ".gz") {
    source = std::make_unique<GzipSource>(path);
  } else {
    source = std::make_unique<Source>(path);
  }
  LineSplitter splitter(path, line);
  for (auto piece = source->next(); !piece.empty(); piece = source->next()) splitter.feed(piece);
  splitter.finish();
}

}  // namespace mora
