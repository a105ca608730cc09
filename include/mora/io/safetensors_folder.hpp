// The weights of a Hugging Face folder: one model.safetensors, or shards with
// model.safetensors.index.json. After construction every tensor is in exactly one open file, and
// the index and the shards agree.
#pragma once

#include <deque>
#include <filesystem>
#include <map>
#include <string>

#include "mora/io/safetensors.hpp"

namespace mora {

class SafetensorsFolder {
 public:
  // model.safetensors wins when both are there, as in transformers. Error(data) lists all shards
  // that are missing and all tensors that index and shards do not agree on; file names in the index
  // must be plain names inside the folder, and links must stay in it or lead to the blobs of a
  // Hugging Face cache.
  explicit SafetensorsFolder(const std::filesystem::path& folder);

  const std::filesystem::path& path() const { return path_; }  // of the single file, or the index
  const std::map<std::string, const SafetensorsFile*>& tensors() const { return tensors_; }
  const std::deque<SafetensorsFile>& files() const { return files_; }
  bool contains(const std::string& name) const { return tensors_.contains(name); }
  const SafetensorsFile& file_of(const std::string& name) const;  // Error(data) if there is none
  const TensorInfo& info(const std::string& name) const { return file_of(name).info(name); }

 private:
  void open_shards(const std::filesystem::path& folder);

  std::filesystem::path path_;
  std::deque<SafetensorsFile> files_;
  std::map<std::string, const SafetensorsFile*> tensors_;
};

// Writes model.safetensors, or, when the tensors are larger than max_shard_bytes together, shards
// in the order given and their index, named as transformers does. A tensor larger than that has a
// shard of its own. `folder` must hold no weights yet.
void write_safetensors_folder(const std::filesystem::path& folder,
                              std::span<const StoredTensor> tensors, uint64_t max_shard_bytes,
                              const std::map<std::string, std::string>& metadata = {});

// SHA-256 over the sorted names, types, shapes and the SHA-256 of the values of all tensors: the
// same however the model is cut into shards.
std::string tensors_sha256(const SafetensorsFolder& folder);

// As tensors_sha256, but over the first and last 4 KiB of each tensor only: a fraction of a second
// for any model. Tells other weights apart, but not a single changed value.
std::string tensors_sample_sha256(const SafetensorsFolder& folder);

}  // namespace mora
