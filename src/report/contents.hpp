// The tensors of a file or folder, wherever they come from, and the files around them.
#pragma once

#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io/json.hpp"
#include "mora/io/gguf.hpp"
#include "mora/io/safetensors_folder.hpp"
#include "mora/io/tensor_rows.hpp"

namespace mora {

struct ContentTensor {
  std::string name, file, dtype;
  bool of_optimizer = false;
  std::vector<int64_t> shape;
  uint64_t bytes = 0;
  bool readable = false;  // whether rows() works: floating point of a known kind
  std::function<TensorRows()> rows;
  std::function<int64_t()> not_finite;  // counts NaN and infinite values; 0 where there can be none

  int64_t elements() const;
};

class Contents {
 public:
  explicit Contents(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::string& kind() const { return kind_; }  // "adapter folder", "GGUF file", ...
  bool is_adapter() const { return kind_ == "adapter folder"; }
  const std::deque<ContentTensor>& tensors() const { return tensors_; }
  const ContentTensor* find(const std::string& name) const;  // null if there is none
  Json run() const;  // {path, checkpoints} where the path was a run's; else null
  // The model that a run with whole weights began with: its own initial_model/, or model.path of
  // its configuration; empty where it is not here, and for all other paths.
  std::filesystem::path run_base() const;
  std::string manifest() const;  // of a checkpoint: whether it is whole; empty elsewhere
  Json files() const;            // [{name, bytes, sha256, metadata}]; reads all of them
  Json settings() const;         // config.json or adapter_config.json; null if there is none

 private:
  void add(const SafetensorsFile& file);
  void add(const GgufFile& file);
  void open_folder();

  std::filesystem::path path_, run_;
  std::string kind_;
  std::deque<SafetensorsFile> safetensors_;
  std::deque<SafetensorsFolder> folders_;
  std::deque<GgufFile> gguf_;
  std::deque<ContentTensor> tensors_;  // as numbers count
  std::map<std::string, const ContentTensor*> by_name_;
};

}  // namespace mora
