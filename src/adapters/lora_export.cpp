#include "mora/adapters/lora_export.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "adapters/peft_layout.hpp"
#include "io/json.hpp"
#include "mora/adapters/files.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

// Which layers an adapter is for, and which it replaces, in PEFT's words.
constexpr const char* kSelection[] = {"target_modules", "exclude_modules", "layers_to_transform",
                                      "layers_pattern", "modules_to_save"};

void require_finite(const Linear& linear, const Tensor& tensor) {
  if (is_finite(tensor)) return;
  fail(ErrorKind::data, "the adapter of ", printable(linear.path()),
       " holds numbers that are not finite; its training has failed");
}

LoraLayer layer_of(const Linear& linear) {
  LoraLayer layer;
  layer.path = linear.path();
  layer.out = linear.out();
  layer.in = linear.in();
  return layer;
}

LoraLayer exact(const Linear& linear) {
  LoraLayer layer = layer_of(linear);
  layer.rank = linear.adapter()->factored()->inner();
  layer.factors = [&linear] {
    LowRank update = low_rank_of(linear);
    require_finite(linear, update.a.view());
    require_finite(linear, update.b.view());
    return update;
  };
  return layer;
}

LoraLayer cut(const AdapterFolder& adapter, const Linear& linear, int64_t rank) {
  LoraLayer layer = layer_of(linear);
  layer.rank = std::min({rank, linear.out(), linear.in()});
  Truncated result;
  if (linear.adapter()->factored() != nullptr) {
    const LowRank update = exact(linear).factors();
    layer.rank = std::min(layer.rank, update.a.view().shape()[0]);
    result = truncate(update, layer.rank);
  } else {
    const OwnedTensor delta({DType::f64, {linear.out(), linear.in()}});
    adapter.update_of(linear, delta.view());
    require_finite(linear, delta.view());
    result = truncate(delta.view(), layer.rank);
  }
  layer.norm = result.norm;
  layer.error = result.error;
  // F32 until they are written: a model's adapter may be large.
  const auto narrow = [](const OwnedTensor& wide) {
    OwnedTensor tensor({DType::f32, wide.view().shape()});
    convert(wide.view(), tensor.view());
    return tensor;
  };
  const auto b = std::make_shared<OwnedTensor>(narrow(result.factors.b)),
             a = std::make_shared<OwnedTensor>(narrow(result.factors.a));
  layer.factors = [b, a] {
    LowRank update{OwnedTensor({DType::f64, b->view().shape()}),
                   OwnedTensor({DType::f64, a->view().shape()})};
    convert(b->view(), update.b.view());
    convert(a->view(), update.a.view());
    return update;
  };
  return layer;
}

StoredTensor tensor_of(const LoraLayer& layer, std::string_view suffix) {
  const bool is_a = suffix == adapters::kA;
  return {.name = str(adapters::kPrefix, layer.path, suffix),
          .dtype = "F32",
          .shape = is_a ? std::vector{layer.rank, layer.in} : std::vector{layer.out, layer.rank},
          .write = [&layer, is_a](const ByteSink& sink) {
            const LowRank update = layer.factors();
            const Tensor wide = (is_a ? update.a : update.b).view();
            const OwnedTensor tensor({DType::f32, wide.shape()});
            convert(wide, tensor.view());
            sink(std::as_bytes(tensor.as<float>()));
          }};
}

// The source's selection of layers.
void copy_selection(const fs::path& source, const AdapterFolder& adapter, nlohmann::json& json) {
  const fs::path file = source / "adapter_config.json";
  const Json old = parse_json(read_file(file, size_t{16} << 20), file.string());
  for (const char* key : kSelection) {
    if (old.contains(key)) json[key] = nlohmann::json(old.at(key));
  }
  const AdapterFile& rules = adapter.config().file;
  if (rules.rules == AdapterFile::Rules::peft || rules.layers_to_transform.empty()) return;
  // Stock PEFT reads the fork's patterns of layers a little otherwise; it gets names in full.
  json["target_modules"] = nlohmann::json::array();
  for (const Linear& linear : adapter.layers()) json["target_modules"].push_back(linear.path());
  json["layers_to_transform"] = json["layers_pattern"] = nullptr;
}

int64_t most_frequent_rank(const std::vector<LoraLayer>& layers) {
  std::map<int64_t, int64_t> counts;
  for (const LoraLayer& layer : layers) ++counts[layer.rank];
  return std::ranges::max_element(counts, {}, &std::pair<const int64_t, int64_t>::second)->first;
}

// Ranks other than `usual`: by the last name of the path where all layers of that name agree.
nlohmann::json pattern_of(const std::vector<LoraLayer>& layers, int64_t usual) {
  const auto leaf = [](const std::string& path) { return path.substr(path.rfind('.') + 1); };
  std::map<std::string, std::set<int64_t>> ranks;
  for (const LoraLayer& layer : layers) ranks[leaf(layer.path)].insert(layer.rank);
  nlohmann::json pattern = nlohmann::json::object();
  for (const LoraLayer& layer : layers) {
    if (layer.rank == usual) continue;
    const std::string name = leaf(layer.path);
    pattern[ranks[name].size() == 1 ? name : layer.path] = layer.rank;
  }
  return pattern;
}

}  // namespace

std::vector<LoraLayer> lora_layers(const AdapterFolder& adapter, int64_t rank) {
  std::vector<LoraLayer> layers;
  for (const Linear& linear : adapter.layers()) {
    if (rank > 0) {
      layers.push_back(cut(adapter, linear, rank));
    } else if (linear.adapter()->factored() != nullptr) {
      layers.push_back(exact(linear));
    } else {
      const AdapterConfig& config = adapter.config();
      fail(ErrorKind::usage, config.use_dora ? "DoRA" : str("MoRA's ", config.operation),
           " changes the weights at full rank, which no LoRA expresses exactly: merge the adapter "
           "into its base (mora-convert merge), or take the nearest LoRA of some rank N with "
           "--rank N");
    }
  }
  return layers;
}

void save_lora(const fs::path& folder, const AdapterFolder& adapter, const fs::path& source,
               const std::vector<LoraLayer>& layers) {
  AdapterConfig config = adapter.config();
  config.method = "lora";
  config.r = most_frequent_rank(layers);
  config.lora_alpha = static_cast<double>(config.r);
  config.use_rslora = config.use_dora = false;
  nlohmann::json json = adapters::peft_config(config, adapter.base_name());
  json["rank_pattern"] = json["alpha_pattern"] = pattern_of(layers, config.r);
  copy_selection(source, adapter, json);
  write_file_atomically(folder / "adapter_config.json", json.dump(2) + "\n");

  std::vector<StoredTensor> tensors;
  for (const LoraLayer& layer : layers) {
    for (const std::string_view suffix : {adapters::kA, adapters::kB})
      tensors.push_back(tensor_of(layer, suffix));
  }
  const SafetensorsFile from(adapter_tensors(source));
  for (const std::string& replaced : adapter.replaced()) {
    const std::string name = adapter_tensor_name(replaced);
    const TensorInfo& info = from.info(name);
    tensors.push_back({.name = name,
                       .dtype = info.dtype,
                       .shape = info.shape,
                       .write = [&from, name](const ByteSink& sink) { sink(from.bytes(name)); }});
  }
  std::map<std::string, std::string> metadata = {{"mora.method", "lora"}};
  for (const char* key : {adapters::kBaseHash, adapters::kBaseSample}) {
    const auto noted = from.metadata().find(key);
    if (noted != from.metadata().end()) metadata.insert(*noted);
  }
  write_safetensors(folder / "adapter_model.safetensors", std::span<const StoredTensor>(tensors),
                    metadata);
}

}  // namespace mora
