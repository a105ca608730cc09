// Safetensors files: a strict reader over a memory map and a writer that never exists half-written.
//
// The reader trusts nothing: after construction every tensor lies inside the file, no two overlap,
// no byte is unaccounted for, and every size has been computed without overflow.
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

#include "mora/core/tensor.hpp"
#include "mora/io/file.hpp"

namespace mora {

struct TensorInfo {
  std::string dtype;           // the file's own name: "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;  // up to 8 dimensions
  uint64_t begin = 0;          // bytes within the data section
  uint64_t end = 0;
};

std::ostream& operator<<(std::ostream& out, const TensorInfo& info);  // "BF16[4, 128]"

class SafetensorsFile {
 public:
  // Error(data) names the file and the fault if any rule of the format is broken. Stricter than the
  // format's reference: duplicate or unknown keys, ranks above 8, and names that are empty, longer
  // than 512 bytes or hold control characters are refused.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool contains(const std::string& name) const { return tensors_.contains(name); }

  // Error(data) naming file and tensor if there is none of that name.
  const TensorInfo& info(const std::string& name) const;

  // The tensor's bytes in the map, little-endian and not necessarily aligned.
  std::span<const std::byte> bytes(const std::string& name) const;

  // Gives back the memory of the pages of a tensor, or of a part of its bytes
  // (MappedFile::release).
  void release(const std::string& name) const { map_.release(bytes(name)); }
  void release(std::span<const std::byte> part) const { map_.release(part); }

  // Reads a tensor into `into`, whose shape must equal the file's; takes no memory but `into`'s and
  // a few KiB. F32, F16, BF16 and F64 convert to f32, bf16, f16 and f64 (rounding to nearest even
  // where the target is narrower); I32 goes into i32 only. Anything else is Error(data).
  void read(const std::string& name, const Tensor& into) const;

 private:
  std::filesystem::path path_;
  MappedFile map_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
  size_t data_begin_ = 0;
};

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

using ByteSink = std::function<void(std::span<const std::byte>)>;

// A tensor to be written, in any type of the format; its bytes are asked for when their turn comes,
// so that a model never needs to be in memory as a whole.
struct StoredTensor {
  std::string name;
  std::string dtype;                           // the file's own name: "F16", ...
  std::vector<int64_t> shape;                  // no negative size
  std::function<void(const ByteSink&)> write;  // gives stored_bytes() bytes, in pieces as it likes
};

uint64_t stored_bytes(const StoredTensor& tensor);
StoredTensor stored(const NamedTensor& named);  // refers to the tensor's memory

// Writes the tensors atomically (AtomicFile), widest elements first, then by name; "format": "pt"
// joins the metadata. Names must be distinct. The tensors' bytes are streamed, not copied.
void write_safetensors(const std::filesystem::path& path, std::span<const StoredTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace mora
