// Sharded weights: the same model as one file, and an index that cannot lead anywhere else.
#include "mora/io/safetensors_folder.hpp"

#include <doctest/doctest.h>

#include <set>

#include "io/json.hpp"
#include "mora/core/random.hpp"
#include "mora/models/llama.hpp"
#include "temporary_folder.hpp"
#include "tiny_training.hpp"

TEST_SUITE_BEGIN("safetensors folder");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndex = "model.safetensors.index.json";

// Tensors t0, t1, ... of 4 * n bytes each, tensor i filled with i.
struct Tensors {
  std::deque<OwnedTensor> memory;
  std::vector<StoredTensor> list;

  explicit Tensors(const std::vector<int64_t>& lengths) {
    for (const int64_t length : lengths) {
      const auto i = memory.size();
      memory.emplace_back(Type{DType::f32, {length}});
      for (float& x : memory.back().as<float>()) x = static_cast<float>(i);
      list.push_back(stored({str("t", i), memory.back().view()}));
    }
  }
};

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

TEST_CASE("tensors are cut into shards as transformers does, and come back") {
  const Tensors tensors({10, 20, 5, 100, 1, 2});
  const TemporaryFolder folder;
  write_safetensors_folder(folder.path(), tensors.list, 120);
  CHECK(names_in(folder.path()) ==
        std::vector<std::string>{
            "model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
            "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors", kIndex});
  const SafetensorsFolder found(folder.path());
  CHECK(found.files().size() == 4);
  CHECK(found.tensors().size() == 6);
  CHECK(found.file_of("t1").path().filename() == "model-00001-of-00004.safetensors");
  CHECK(found.file_of("t3").path().filename() == "model-00003-of-00004.safetensors");
  for (int i = 0; i < 6; ++i) {
    const std::string name = str("t", i);
    OwnedTensor values({DType::f32, {found.info(name).shape[0]}});
    found.file_of(name).read(name, values.view());
    found.file_of(name).release(name);
    for (const float x : values.as<float>()) CHECK(x == static_cast<float>(i));
  }
  const Json index = parse_json(bytes_of(folder / kIndex), "index");
  CHECK(index.at("metadata").at("total_size") == 4 * (10 + 20 + 5 + 100 + 1 + 2));

  const TemporaryFolder whole;
  write_safetensors_folder(whole.path(), tensors.list, 1 << 20);
  CHECK(names_in(whole.path()) == std::vector<std::string>{"model.safetensors"});
  CHECK(tensors_sha256(SafetensorsFolder(whole.path())) == tensors_sha256(found));
}

TEST_CASE("the hash tells values, names, types and shapes apart") {
  const auto hash = [](const std::string& name, const Tensor& tensor) {
    const TemporaryFolder folder;
    write_safetensors_folder(folder.path(), std::vector{stored({name, tensor})}, 1 << 20);
    return tensors_sha256(SafetensorsFolder(folder.path()));
  };
  OwnedTensor a({DType::f32, {4}}), b({DType::f32, {4}}), c({DType::f32, {2, 2}}),
      d({DType::i32, {4}});
  b.as<float>()[3] = 1;
  const std::set<std::string> hashes = {hash("x", a.view()), hash("y", a.view()),
                                        hash("x", b.view()), hash("x", c.view()),
                                        hash("x", d.view())};
  CHECK(hashes.size() == 5);
  CHECK(hashes.contains(hash("x", a.view())));
}

TEST_CASE("a model in shards loads to the same weights") {
  TinyLlama tiny(full_training());
  const TemporaryFolder whole, shards;
  save_model(whole.path(), tiny.config, tiny.store, DType::bf16);
  const SafetensorsFile file(whole / "model.safetensors");
  std::vector<StoredTensor> list;
  for (const auto& entry : file.tensors()) {
    const std::string name = entry.first;
    list.push_back({name, entry.second.dtype, entry.second.shape,
                    [&file, name](const ByteSink& sink) { sink(file.bytes(name)); }});
  }
  write_safetensors_folder(shards.path(), list, 2000);
  CHECK(names_in(shards.path()).size() > 5);
  std::vector<std::vector<float>> loaded[2];
  for (const auto* folder : {&whole, &shards}) {
    ParameterStore store;
    const Llama model(tiny.config, store, Training::frozen);
    store.allocate();
    load_weights(store, tiny.config, folder->path());
    for (const Parameter& p : store.all()) {
      const auto values = p.value.as<float>();
      loaded[folder == &whole ? 0 : 1].emplace_back(values.begin(), values.end());
    }
  }
  CHECK((loaded[0] == loaded[1]));
}

// A folder with two shards, t0 and t1 in the first, t2 in the second.
struct Shards : TemporaryFolder {
  Json index;

  Shards() {
    write_safetensors_folder(path(), Tensors({10, 10, 20}).list, 80);
    index = parse_json(bytes_of(*this / kIndex), "index");
  }
  std::string refusal() const {
    return message_of(ErrorKind::data, [&] { const SafetensorsFolder opened(path()); });
  }
  std::string refusal_of(const std::string& text) {
    file(kIndex, text);
    const std::string message = refusal();
    CHECK(message.find(kIndex) != std::string::npos);
    return message;
  }
  std::string refusal_of_name(const Json& name) {
    Json changed = index;
    changed["weight_map"]["t0"] = name;
    return refusal_of(dump_json(changed));
  }
};

TEST_CASE("the type of a model's matrices is told where they agree, and nothing is rounded") {
  const LlamaConfig config = tiny_config({});
  struct Case {
    const char *matrices, *one;  // types in the file
    DType stored;
  };
  for (const Case& each : {Case{"F32", "F32", DType::f32},
                           {"BF16", "BF16", DType::bf16},
                           {"F16", "F16", DType::f16},
                           {"BF16", "F16", DType::f32},
                           {"F16", "F32", DType::f32},
                           {"F64", "F64", DType::f32}}) {
    INFO(each.matrices << " " << each.one);
    const TemporaryFolder folder;
    ParameterStore made;
    const Llama model(config, made, Training::frozen);
    made.allocate();
    std::vector<NamedTensor> tensors;
    std::deque<OwnedTensor> memory;
    const auto type_of = [](std::string_view name) {
      return name == "BF16"  ? DType::bf16
             : name == "F16" ? DType::f16
             : name == "F64" ? DType::f64
                             : DType::f32;
    };
    for (const Parameter& p : made.all()) {
      const bool odd = p.name == "model.layers.1.mlp.up_proj.weight";
      const DType dtype = p.shape.rank() < 2 ? DType::f32 : type_of(odd ? each.one : each.matrices);
      fill_random(p.value, p.name, 1);
      memory.emplace_back(Type{dtype, p.shape});
      convert(p.value, memory.back().view());
      convert(memory.back().view(), p.value);
      tensors.push_back({p.name, memory.back().view()});
    }
    write_safetensors(folder / "model.safetensors", tensors);
    CHECK(stored_matrix_type(SafetensorsFolder(folder.path())) == each.stored);
    ParameterStore loaded(DType::f32, each.stored);
    const Llama again(config, loaded, Training::frozen);
    loaded.allocate();
    load_weights(loaded, config, folder.path());
    for (size_t i = 0; i < made.all().size(); ++i) {
      const Parameter &a = made.all()[i], &b = loaded.all()[i];
      CHECK(b.value.dtype() == (a.shape.rank() < 2 ? DType::f32 : each.stored));
      OwnedTensor wide({DType::f32, b.shape});
      convert(b.value, wide.view());
      CHECK(std::ranges::equal(wide.as<float>(), a.value.as<float>()));
    }
  }
}

TEST_CASE("no name in an index leads out of its folder") {
  Shards shards;
  for (const char* name :
       {"../model.safetensors", "/etc/passwd", "/tmp/x.safetensors", "..", ".", "",
        "sub/model.safetensors", "./model-00001-of-00002.safetensors", ".hidden.safetensors",
        "model-00001-of-00002.safetensors/", "model-00001-of-00002", "a\nb.safetensors",
        "C:\\x.bin", "file:///x.safetensors", "model.safetensors\t"}) {
    INFO(name);
    shards.refusal_of_name(name);
  }
  shards.refusal_of_name(std::string("a\0b.safetensors", 15));
  shards.refusal_of_name(std::string(300, 'a') + ".safetensors");
  for (const Json& value : {Json(1), Json(nullptr), Json(true), Json::array({"x"}), Json::object()})
    shards.refusal_of_name(value);
}

TEST_CASE("a shard that is a link out of the folder is refused, one into a cache's blobs is not") {
  Shards shards;
  const std::string name = "model-00001-of-00002.safetensors";
  const TemporaryFolder other, cache;
  fs::copy(shards / name, other / name);
  fs::remove(shards / name);
  fs::create_symlink(other / name, shards / name);
  CHECK(shards.refusal().find("leads out of the folder: " + name) != std::string::npos);
  fs::remove(shards / name);
  fs::copy(other / name, shards / "elsewhere.safetensors");
  fs::create_symlink("elsewhere.safetensors", shards / name);
  CHECK_NOTHROW(SafetensorsFolder(shards.path()));
  // models--owner--name/{blobs/<hash>, snapshots/<commit>/<file>}
  fs::create_directories(cache / "blobs");
  fs::create_directories(cache / "snapshots/1");
  int blob = 0;
  for (const auto& entry : fs::directory_iterator(shards.path())) {
    const std::string hash = str(++blob);
    fs::copy(entry.path(), cache / "blobs" / hash);
    fs::create_symlink("../../blobs/" + hash, cache / "snapshots/1" / entry.path().filename());
  }
  CHECK(SafetensorsFolder(cache / "snapshots/1").tensors().size() == 3);
}

TEST_CASE("what an index says beside its weight_map changes nothing") {
  Shards shards;
  for (const Json& metadata : {Json(nullptr), Json({{"total_size", 1}}),
                               Json({{"total_size", "huge"}}), Json({{"total_size", -1.5}})}) {
    shards.index["metadata"] = metadata;
    shards.file(kIndex, dump_json(shards.index));
    CHECK(SafetensorsFolder(shards.path()).tensors().size() == 3);
  }
}

TEST_CASE("an index that is no index is refused") {
  Shards shards;
  const std::string good = dump_json(shards.index);
  for (const char* text :
       {"", "{", "[]", "null", "1", "{}", "{\"weight_map\": 1}", "{\"weight_map\": null}",
        "{\"weight_map\": []}", "{\"weight_map\": {}}",
        "{\"weight_map\": {\"t0\": \"a.safetensors\"",
        "{\"weight_map\": {\"t0\": \"a.safetensors\", \"t0\": \"a.safetensors\"}}", "\xff\xfe",
        "{\"weight_map\": {\"\xff\": \"a.safetensors\"}}"}) {
    INFO(text);
    shards.refusal_of(text);
  }
  for (size_t length = 0; length + 1 < good.size(); length += 7)
    shards.refusal_of(good.substr(0, length));
  shards.refusal_of(std::string(100000, '['));
}

TEST_CASE("index and shards must agree") {
  Shards shards;
  const Json good = shards.index;
  CHECK(shards.refusal_of_name("gone.safetensors").find("missing shard: gone.safetensors") !=
        std::string::npos);
  CHECK(shards.refusal_of_name("model-00002-of-00002.safetensors").find("not in model-00002") !=
        std::string::npos);
  shards.index["weight_map"]["t3"] = "model-00001-of-00002.safetensors";
  CHECK(shards.refusal_of(dump_json(shards.index))
            .find("not in model-00001-of-00002.safetensors: t3") != std::string::npos);
  shards.index = good;
  shards.index["weight_map"].erase("t1");
  CHECK(shards.refusal_of(dump_json(shards.index)).find("against the index: t1") !=
        std::string::npos);
  shards.file(kIndex, dump_json(good));
  fs::resize_file(shards / "model-00002-of-00002.safetensors", 50);
  CHECK(shards.refusal().find("model-00002-of-00002.safetensors") != std::string::npos);
  fs::remove(shards / "model-00002-of-00002.safetensors");
  CHECK(shards.refusal().find("missing shard") != std::string::npos);
  fs::create_directory(shards / "model-00002-of-00002.safetensors");
  shards.refusal();
}

TEST_CASE("a folder without safetensors says what it needs") {
  const TemporaryFolder folder;
  const auto refusal = [&] {
    return message_of(ErrorKind::data, [&] { const SafetensorsFolder opened(folder.path()); });
  };
  CHECK(refusal().find("model.safetensors") != std::string::npos);
  folder.file("pytorch_model.bin", "x");
  CHECK(refusal().find("save the model as safetensors") != std::string::npos);
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
