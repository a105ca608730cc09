#include "mora/io/safetensors_folder.hpp"

#include <algorithm>
#include <cstdio>

#include "io/json.hpp"
#include "io/system.hpp"
#include "mora/core/parallel.hpp"
#include "mora/io/sha256.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr size_t kMaxIndex = size_t{256} << 20;

bool is_plain_name(const std::string& name) {
  return name.size() <= 255 && name.ends_with(".safetensors") && name[0] != '.' &&
         name.find('/') == std::string::npos && printable(name, 1024) == name;
}

// Whether a name in the index leads, through links, to a file of this folder, or to one of the
// "blobs" that Hugging Face's cache links its snapshots to.
bool stays_inside(const fs::path& folder, const std::string& file) {
  std::error_code error;
  const fs::path target = fs::canonical(folder / file, error).parent_path(),
                 home = fs::canonical(folder, error);
  return !error && (target == home || target == home.parent_path().parent_path() / "blobs");
}

// tensor -> file name
std::map<std::string, std::string> read_weight_map(const fs::path& index) {
  const Json document = parse_json(read_file(index, kMaxIndex), index.string());
  const JsonView json(document, index.string());
  std::map<std::string, std::string> map;
  for (const auto& [name, file] : json.at("weight_map").members()) {
    if (!is_plain_name(file.string())) {
      file.wrong(str("\"", printable(file.string()),
                     "\" is not the plain name of a .safetensors file in this folder"));
    }
    map[name] = file.string();
  }
  if (map.empty()) json.at("weight_map").wrong("is empty");
  return map;
}

std::string shard_name(size_t number, size_t count) {
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", number, count);
  return name;
}

// Consecutive tensors that stay within the limit together.
std::vector<std::span<const StoredTensor>> cut(std::span<const StoredTensor> tensors,
                                               uint64_t limit) {
  std::vector<std::span<const StoredTensor>> shards;
  uint64_t size = 0;
  size_t begin = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t bytes = stored_bytes(tensors[i]);
    if (i > begin && size + bytes > limit) {
      shards.push_back(tensors.subspan(begin, i - begin));
      begin = i;
      size = 0;
    }
    size += bytes;
  }
  shards.push_back(tensors.subspan(begin));
  return shards;
}

}  // namespace

SafetensorsFolder::SafetensorsFolder(const fs::path& folder) : path_(folder / kSingle) {
  std::error_code none;
  if (!fs::exists(path_, none) && fs::exists(folder / kIndex, none)) {
    path_ = folder / kIndex;
    open_shards(folder);
    return;
  }
  if (!fs::exists(path_, none) && fs::exists(folder / "pytorch_model.bin", none)) {
    fail(ErrorKind::data, folder.string(),
         ": only pytorch_model.bin is there; save the model as safetensors (save_pretrained does)");
  }
  const SafetensorsFile& file = files_.emplace_back(path_);
  for (const auto& entry : file.tensors()) tensors_[entry.first] = &file;
}

void SafetensorsFolder::open_shards(const fs::path& folder) {
  const std::map<std::string, std::string> weight_map = read_weight_map(path_);
  std::string problems;
  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [name, file] : weight_map) shards[file] = nullptr;
  std::error_code none;
  for (const auto& [file, shard] : shards) {
    if (!fs::exists(folder / file, none)) {
      problems += str("\n  missing shard: ", file);
    } else if (!stays_inside(folder, file)) {
      problems += str("\n  a link that leads out of the folder: ", file);
    }
  }
  if (!problems.empty()) fail(ErrorKind::data, path_.string(), ": shards are missing:", problems);
  for (auto& [file, shard] : shards) shard = &files_.emplace_back(folder / file);
  for (const auto& [name, file] : weight_map) {
    tensors_[name] = shards.at(file);
    if (!shards.at(file)->contains(name))
      problems += str("\n  not in ", file, ": ", printable(name));
  }
  for (const auto& [file, shard] : shards) {
    for (const auto& entry : shard->tensors()) {
      const auto mapped = weight_map.find(entry.first);
      if (mapped == weight_map.end() || mapped->second != file)
        problems += str("\n  in ", file, " against the index: ", printable(entry.first));
    }
  }
  if (!problems.empty())
    fail(ErrorKind::data, path_.string(), ": index and shards do not agree:", problems);
}

const SafetensorsFile& SafetensorsFolder::file_of(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end())
    fail(ErrorKind::data, shown(path_), ": no tensor \"", printable(name), "\"");
  return *found->second;
}

void write_safetensors_folder(const fs::path& folder, std::span<const StoredTensor> tensors,
                              uint64_t max_shard_bytes,
                              const std::map<std::string, std::string>& metadata) {
  const auto shards = cut(tensors, max_shard_bytes);
  if (shards.size() == 1) return write_safetensors(folder / kSingle, tensors, metadata);
  Json weight_map = Json::object();
  uint64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i + 1, shards.size());
    write_safetensors(folder / name, shards[i], metadata);
    for (const StoredTensor& tensor : shards[i]) {
      weight_map[tensor.name] = name;
      total += stored_bytes(tensor);
    }
  }
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  write_file_atomically(folder / kIndex, dump_json(index, 2) + "\n");
}

namespace {

constexpr size_t kSampleBytes = 4096;
constexpr size_t kPieceBytes = size_t{1} << 20;

// SHA-256 over a line for each tensor, with what `add` feeds to the tensor's own hash:
// add(hash, file, bytes).
template <class Add>
std::string hash_tensors(const SafetensorsFolder& folder, const Add& add) {
  std::vector<std::string> lines;
  std::vector<const std::string*> names;
  for (const auto& [name, file] : folder.tensors()) {
    lines.push_back(str(name, " ", file->info(name), " "));
    names.push_back(&name);
  }
  parallel_for(static_cast<int64_t>(lines.size()), [&](int64_t i) {
    const std::string& name = *names[static_cast<size_t>(i)];
    const SafetensorsFile& file = folder.file_of(name);
    Sha256 hash;
    add(hash, file, file.bytes(name));
    lines[static_cast<size_t>(i)] += hash.hex() + "\n";
    file.release(name);
  });
  Sha256 all;
  for (const std::string& line : lines) all.update(line);
  return all.hex();
}

}  // namespace

std::string tensors_sha256(const SafetensorsFolder& folder) {
  return hash_tensors(
      folder, [](Sha256& hash, const SafetensorsFile& file, std::span<const std::byte> bytes) {
        // A matrix may be larger than the memory that a run has left.
        for (size_t at = 0; at < bytes.size(); at += kPieceBytes) {
          const auto piece = bytes.subspan(at, std::min(kPieceBytes, bytes.size() - at));
          hash.update(piece);
          file.release(piece);
        }
      });
}

std::string tensors_sample_sha256(const SafetensorsFolder& folder) {
  return hash_tensors(folder,
                      [](Sha256& hash, const SafetensorsFile&, std::span<const std::byte> bytes) {
                        hash.update(bytes.first(std::min(bytes.size(), kSampleBytes)));
                        hash.update(bytes.last(std::min(bytes.size(), kSampleBytes)));
                      });
}

}  // namespace mora
