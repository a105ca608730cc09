// A file is a header, the contents of TokenData, notes, and a footer with sizes and hashes:
//
//   "moratok\n", format version, bytes of an id (u32 each)        16 bytes
//   ids, mask, ends (TokenLayout)
//   notes
//   tokens, sequences, bytes of the mask, bytes of the notes      u64 each
//   key, SHA-256 of the contents, SHA-256 of all before but the contents   64 hexadecimal digits
//   each
//
// All numbers are little-endian. It appears under its name whole (AtomicFile); two runs that make
// it at once write the same bytes, and the later rename wins.
#include "mora/data/token_cache.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <optional>
#include <vector>

#include "mora/core/error.hpp"
#include "mora/core/parallel.hpp"
#include "mora/io/file.hpp"
#include "mora/text/tokenizer.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

static_assert(std::endian::native == std::endian::little, "token caches are little-endian");

constexpr std::string_view kMagic = "moratok\n";
// To be raised when the same data and settings become other tokens than before.
constexpr uint32_t kFormat = 2;
constexpr size_t kHexBytes = 64;
constexpr size_t kHeaderBytes = 16, kFooterBytes = 4 * 8 + 3 * kHexBytes;
constexpr uint64_t kMaxCount = uint64_t{1} << 48;  // of anything: sums stay far from overflow

template <class T>
T number_at(std::span<const std::byte> bytes, size_t offset) {
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <class T>
void append_number(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string header_of(uint64_t id_bytes) {
  std::string header(kMagic);
  append_number(header, kFormat);
  append_number(header, static_cast<uint32_t>(id_bytes));
  return header;
}

struct Opened {
  TokenData data;
  std::string notes;
};

// Error(data) says what is wrong with the file.
class CacheReader {
 public:
  CacheReader(const fs::path& path, int32_t vocab_size)
      : path_(path),
        file_(std::make_shared<MappedFile>(path, MappedFile::Access::random)),
        bytes_(file_->bytes()),
        vocab_size_(vocab_size) {}

  Opened read(const std::string& key) {
    if (bytes_.size() < kHeaderBytes + kFooterBytes) wrong("it is too short");
    const std::string header = header_of(id_bytes_of(vocab_size_));
    if (text_of(bytes_.first(kHeaderBytes)) != header) wrong("it does not begin as one");
    read_footer(key);
    const auto contents = bytes_.subspan(kHeaderBytes, static_cast<size_t>(layout_.bytes()));
    check_contents(contents);
    TokenData data(file_, contents, layout_, content_hash_);
    check_sequences(data);
    return {std::move(data), std::string(text_of(notes_))};
  }

 private:
  [[noreturn]] void wrong(std::string_view problem) const {
    fail(ErrorKind::data, path_.string(), ": not a whole token cache: ", problem);
  }

  void read_footer(const std::string& key) {
    const auto footer = bytes_.last(kFooterBytes);
    layout_ = {.tokens = number_at<uint64_t>(footer, 0),
               .sequences = number_at<uint64_t>(footer, 8),
               .id_bytes = id_bytes_of(vocab_size_),
               .mask_bytes = number_at<uint64_t>(footer, 16)};
    const auto notes = number_at<uint64_t>(footer, 24);
    if (std::max({layout_.tokens, layout_.sequences, layout_.mask_bytes, notes}) > kMaxCount ||
        (layout_.mask_bytes != 0 && layout_.mask_bytes != (layout_.tokens + 7) / 8) ||
        kHeaderBytes + layout_.bytes() + notes + kFooterBytes != bytes_.size())
      wrong("its sizes do not fit together");
    notes_ = bytes_.subspan(kHeaderBytes + static_cast<size_t>(layout_.bytes()),
                            static_cast<size_t>(notes));
    Sha256 hash;
    hash.update(bytes_.first(kHeaderBytes));
    hash.update(notes_);
    hash.update(footer.first(kFooterBytes - kHexBytes));
    if (hash.hex() != text_of(footer.last(kHexBytes))) wrong("its footer was changed");
    if (text_of(footer.subspan(32, kHexBytes)) != key) wrong("it is that of other data");
    content_hash_ = text_of(footer.subspan(32 + kHexBytes, kHexBytes));
  }

  void check_contents(std::span<const std::byte> contents) const {
    if (token_data_sha256(contents, layout_) != content_hash_) wrong("its contents were changed");
  }

  // The hashes say that somebody wrote just this, not that it was us.
  void check_sequences(const TokenData& data) const {
    uint64_t before = 0;
    for (const uint64_t end : data.ends()) {
      if (end <= before || end > layout_.tokens) wrong("its sequences overlap");
      before = end;
    }
    if (before != layout_.tokens) wrong("it has tokens of no sequence");
    const TokenSpan ids = data.range(0, data.tokens()).tokens;
    std::atomic<bool> known = true;
    parallel_pieces(data.tokens(), int64_t{1} << 20, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int32_t id = ids[static_cast<size_t>(i)];
        if (id < 0 || id >= vocab_size_) known = false;
      }
    });
    if (!known) wrong("it has ids beyond the vocabulary");
  }

  fs::path path_;
  std::shared_ptr<MappedFile> file_;
  std::span<const std::byte> bytes_, notes_;
  int32_t vocab_size_;
  TokenLayout layout_;
  std::string content_hash_;
};

// Temporaries of runs that were killed while they made this file; younger ones may be in use.
void remove_old_temporaries(const fs::path& path) {
  const std::string prefix = ".tmp-" + path.filename().string();
  const auto old = fs::file_time_type::clock::now() - std::chrono::hours(24);
  std::error_code ignored;  // what stays is only a waste of space
  for (fs::directory_iterator entry(path.parent_path(), ignored), end; !ignored && entry != end;
       entry.increment(ignored)) {
    if (!entry->path().filename().string().starts_with(prefix)) continue;
    const auto written = fs::last_write_time(entry->path(), ignored);
    if (!ignored && written < old) fs::remove(entry->path(), ignored);
  }
}

// Makes the file. Error(io) where that cannot be done.
void write_cache(const fs::path& path, const std::string& key, int32_t vocab_size,
                 const FillTokens& fill) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error)
    fail(ErrorKind::io, "cannot create ", path.parent_path().string(), ": ", error.message());
  remove_old_temporaries(path);
  AtomicFile file(path);
  const std::string header = header_of(id_bytes_of(vocab_size));
  file.write(header);
  TokenWriter writer(vocab_size, [&](std::span<const std::byte> bytes) { file.write(bytes); });
  const std::string notes = fill(writer);
  const TokenWriter::Written written = writer.finish();
  std::string footer;
  for (const uint64_t n : {written.layout.tokens, written.layout.sequences,
                           written.layout.mask_bytes, uint64_t{notes.size()}})
    append_number(footer, n);
  footer += key + written.sha256;
  footer += sha256_hex(header + notes + footer);
  file.write(notes);
  file.write(footer);
  file.commit();
}

std::optional<Opened> open_cache(const fs::path& path, const std::string& key, int32_t vocab_size,
                                 std::string& problem) {
  std::error_code none;
  if (!fs::exists(path, none)) return {};
  try {
    return CacheReader(path, vocab_size).read(key);
  } catch (const Error& e) {
    problem = e.what();
    return {};
  }
}

CachedTokens in_memory(int32_t vocab_size, const FillTokens& fill, std::string origin) {
  CachedTokens made{.data = {}, .notes = {}, .origin = std::move(origin)};
  made.data = collect_tokens(vocab_size, [&](TokenWriter& writer) { made.notes = fill(writer); });
  return made;
}

}  // namespace

TokenKey::TokenKey(std::string_view kind, const fs::path& files, const Tokenizer& tokenizer) {
  const auto id = [](std::optional<int32_t> token) { return token ? str(*token) : "none"; };
  add("format", str(kFormat));
  add("program", MORA_VERSION);
  add("kind", kind);
  add("tokenizer", tokenizer_sha256(files));
  add("vocabulary", str(tokenizer.vocab_size()));
  add("bos", id(tokenizer.bos()));
  add("eos", id(tokenizer.eos()));
  add("adds_bos", tokenizer.adds_bos() ? "yes" : "no");
}

void TokenKey::add(std::string_view name, std::string_view value) {
  hash_.update(str(name.size(), ":", name, value.size(), ":"));
  hash_.update(value);
}

void TokenKey::add_files(std::span<const fs::path> files) {
  std::vector<std::string> hashes(files.size());
  std::vector<std::exception_ptr> errors(files.size());
  parallel_for(static_cast<int64_t>(files.size()), [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    try {
      hashes[at] = sha256_of_file(files[at]);
    } catch (...) {
      errors[at] = std::current_exception();
    }
  });
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  for (size_t i = 0; i < files.size(); ++i) {
    const bool zipped = files[i].extension() == ".gz";
    add("file", str((zipped ? files[i].stem() : files[i]).extension().string(),
                    zipped ? ".gz " : " ", hashes[i]));
  }
}

std::string TokenKey::hex() {
  return hash_.hex();
}

CachedTokens cached_tokens(const fs::path& folder, const std::string& key, int32_t vocab_size,
                           const FillTokens& fill) {
  if (folder.empty()) return in_memory(vocab_size, fill, "");
  const fs::path path = folder / str("tokens-", key.substr(0, 24), ".bin");
  std::string damage;
  auto opened = open_cache(path, key, vocab_size, damage);
  if (opened)
    return {std::move(opened->data), std::move(opened->notes),
            str("tokens: as kept in ", path.string(), "\n")};
  std::string warning = damage.empty() ? "" : str("warning: ", damage, "; made anew\n");
  damage.clear();
  try {
    write_cache(path, key, vocab_size, fill);
    opened = open_cache(path, key, vocab_size, damage);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::io) throw;
    damage = e.what();
  }
  if (!opened) {
    warning += str("warning: the tokens cannot be kept: ", damage,
                   "; name another data.cache_dir, or \"\" for none\n");
    return in_memory(vocab_size, fill, std::move(warning));
  }
  return {std::move(opened->data), std::move(opened->notes),
          str(warning, "tokens: kept in ", path.string(), " for the next run\n")};
}

}  // namespace mora
