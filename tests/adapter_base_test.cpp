// An adapter remembers the weights that it was trained on: what is written, what another base meets
// in each program, and that a run does not go on over changed weights.
#include "command.hpp"
#include "io/json.hpp"
#include "mora/adapters/files.hpp"

TEST_SUITE_BEGIN("adapter base");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

// A run of an adapter over a copy of the base, which a test may change.
struct Trained : TemporaryFolder {
  Trained() {
    fs::copy(kBase, *this / "base");
    std::string config = uuid_config(R"({"method": "mora", "r": 4})");
    const std::string base = kBase;
    config.replace(config.find(base), base.size(), "base");
    file("config.json", config);
    const Finished run = train(path(), {"--config", "config.json"});
    REQUIRE_MESSAGE(run.code == 0, run.err);
  }
  void change_base() const {
    std::string weights = bytes_of(*this / "base/model.safetensors");
    weights.back() = static_cast<char>(weights.back() ^ 1);
    write_file_atomically(*this / "base/model.safetensors", weights);
  }
  Finished convert(const std::vector<std::string>& options) const {
    return run(path(), joined({MORA_BINARY_DIR "/mora-convert"}, options));
  }
  Finished generate() const {
    return run(path(), {MORA_BINARY_DIR "/mora-generate", "--model", "base", "--adapter",
                        "run/adapter", "--prompt", "a", "--raw", "--max-new-tokens", "2"});
  }
  Finished evaluate() const {
    return score(path(), {"--model", "base", "--adapter", "run/adapter", "--task", "uuid", "--data",
                          "run/uuid_pairs.jsonl"});
  }
};

std::map<std::string, std::string> noted(const fs::path& adapter) {
  return SafetensorsFile(adapter / "adapter_model.safetensors").metadata();
}

constexpr const char* kWarning = "other weights, or in another type";

TEST_CASE("saved adapters name the base's weights, also after resuming and converting") {
  const Trained trained;
  const SafetensorsFolder base(trained / "base");
  const auto check = [&](const fs::path& adapter) {
    CHECK(noted(adapter).at("base_hash") == tensors_sha256(base));
    CHECK(noted(adapter).at("mora.base_sample") == tensors_sample_sha256(base));
  };
  check(trained / "run/adapter");
  check(trained / "run/checkpoints/step-00000003");
  REQUIRE(trained
              .convert({"adapter", "--model", "base", "--adapter", "run/adapter", "--to", "lora",
                        "--out", "lora"})
              .code == 0);
  check(trained / "lora");
  for (const char* left : {"run/summary.json", "run/adapter", "run/checkpoints/step-00000006"})
    fs::remove_all(trained / left);
  const Finished resumed = train(trained.path(), {"--config", "config.json", "--resume"});
  REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
  CHECK(resumed.err.find("going on after step 3") != std::string::npos);
  check(trained / "run/adapter");
}

TEST_CASE("the base of an adapter trained from scratch stands beside it") {
  const TemporaryFolder folder;
  folder.file("text.txt", some_text());
  std::string config = pretrain_config();
  const std::string full = R"("method": "full")";
  config.replace(config.find(full), full.size(), R"("method": "lora", "r": 2)");
  folder.file("config.json", config);
  const Finished run = train(folder.path(), {"--config", "config.json"});
  REQUIRE_MESSAGE(run.code == 0, run.err);
  const fs::path base = folder / "run/initial_model";
  CHECK(noted(folder / "run/adapter").at("base_hash") == tensors_sha256(SafetensorsFolder(base)));
  const Finished scored =
      score(folder.path(), {"--config", "config.json", "--adapter", "run/adapter", "--set",
                            R"(model={"path": "run/initial_model"})"});
  REQUIRE_MESSAGE(scored.code == 0, scored.err);
  CHECK(scored.err.find(kWarning) == std::string::npos);
  const Json again = parse_json(scored.out, "scores"),
             summary = parse_json(bytes_of(folder / "run/summary.json"), "summary");
  CHECK(again.at("eval_loss") == summary.at("eval_loss"));
}

TEST_CASE("another base: merging refuses, scoring and generating warn, resuming refuses") {
  const Trained trained;
  const std::vector<std::string> merge = {"merge",       "--model", "base",  "--adapter",
                                          "run/adapter", "--out",   "merged"};
  for (const Finished& own : {trained.generate(), trained.evaluate(), trained.convert(merge)}) {
    CHECK_MESSAGE(own.code == 0, own.err);
    CHECK(own.err.find(kWarning) == std::string::npos);
  }
  fs::remove_all(trained / "merged");
  trained.change_base();
  for (const Finished& other : {trained.generate(), trained.evaluate()}) {
    CHECK_MESSAGE(other.code == 0, other.err);
    CHECK_MESSAGE(other.err.find(kWarning) != std::string::npos, other.err);
  }
  const Finished refused = trained.convert(merge);
  CHECK(refused.code == 3);
  CHECK(refused.err.find("not the weights that the adapter was trained on") != std::string::npos);
  CHECK_FALSE(fs::exists(trained / "merged"));
  fs::remove(trained / "run/summary.json");
  const Finished resumed = train(trained.path(), {"--config", "config.json", "--resume"});
  CHECK_MESSAGE(resumed.code == 2, resumed.err);
  CHECK(resumed.err.find("the weights in model.path") != std::string::npos);
}

TEST_CASE("a sample tells weights apart and does not depend on shards") {
  const TemporaryFolder whole, shards;
  OwnedTensor a({DType::f32, {3000}}), b({DType::f32, {2, 3}}), none({DType::f32, {0}});
  const auto sample = [&](const TemporaryFolder& folder, uint64_t limit) {
    for (const auto& entry : fs::directory_iterator(folder.path())) fs::remove(entry);
    write_safetensors_folder(
        folder.path(),
        std::vector{stored({"a", a.view()}), stored({"b", b.view()}), stored({"n", none.view()})},
        limit);
    return tensors_sample_sha256(SafetensorsFolder(folder.path()));
  };
  const std::string first = sample(whole, 1 << 20);
  CHECK(sample(shards, 100) == first);
  a.as<float>()[1500] = 1;  // in the middle: the price of a sample
  CHECK(sample(whole, 1 << 20) == first);
  for (const size_t at : {size_t{0}, size_t{1023}, size_t{2999}}) {
    a.as<float>()[at] += 1;
    CHECK(sample(whole, 1 << 20) != first);
    a.as<float>()[at] -= 1;
  }
  b.as<float>()[3] = 1;
  CHECK(sample(whole, 1 << 20) != first);
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
