// Attaching adapters to a model by name, and adapter folders: PEFT's layout to the letter, round
// trips of every method, and refusal of everything that would be applied wrongly.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "golden.hpp"
#include "io/json.hpp"
#include "mora/adapters/files.hpp"
#include "temporary_folder.hpp"
#include "tiny_llama.hpp"

TEST_SUITE_BEGIN("adapter_files");

namespace mora::testing {
namespace {

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.type == b.type && std::memcmp(a.data, b.data, a.bytes()) == 0;
}

std::string text_of(const std::filesystem::path& folder) {
  return bytes_of(folder / "adapter_config.json");
}

// Changes one key of a folder's adapter_config.json; null removes it.
void set_key(const std::filesystem::path& folder, const std::string& key, const Json& value) {
  Json json = Json::parse(text_of(folder));
  if (value.is_null()) {
    json.erase(key);
  } else {
    json[key] = value;
  }
  write_file_atomically(folder / "adapter_config.json", json.dump());
}

// The tensors of an adapter file with changes, written again without our metadata.
struct Rewriter {
  std::deque<OwnedTensor> memory;
  std::vector<NamedTensor> tensors;

  explicit Rewriter(const std::filesystem::path& folder) {
    const SafetensorsFile file(folder / "adapter_model.safetensors");
    for (const auto& [name, info] : file.tensors()) {
      memory.push_back(read_tensor(file, name, DType::f32));
      tensors.push_back({name, memory.back().view()});
    }
  }
  void add(const std::string& name, const Type& type) {
    memory.emplace_back(type);
    tensors.push_back({name, memory.back().view()});
  }
  NamedTensor& find(const std::string& name) {
    return *std::ranges::find(tensors, name, &NamedTensor::name);
  }
  void remove(const std::string& name) {
    std::erase_if(tensors, [&](const NamedTensor& t) { return t.name == name; });
  }
  void write(const std::filesystem::path& folder,
             const std::map<std::string, std::string>& metadata = {}) const {
    write_safetensors(folder / "adapter_model.safetensors", tensors, metadata);
  }
};

void save(const TemporaryFolder& folder, const TinyLlama& tiny,
          MoraScale scale = MoraScale::folded) {
  save_adapter(folder.path(), tiny.adapter, tiny.store, {"base/model", ""}, scale);
}

TEST_CASE("targets are whole names at the end of a path") {
  ParameterStore store;
  std::vector<Linear> layers;
  layers.reserve(4);
  for (const char* path : {"model.q_proj", "model.xq_proj", "q_proj", "model.q_proj.inner"})
    layers.emplace_back(Scope(store, path), 4, 4, Init{}, Training::frozen);
  std::vector<Linear*> linears;
  for (Linear& layer : layers) linears.push_back(&layer);
  AdapterConfig config = adapter_kind("lora").config;
  config.target_modules = {"q_proj"};
  attach_adapters(config, store, linears);
  CHECK(layers[0].adapter() != nullptr);
  CHECK(layers[1].adapter() == nullptr);
  CHECK(layers[2].adapter() != nullptr);
  CHECK(layers[3].adapter() == nullptr);
}

TEST_CASE("longer targets select one kind of layer, and a layer gets one adapter") {
  AdapterConfig config = adapter_kind("mora", "sharing").config;
  config.target_modules = {"1.self_attn.q_proj", "self_attn.q_proj"};
  TinyLlama tiny(config);
  int64_t attached = 0;
  for (const Linear* linear : tiny.model.linears()) attached += linear->adapter() != nullptr;
  CHECK(attached == 2);
  CHECK(tiny.store.count(Training::trained) == 2 * adapter_parameters(config, 24, 24));
}

TEST_CASE("targets and ranks that cannot be are errors of usage that say what there is") {
  AdapterConfig config = adapter_kind("lora").config;
  config.target_modules = {"q_proj", "query"};
  const std::string message = message_of(ErrorKind::usage, [&] { TinyLlama tiny(config); });
  for (const char* part :
       {"\"query\"", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})
    CHECK(message.find(part) != std::string::npos);
  config.target_modules = {};
  CHECK(message_of(ErrorKind::usage, [&] { TinyLlama tiny(config); }).find("empty") !=
        std::string::npos);
  config.target_modules = {""};
  CHECK(message_of(ErrorKind::usage, [&] { TinyLlama tiny(config); }) != "");
  for (const int64_t r : {0, -3}) {
    AdapterConfig ranked = adapter_kind("mora", "sharing").config;
    ranked.r = r;
    CHECK(message_of(ErrorKind::usage, [&] { TinyLlama tiny(ranked); }).find("adapter.r") !=
          std::string::npos);
  }
  AdapterConfig unknown = adapter_kind("dora").config;
  CHECK(message_of(ErrorKind::usage, [&] { TinyLlama tiny(unknown); }).find("\"dora\"") !=
        std::string::npos);
  unknown = adapter_kind("mora", "folding").config;
  CHECK(message_of(ErrorKind::usage, [&] { TinyLlama tiny(unknown); }).find("\"folding\"") !=
        std::string::npos);
}

TEST_CASE("every method comes back from its files as it was") {
  for (const AdapterKind& kind : adapter_kinds()) {
    INFO(kind.name);
    const TemporaryFolder folder;
    const TinyLlama saved(kind.config);
    save(folder, saved, MoraScale::kept);
    AdapterConfig read = read_adapter_config(folder.path());
    CHECK(read.method == kind.config.method);
    CHECK(read.r == kind.config.r);
    CHECK(read.target_modules == kind.config.target_modules);
    if (read.method == "lora") {
      CHECK(read.lora_alpha == kind.config.lora_alpha);
      CHECK(read.use_rslora == kind.config.use_rslora);
      CHECK(read.use_dora == kind.config.use_dora);
    } else {
      CHECK(read.scale == kind.config.scale);
      CHECK(read.cover == kind.config.cover);
      CHECK(read.operation == kind.config.operation);
      if (read.operation == "sharing") CHECK(read.grouping == kind.config.grouping);
    }
    TinyLlama loaded(read);
    for (const Parameter& p : loaded.store.all()) {
      if (is_adapter_parameter(p)) std::memset(p.value.data, 0xff, p.value.bytes());
    }
    load_adapter(folder.path(), loaded.store);
    REQUIRE(loaded.store.all().size() == saved.store.all().size());
    for (size_t i = 0; i < saved.store.all().size(); ++i)
      CHECK(same_bytes(loaded.store.all()[i].value, saved.store.all()[i].value));
  }
}

TEST_CASE("the tensor file has PEFT's names and shapes; MoRA's lora_B is lora_A again") {
  for (const AdapterKind& kind : adapter_kinds()) {
    INFO(kind.name);
    const TemporaryFolder folder;
    TinyLlama tiny(kind.config);
    save(folder, tiny);
    const SafetensorsFile file(folder / "adapter_model.safetensors");
    CHECK(file.metadata().at("format") == "pt");
    std::set<std::string> expected;
    for (const Linear* linear : tiny.model.linears()) {
      const std::string a = "base_model.model." + linear->path() + ".lora_A.weight",
                        b = "base_model.model." + linear->path() + ".lora_B.weight";
      expected.insert({a, b});
      if (kind.config.use_dora)
        expected.insert("base_model.model." + linear->path() + ".lora_magnitude_vector");
      const int64_t rank =
          mora_rank(linear->in(), linear->out(), kind.config.r, kind.config.operation);
      using Dims = std::vector<int64_t>;
      if (kind.config.method == "lora") {
        CHECK(file.info(a).shape == Dims{kind.config.r, linear->in()});
        CHECK(file.info(b).shape == Dims{linear->out(), kind.config.r});
      } else {
        CHECK(file.info(a).shape == Dims{rank, rank});
        CHECK(file.info(b).shape == Dims{rank, rank});
        CHECK(std::ranges::equal(file.bytes(a), file.bytes(b)));
      }
      CHECK(file.info(a).dtype == "F32");
    }
    std::set<std::string> names;
    for (const auto& [name, info] : file.tensors()) names.insert(name);
    CHECK(names == expected);
    CHECK(names.contains("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"));
  }
}

TEST_CASE("adapter_config.json has exactly the keys of PEFT 0.9.0, and MoRA's two") {
  const std::set<std::string> peft = {"alpha_pattern",
                                      "auto_mapping",
                                      "base_model_name_or_path",
                                      "bias",
                                      "fan_in_fan_out",
                                      "inference_mode",
                                      "init_lora_weights",
                                      "layers_pattern",
                                      "loftq_config",
                                      "layers_to_transform",
                                      "lora_alpha",
                                      "lora_dropout",
                                      "megatron_config",
                                      "megatron_core",
                                      "modules_to_save",
                                      "peft_type",
                                      "r",
                                      "rank_pattern",
                                      "revision",
                                      "target_modules",
                                      "task_type",
                                      "use_dora",
                                      "use_rslora"};
  const std::map<std::string, int64_t> types = {
      {"strided", 1}, {"contiguous", 2}, {"contiguous_strided", 3}, {"strided_contiguous", 4}};
  for (const AdapterKind& kind : adapter_kinds()) {
    INFO(kind.name);
    const TemporaryFolder folder;
    save(folder, TinyLlama(kind.config));
    const Json json = Json::parse(text_of(folder.path()));
    std::vector<std::string> keys;
    for (const auto& [key, value] : json.items()) keys.push_back(key);
    CHECK(std::ranges::is_sorted(keys));
    std::set<std::string> expected = peft;
    const AdapterConfig& c = kind.config;
    if (c.method == "mora") {
      expected.insert({"use_mora", "mora_type"});
      // The fork has no blocks beyond the used ones; a scale is multiplied into the matrices.
      const int64_t type = c.cover == "all"            ? 0
                           : c.operation == "sharing"  ? types.at(c.grouping)
                           : c.operation == "rotation" ? 6
                                                       : 0;
      if (type == 0) expected.insert("mora_operator");
      CHECK(json["mora_type"] == type);
      CHECK(json["use_mora"] == true);
      CHECK(json["use_rslora"] == false);
    } else {
      CHECK(json["lora_alpha"] == c.lora_alpha);
      CHECK(json["use_rslora"] == c.use_rslora);
    }
    CHECK(std::set<std::string>(keys.begin(), keys.end()) == expected);
    CHECK(json["peft_type"] == "LORA");
    CHECK(json["task_type"] == "CAUSAL_LM");
    CHECK(json["base_model_name_or_path"] == "base/model");
    CHECK(json["r"] == c.r);
    CHECK(json["lora_dropout"] == c.lora_dropout);
    CHECK(json["inference_mode"] == true);
  }
}

TEST_CASE("files of the authors' code are read by their mora_type") {
  const TemporaryFolder folder;
  save(folder, TinyLlama(adapter_kind("mora", "sharing").config));
  Rewriter(folder.path()).write(folder.path());
  auto read = [&](const Json& type) {
    set_key(folder.path(), "mora_type", type);
    const AdapterConfig c = read_adapter_config(folder.path());
    return c.operation + (c.operation == "sharing" ? " " + c.grouping : "");
  };
  CHECK(read(1) == "sharing strided");
  CHECK(read(2) == "sharing contiguous");
  CHECK(read(3) == "sharing contiguous_strided");
  CHECK(read(4) == "sharing strided_contiguous");
  CHECK(read(6) == "rotation");
  CHECK(read(nullptr) == "sharing strided");
  for (const Json& type : {Json(0), Json(5), Json(7), Json(-1), Json("1"), Json(1.5)}) {
    INFO(type.dump());
    CHECK(message_of(ErrorKind::data, [&] { read(type); }).find("mora_type") != std::string::npos);
  }
}

TEST_CASE("an operator that the metadata invent is refused") {
  const TemporaryFolder folder;
  save(folder, TinyLlama(adapter_kind("mora", "sharing").config));
  const std::map<std::string, std::string> operation = {{"mora.operator", "folding"}},
                                           grouping = {{"mora.operator", "sharing"},
                                                       {"mora.grouping", "shuffled"}};
  for (const auto& metadata : {operation, grouping}) {
    Rewriter(folder.path()).write(folder.path(), metadata);
    const std::string message =
        message_of(ErrorKind::data, [&] { read_adapter_config(folder.path()); });
    CHECK(message.find(metadata.rbegin()->second) != std::string::npos);
  }
}

TEST_CASE("files that are no configurations of adapters are refused") {
  const TemporaryFolder folder;
  save(folder, TinyLlama(adapter_kind("lora").config));
  for (const char* text :
       {"", "[]", "{", "null", "{}", "{\"r\": 8, \"r\": 9}", "{\"fine_tune_type\": \"lora\"}"}) {
    INFO(text);
    write_file_atomically(folder / "adapter_config.json", text);
    message_of(ErrorKind::data, [&] { read_adapter_config(folder.path()); });
  }
  std::filesystem::remove(folder / "adapter_config.json");
  message_of(ErrorKind::data, [&] { read_adapter_config(folder.path()); });
}

constexpr const char* kLayer = "base_model.model.model.layers.0.";

TEST_CASE("a file that does not fit is refused with all that is wrong, and nothing is loaded") {
  const TemporaryFolder folder;
  TinyLlama tiny(adapter_kind("mora", "sharing").config);
  save(folder, tiny);
  Rewriter changed(folder.path());
  auto name = [](const std::string& tail) { return kLayer + tail; };
  changed.remove(name("self_attn.k_proj.lora_A.weight"));
  changed.remove(name("self_attn.k_proj.lora_B.weight"));
  changed.remove(name("mlp.up_proj.lora_A.weight"));
  changed.remove(name("mlp.up_proj.lora_B.weight"));
  changed.add(name("mlp.up_proj.lora_A.weight"), {DType::f32, {2, 3}});
  changed.find(name("self_attn.q_proj.lora_B.weight")).tensor.as<float>()[5] += 1;
  changed.add(name("self_attn.q_proj.lora_magnitude_vector"), {DType::f32, {24}});
  changed.add("base_model.model.lm_head.weight", {DType::f32, {61, 25}});
  changed.find(name("self_attn.v_proj.lora_A.weight")).tensor.type.dtype = DType::i32;
  changed.write(folder.path());
  std::deque<OwnedTensor> before;
  for (const Parameter& p : tiny.store.all()) {
    before.emplace_back(p.value.type);
    if (is_adapter_parameter(p)) fill_random(p.value, "other " + p.name, 1);
    std::memcpy(before.back().view().data, p.value.data, p.value.bytes());
  }
  const std::string message =
      message_of(ErrorKind::data, [&] { load_adapter(folder.path(), tiny.store); });
  for (const std::string& part :
       {"missing: " + name("self_attn.k_proj.lora_A.weight"),
        "wrong shape: " + name("mlp.up_proj.lora_A.weight"),
        "not the same as lora_A: " + name("self_attn.q_proj.lora_B.weight"),
        "wrong type: " + name("self_attn.v_proj.lora_A.weight"),
        "unexpected: " + name("self_attn.q_proj.lora_magnitude_vector"),
        std::string("wrong shape: base_model.model.lm_head.weight")}) {
    INFO(message);
    CHECK(message.find(part) != std::string::npos);
  }
  for (size_t i = 0; i < before.size(); ++i)
    CHECK(same_bytes(tiny.store.all()[i].value, before[i].view()));
}

TEST_CASE("an adapter of another method, rank or model does not load") {
  const TemporaryFolder folder;
  save(folder, TinyLlama(adapter_kind("mora", "sharing").config));
  AdapterConfig larger = adapter_kind("mora", "sharing").config, fewer = larger;
  larger.r = 4;
  fewer.target_modules = {"q_proj"};
  for (const AdapterConfig& other : {adapter_kind("lora").config, larger, fewer}) {
    TinyLlama tiny(other);
    message_of(ErrorKind::data, [&] { load_adapter(folder.path(), tiny.store); });
  }
  const std::string whole = bytes_of(folder / "adapter_model.safetensors");
  TinyLlama tiny(adapter_kind("mora", "sharing").config);
  for (const size_t length : {size_t{0}, size_t{7}, size_t{100}, whole.size() - 1}) {
    folder.file("adapter_model.safetensors", whole.substr(0, length));
    message_of(ErrorKind::data, [&] { load_adapter(folder.path(), tiny.store); });
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
