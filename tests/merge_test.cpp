// mora-convert merge as a user runs it: the merged model is base and adapter, in any type and any
// number of files; a wrong base is refused; nothing half-made remains.
#include <cmath>
#include <deque>

#include "command.hpp"
#include "io/json.hpp"
#include "mora/io/safetensors_folder.hpp"

TEST_SUITE_BEGIN("merge");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

Finished merge(const fs::path& folder, const std::vector<std::string>& options) {
  return run(folder, joined({MORA_BINARY_DIR "/mora-convert", "merge"}, options));
}

// A folder with a run that has changed the base visibly.
struct Trained : TemporaryFolder {
  explicit Trained(const std::string& adapter) {
    file("config.json", uuid_config(adapter));
    REQUIRE(train(path(), {"--config", "config.json", "--set", "train.learning_rate=0.03"}).code ==
            0);
  }
  Finished merge(const std::vector<std::string>& options) const {
    return testing::merge(path(), joined({"--model", kBase, "--adapter", "run/adapter"}, options));
  }
  Json scores(const std::vector<std::string>& model) const {
    const Finished scored =
        score(path(), joined(model, {"--task", "uuid", "--data", "run/uuid_pairs.jsonl"}));
    REQUIRE_MESSAGE(scored.code == 0, scored.err);
    Json json = parse_json(scored.out, "scores");
    for (const char* key : {"model", "adapter"}) json.erase(key);
    return json;
  }
};

double printed_difference(const Finished& finished) {
  const std::string mark = "largest difference ";
  const size_t at = finished.out.find(mark);
  REQUIRE_MESSAGE(at != std::string::npos, finished.out);
  return std::stod(finished.out.substr(at + mark.size()));
}

// Largest difference from the base.
float change_of(const std::string& name, const fs::path& model) {
  const SafetensorsFolder folders[] = {SafetensorsFolder(kBase), SafetensorsFolder(model)};
  std::vector<OwnedTensor> values;
  for (const SafetensorsFolder& folder : folders) {
    values.emplace_back(Type{DType::f32, Shape(std::span<const int64_t>(folder.info(name).shape))});
    folder.file_of(name).read(name, values.back().view());
  }
  float most = 0;
  for (size_t i = 0; i < values[0].as<float>().size(); ++i)
    most = std::max(most, std::fabs(values[0].as<float>()[i] - values[1].as<float>()[i]));
  return most;
}

TEST_CASE("every method merges to the same function") {
  for (const std::string adapter :
       {R"({"method": "lora", "r": 4})", R"({"method": "lora", "r": 4, "use_rslora": true})",
        R"({"method": "mora", "r": 4})", R"({"method": "mora", "r": 4, "operator": "rotation"})",
        R"({"method": "mora", "r": 4, "operator": "decoupling"})",
        R"({"method": "mora", "r": 4, "operator": "truncation"})"}) {
    INFO(adapter);
    const Trained trained(adapter);
    const Finished merged = trained.merge({"--out", "merged", "--dtype", "float32"});
    REQUIRE_MESSAGE(merged.code == 0, merged.err);
    CHECK(printed_difference(merged) < 1e-3);
    CHECK(trained.scores({"--model", "merged"}) ==
          trained.scores({"--model", kBase, "--adapter", "run/adapter"}));
    CHECK(change_of("model.layers.3.mlp.up_proj.weight", trained / "merged") > 1e-4f);
    CHECK(change_of("model.norm.weight", trained / "merged") == 0.0f);
    CHECK(bytes_of(trained / "merged/tokenizer.model") ==
          bytes_of(fs::path(kBase) / "tokenizer.model"));
  }
}

// Tensors of a file, in memory.
struct Tensors {
  std::deque<OwnedTensor> memory;
  std::vector<NamedTensor> named;

  Tensor add(const std::string& name, Type type) {
    named.push_back({name, memory.emplace_back(type).view()});
    return named.back().tensor;
  }
  void add_all(const SafetensorsFile& file, DType dtype) {
    for (const auto& [name, info] : file.tensors())
      file.read(name, add(name, {dtype, Shape(std::span<const int64_t>(info.shape))}));
  }
};

TEST_CASE("tensors that an adapter replaces are replaced in the merged model") {
  const Trained trained(R"({"method": "lora", "r": 4})");
  const fs::path adapter = trained / "run/adapter";
  fs::copy(adapter / "adapter_model.safetensors", trained / "before.safetensors");
  Json config = parse_json(bytes_of(adapter / "adapter_config.json"), "adapter");
  config["modules_to_save"] = Json::array({"model.norm"});
  write_file_atomically(adapter / "adapter_config.json", dump_json(config));
  const OwnedTensor half({DType::f32, {128}});
  std::ranges::fill(half.as<float>(), 0.5f);
  for (const DType stored : {DType::f32, DType::f64}) {
    Tensors all;
    all.add_all(SafetensorsFile(trained / "before.safetensors"), DType::f32);
    convert(half.view(), all.add("base_model.model.model.norm.weight", {stored, {128}}));
    write_safetensors(adapter / "adapter_model.safetensors", all.named);
    for (const char* dtype : {"float32", "bfloat16"}) {
      INFO(dtype, " of ", stored);
      const std::string out = str(dtype, " of ", stored);
      const Finished merged = trained.merge({"--out", out, "--dtype", dtype});
      REQUIRE_MESSAGE(merged.code == 0, merged.err);
      const SafetensorsFolder folder(trained / out);
      const OwnedTensor norm({DType::f32, {128}});
      folder.file_of("model.norm.weight").read("model.norm.weight", norm.view());
      CHECK(std::ranges::all_of(norm.as<float>(), [](float v) { return v == 0.5f; }));
    }
  }
}

TEST_CASE("a base in F64 is merged into a type that is named") {
  const Trained trained(R"({"method": "lora", "r": 4})");
  const fs::path adapter = trained / "run/adapter/adapter_model.safetensors",
                 base = trained / "wide";
  Tensors trained_ones, wide;
  trained_ones.add_all(SafetensorsFile(adapter), DType::f32);
  write_safetensors(adapter, trained_ones.named);  // without the hash of another type's base
  wide.add_all(SafetensorsFile(fs::path(kBase) / "model.safetensors"), DType::f64);
  fs::create_directory(base);
  write_safetensors(base / "model.safetensors", wide.named);
  for (const char* file : {"config.json", "tokenizer.model"})
    fs::copy(fs::path(kBase) / file, base / file);

  const Finished refused =
      merge(trained.path(), {"--model", "wide", "--adapter", "run/adapter", "--out", "out"});
  CHECK_MESSAGE(refused.code == 2, refused.err);
  CHECK(refused.err.find("is F64, which mora does not write; choose with --dtype") !=
        std::string::npos);
  CHECK_FALSE(fs::exists(trained / "out"));
  const Finished merged = merge(trained.path(), {"--model", "wide", "--adapter", "run/adapter",
                                                 "--out", "out", "--dtype", "float32"});
  REQUIRE_MESSAGE(merged.code == 0, merged.err);
  REQUIRE(trained.merge({"--out", "expected", "--dtype", "float32"}).code == 0);
  CHECK(tensors_sha256(SafetensorsFolder(trained / "out")) ==
        tensors_sha256(SafetensorsFolder(trained / "expected")));
}

TEST_CASE("shards, types and the configuration") {
  const Trained trained(R"({"method": "mora", "r": 4})");
  REQUIRE(trained.merge({"--out", "whole", "--dtype", "float32"}).code == 0);
  REQUIRE(
      trained.merge({"--out", "shards", "--dtype", "float32", "--max-shard-size", "700KB"}).code ==
      0);
  const SafetensorsFolder whole(trained / "whole"), shards(trained / "shards");
  CHECK(whole.files().size() == 1);
  CHECK(shards.files().size() > 4);
  CHECK(tensors_sha256(whole) == tensors_sha256(shards));
  for (const auto& file : shards.files()) CHECK(fs::file_size(file.path()) < 720'000);

  const std::pair<const char*, const char*> types[] = {
      {"stored", "BF16"}, {"float16", "F16"}, {"bfloat16", "BF16"}};
  for (const auto& type : types) {
    const std::string out = str("as-", type.first);
    const Finished merged = trained.merge({"--out", out, "--dtype", type.first});
    REQUIRE_MESSAGE(merged.code == 0, merged.err);
    CHECK(merged.out.find("rounded") != std::string::npos);
    const SafetensorsFolder found(trained / out);
    for (const auto& entry : found.tensors()) CHECK(found.info(entry.first).dtype == type.second);
  }
  CHECK(bytes_of(trained / "as-stored/config.json") == bytes_of(fs::path(kBase) / "config.json"));
  CHECK(parse_json(bytes_of(trained / "as-float16/config.json"), "config").at("torch_dtype") ==
        "float16");
}

TEST_CASE("what cannot be merged is refused, and nothing is left") {
  const Trained trained(R"({"method": "lora", "r": 4})");
  fs::create_directory(trained / "taken");
  trained.file("taken/file", "mine");
  const auto refused = [&](int code, const std::vector<std::string>& options,
                           const std::string& part) {
    const Finished finished = merge(trained.path(), options);
    CHECK_MESSAGE(finished.code == code, finished.err);
    CHECK_MESSAGE(finished.err.find(part) != std::string::npos, finished.err);
  };
  const std::vector<std::string> base = {"--model", kBase}, adapter = {"--adapter", "run/adapter"},
                                 out = {"--out", "merged"};
  refused(3, joined(joined({"--model", "nowhere"}, adapter), out), "nowhere");
  refused(3, joined(joined(base, {"--adapter", "nowhere"}), out), "nowhere");
  refused(2, joined(joined(base, adapter), {"--out", "taken"}), "taken");
  refused(2, joined(base, adapter), "--out");
  refused(2, joined(joined(base, adapter), joined(out, {"--max-shard-size", "5XB"})), "5XB");
  refused(2, joined(joined(base, adapter), joined(out, {"--max-shard-size", "-1"})), "-1");
  refused(2, joined(joined(base, adapter), joined(out, {"--dtype", "int8"})), "int8");
  refused(3, joined(joined(base, adapter), joined(out, {"--text", "gone.txt"})), "gone.txt");
  // The base's files but for one bit of one weight.
  fs::copy(kBase, trained / "other");
  std::string weights = bytes_of(trained / "other/model.safetensors");
  weights.back() = static_cast<char>(weights.back() ^ 1);
  write_file_atomically(trained / "other/model.safetensors", weights);
  refused(3, joined(joined({"--model", "other"}, adapter), out),
          "not the weights that the adapter was trained on");
  fs::copy(kBase, trained / "larger");
  fs::copy_file(MORA_SOURCE_DIR "/tests/golden/tokenizers/spm_bpe.model",
                trained / "larger/tokenizer.model", fs::copy_options::overwrite_existing);
  refused(3, joined(joined({"--model", "larger"}, adapter), out),
          "has 1200 tokens, but the model's vocab_size is 1024");
  CHECK(bytes_of(trained / "taken/file") == "mine");
  for (const auto& entry : fs::directory_iterator(trained.path()))
    CHECK_FALSE(entry.path().filename().string().starts_with(".tmp"));
  CHECK_FALSE(fs::exists(trained / "merged"));
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
