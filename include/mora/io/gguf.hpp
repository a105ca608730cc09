// GGUF files: a strict reader over a memory map and a writer that never exists half-written.
//
// The reader trusts nothing: after construction every value and tensor lies inside the file, in the
// order and at the places that the format prescribes, and nothing was allocated that the file's
// size does not cover. Shapes are row-major as everywhere here; the file has them reversed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mora/io/file.hpp"
#include "mora/io/ggml_types.hpp"
#include "mora/io/safetensors.hpp"

namespace mora {

// Types of metadata values, with the file's numbers.
enum class GgufType : uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64
};
std::ostream& operator<<(std::ostream& out, GgufType type);

// A value as it lies in the map; for an array the type and number of its elements.
struct GgufValue {
  GgufType type = GgufType::u8;
  GgufType element = GgufType::u8;  // equal to type unless an array
  uint64_t count = 1;
  std::span<const std::byte> bytes;  // of the elements
};

struct GgufTensor {
  const GgmlType* type = nullptr;
  std::vector<int64_t> shape;  // at most 4 dimensions
  uint64_t begin = 0;          // bytes within the data section
  uint64_t bytes = 0;

  int64_t row() const { return shape.empty() ? 1 : shape.back(); }
};

std::ostream& operator<<(std::ostream& out, const GgufTensor& tensor);  // "Q4_K[4, 128]"

class GgufFile {
 public:
  // Error(data) names the file and the fault if any rule of the format is broken. Versions 2 and 3,
  // little-endian. Stricter than the format's reference: keys and names are UTF-8 without control
  // characters, and no byte may follow the last tensor's padding.
  explicit GgufFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  uint32_t version() const { return version_; }
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  bool has(std::string_view key) const { return metadata_.contains(key); }

  // A value by its key. Error(data) naming file and key if there is none, or of another kind.
  // Integers of every width are taken, F32 and F64 as well. Texts stay valid with the file.
  int64_t integer(std::string_view key) const;
  double real(std::string_view key) const;
  bool boolean(std::string_view key) const;
  std::string_view text(std::string_view key) const;
  std::vector<int64_t> integers(std::string_view key) const;
  std::vector<double> reals(std::string_view key) const;
  std::vector<std::string_view> texts(std::string_view key) const;

  [[noreturn]] void wrong(std::string_view key, std::string_view problem) const;

  const std::map<std::string, GgufTensor, std::less<>>& tensors() const { return tensors_; }
  bool contains(std::string_view name) const { return tensors_.contains(name); }
  const GgufTensor& tensor(std::string_view name) const;  // Error(data) if there is none
  std::span<const std::byte> bytes(std::string_view name) const;

  // The values of row `row` (of the last dimension) into `into`, which has exactly its size.
  // Error(data) names a type that this program does not read.
  void read_row(const GgufTensor& tensor, int64_t row, std::span<float> into) const;
  void require_readable(std::string_view name) const;

 private:
  const GgufValue& value(std::string_view key) const;

  std::filesystem::path path_;
  MappedFile map_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::map<std::string, GgufTensor, std::less<>> tensors_;
  uint32_t version_ = 0;
  uint64_t data_begin_ = 0;
};

// Metadata to be written, in the order in which they are added. Keys must be distinct.
class GgufMetadata {
 public:
  void add_u32(std::string_view key, uint32_t value);
  void add_f32(std::string_view key, float value);
  void add_bool(std::string_view key, bool value);
  void add_text(std::string_view key, std::string_view value);
  void add_i32s(std::string_view key, std::span<const int32_t> values);
  void add_f32s(std::string_view key, std::span<const float> values);
  void add_texts(std::string_view key, std::span<const std::string> values);

  uint64_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }

 private:
  void key(std::string_view name, GgufType type);
  void array(std::string_view name, GgufType element, size_t count);

  std::string bytes_;
  uint64_t count_ = 0;
};

// A tensor to be written; its bytes are asked for when their turn comes.
struct StoredGgufTensor {
  std::string name;  // shorter than 64 bytes
  const GgmlType* type = nullptr;
  std::vector<int64_t> shape;                  // row-major, 1 to 4 dimensions
  std::function<void(const ByteSink&)> write;  // exactly the type's bytes, in pieces as it likes
};

// Writes version 3 atomically (AtomicFile), tensors in the order given, names distinct.
void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                std::span<const StoredGgufTensor> tensors);

}  // namespace mora
