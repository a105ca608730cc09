#include "report/contents.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "mora/core/parallel.hpp"
#include "mora/io/file.hpp"
#include "mora/io/folder_commit.hpp"
#include "mora/io/sha256.hpp"
#include "mora/io/text.hpp"
#include "mora/train/checkpoint.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

constexpr const char* kOptimizer = "optimizer.safetensors";  // of a checkpoint

bool is_file(const fs::path& path) {
  std::error_code none;
  return fs::is_regular_file(path, none);
}

bool is_gguf(const fs::path& path) {
  const MappedFile map(path);
  return map.bytes().size() >= 4 && std::memcmp(map.bytes().data(), "GGUF", 4) == 0;
}

int64_t count_not_finite(const TensorRows& rows) {
  if (rows.row == 0) return 0;
  std::atomic<int64_t> count = 0;
  constexpr int64_t kTogether = 16;
  parallel_pieces(rows.rows, kTogether, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(rows.row));
    for (int64_t i = begin; i < end; ++i) {
      rows.read(i, row);
      count += std::ranges::count_if(row, [](float v) { return !std::isfinite(v); });
    }
  });
  return count;
}

// Doubles may be too large for the floats of TensorRows.
int64_t count_not_finite_doubles(std::span<const std::byte> bytes) {
  int64_t count = 0;
  for (size_t i = 0; i + sizeof(double) <= bytes.size(); i += sizeof(double)) {
    double value;
    std::memcpy(&value, bytes.data() + i, sizeof value);
    count += !std::isfinite(value);
  }
  return count;
}

template <class T>
T number_in(const GgufValue& value) {
  T number;
  std::memcpy(&number, value.bytes.data(), sizeof number);
  return number;
}

std::string text_of(const GgufFile& file, const std::string& key, const GgufValue& value) {
  switch (value.type) {
    case GgufType::string:
      return printable(file.text(key));
    case GgufType::array:
      return str("[", value.count, " x ", value.element, "]");
    case GgufType::boolean:
      return file.boolean(key) ? "true" : "false";
    // These may be more than real() and integer() give: NaN, or beyond 63 bits.
    case GgufType::f32:
      return str(number_in<float>(value));
    case GgufType::f64:
      return str(number_in<double>(value));
    case GgufType::u64:
      return str(number_in<uint64_t>(value));
    default:
      return str(file.integer(key));
  }
}

}  // namespace

int64_t ContentTensor::elements() const {
  int64_t product = 1;
  for (const int64_t n : shape) product *= n;  // the readers have checked it
  return product;
}

void Contents::add(const SafetensorsFile& file) {
  for (const auto& [name, info] : file.tensors()) {
    ContentTensor t{.name = name,
                    .file = file.path().filename().string(),
                    .dtype = info.dtype,
                    .of_optimizer = file.path().filename() == kOptimizer,
                    .shape = info.shape,
                    .bytes = info.end - info.begin,
                    .readable = info.dtype == "F32" || info.dtype == "F16" || info.dtype == "BF16",
                    .rows = [&file, name = name] { return rows_of(file, name); },
                    .not_finite = [] { return int64_t{0}; }};
    if (t.readable) {
      t.not_finite = [&file, name = name] {
        const int64_t count = count_not_finite(rows_of(file, name));
        file.release(name);
        return count;
      };
    } else if (info.dtype == "F64") {
      t.not_finite = [&file, name = name] { return count_not_finite_doubles(file.bytes(name)); };
    }
    tensors_.push_back(std::move(t));
  }
}

void Contents::add(const GgufFile& file) {
  for (const auto& [name, tensor] : file.tensors()) {
    const auto rows = [&file, name = name] { return rows_of(file, name); };
    const bool readable = tensor.type->unpack != nullptr;
    tensors_.push_back({.name = name,
                        .file = file.path().filename().string(),
                        .dtype = std::string(tensor.type->name),
                        .of_optimizer = false,
                        .shape = tensor.shape,
                        .bytes = tensor.bytes,
                        .readable = readable,
                        .rows = rows,
                        .not_finite = [rows, readable] {
                          return readable ? count_not_finite(rows()) : int64_t{0};
                        }});
  }
}

// What a folder is, by the files that make it so; a run's weights are in a folder of their own.
void Contents::open_folder() {
  const fs::path adapter = path_ / "adapter_model.safetensors";
  const bool run = is_file(path_ / "run_config.json");
  if (run) {
    std::error_code none;
    const bool full = fs::is_directory(path_ / "model", none);
    if (!full && !fs::is_directory(path_ / "adapter", none)) {
      fail(ErrorKind::data, printable(path_.string()),
           ": this run has left no weights yet; look at one of its checkpoints");
    }
    run_ = path_;
    path_ /= full ? "model" : "adapter";
    open_folder();
  } else if (is_file(path_ / "adapter_config.json") || is_file(adapter)) {
    kind_ = "adapter folder";
    add(safetensors_.emplace_back(adapter));
  } else {
    kind_ = "model folder";
    for (const SafetensorsFile& file : folders_.emplace_back(path_).files()) add(file);
  }
  const fs::path optimizer = path_ / kOptimizer;
  if (!run && is_file(optimizer)) add(safetensors_.emplace_back(optimizer));
}

Contents::Contents(const fs::path& path) : path_(path) {
  std::error_code none;
  if (fs::is_directory(path, none)) {
    open_folder();
  } else if (is_gguf(path)) {
    kind_ = "GGUF file";
    add(gguf_.emplace_back(path));
  } else {
    kind_ = "safetensors file";
    add(safetensors_.emplace_back(path));
  }
  std::ranges::sort(tensors_, counts_before, &ContentTensor::name);
  for (const ContentTensor& t : tensors_) by_name_[t.name] = &t;
}

const ContentTensor* Contents::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

Json Contents::run() const {
  if (run_.empty()) return nullptr;
  Json checkpoints = Json::array();
  for (const fs::path& checkpoint : list_checkpoints(run_ / "checkpoints"))
    checkpoints.push_back(checkpoint.filename().string());
  return {{"path", printable(run_.string(), 4096)}, {"checkpoints", std::move(checkpoints)}};
}

fs::path Contents::run_base() const {
  if (run_.empty() || is_adapter()) return {};
  std::error_code none;
  if (fs::is_directory(run_ / "initial_model", none)) return run_ / "initial_model";
  const std::string file = (run_ / "run_config.json").string();
  const Json config = parse_json(read_file(file, kMaxSettings), file, {.max_bytes = kMaxSettings});
  const JsonView model = JsonView(config, file).at("model");
  const fs::path base = model.has("path") ? model.at("path").string() : "";
  return fs::is_directory(base, none) ? base : fs::path();
}

std::string Contents::manifest() const {
  if (!is_file(path_ / kManifestName)) return "";
  try {
    verify_folder(path_);
    return "MANIFEST.json: whole, every file is as it was written";
  } catch (const Error& error) {
    return error.what();
  }
}

Json Contents::files() const {
  std::vector<fs::path> paths;
  std::error_code none;
  if (fs::is_directory(path_, none)) {
    for (const auto& entry : fs::directory_iterator(path_)) {
      if (entry.is_regular_file(none)) paths.push_back(entry.path());
    }
    std::ranges::sort(paths);
  } else {
    paths.push_back(path_);
  }
  std::map<fs::path, Json> metadata;
  const auto note = [&](const SafetensorsFile& file) { metadata[file.path()] = file.metadata(); };
  for (const SafetensorsFile& file : safetensors_) note(file);
  for (const SafetensorsFolder& folder : folders_) std::ranges::for_each(folder.files(), note);
  for (const GgufFile& file : gguf_) {
    Json& json = metadata[file.path()] = Json::object();
    for (const auto& [key, value] : file.metadata()) json[key] = text_of(file, key, value);
  }
  Json files = Json::array();
  for (const fs::path& path : paths) {
    Json json = {{"name", printable(path.filename().string())},
                 {"bytes", fs::file_size(path)},
                 {"sha256", sha256_of_file(path)}};
    if (metadata.contains(path)) json["metadata"] = metadata.at(path);
    files.push_back(std::move(json));
  }
  return files;
}

Json Contents::settings() const {
  const fs::path file = path_ / (is_adapter() ? "adapter_config.json" : "config.json");
  if (!is_file(file)) return nullptr;
  return parse_json(read_file(file, size_t{16} << 20), file.string());
}

}  // namespace mora
