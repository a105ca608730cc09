// The configurations that are shipped: every one is right, and those of the paper's runs say what
// docs/paper.md says.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <vector>

#include "mora/config/run_config.hpp"

namespace fs = std::filesystem;
using namespace mora;

TEST_SUITE_BEGIN("configs");

namespace {

const fs::path kConfigs = fs::path(MORA_SOURCE_DIR) / "configs";

// Files of runs: not what they extend, not models, not sweeps, not the base model's, whose script
// names the data.
std::vector<fs::path> run_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const fs::path& path = entry.path();
    const std::string parent = path.parent_path().filename().string();
    if (path.extension() != ".json" || path.filename() == "common.json" || parent == "common" ||
        parent == "models" || parent == "sweeps" || path.filename() == "base_model.json" ||
        path.filename() == "base_pretrain.json")
      continue;
    files.push_back(path);
  }
  std::ranges::sort(files);
  return files;
}

RunConfig parsed(const fs::path& file) {
  RunConfig config;
  parse_config(file, {}, config);
  return config;
}

int64_t batch(const RunConfig& config) {
  return config.train.per_device_train_batch_size * config.train.gradient_accumulation_steps;
}

// Sequences of a step at the paper's size.
const std::map<std::string, int64_t> kBatch = {
    {"uuid", 1024},   {"tulu", 128},           {"metamath", 128},      {"biomedicine", 128},
    {"finance", 128}, {"pretrain_250m", 1024}, {"pretrain_1.3b", 1024}};

}  // namespace

TEST_CASE("every shipped configuration is right and has a folder of its own") {
  std::map<fs::path, fs::path> outputs;
  const auto files = run_files(kConfigs);
  CHECK(files.size() > 80);
  for (const fs::path& file : files) {
    CAPTURE(file.string());
    const RunConfig config = parsed(file);
    CHECK(outputs.emplace(config.output_dir, file).second);
    CHECK(config.output_dir.stem() == file.stem());
    // What is shipped is where the configuration says.
    for (const auto& needed : {config.model.config, config.model.path, config.model.tokenizer}) {
      const bool shipped = needed.string().starts_with(MORA_SOURCE_DIR "/data") ||
                           needed.string().starts_with(MORA_SOURCE_DIR "/configs");
      if (shipped) CHECK_MESSAGE(fs::exists(needed), needed.string());
    }
  }
}

TEST_CASE("the paper's runs have its batches, ranks and dropout") {
  int runs = 0;
  for (const fs::path& file : run_files(kConfigs / "paper")) {
    CAPTURE(file.string());
    const RunConfig config = parsed(file);
    const std::string data = file.parent_path().filename().string();
    REQUIRE(kBatch.contains(data));
    CHECK(batch(config) == kBatch.at(data));
    ++runs;
    if (config.adapter.method == "full") continue;
    CHECK(config.adapter.lora_dropout == 0.05);
    CHECK(config.adapter.target_modules.size() == 7);
    const size_t rank = file.stem().string().find("_r");
    const int64_t r =
        rank == std::string::npos ? 128 : std::stoll(file.stem().string().substr(rank + 2));
    CHECK(config.adapter.r == r);
    if (config.adapter.method == "lora" && r != 128 && (r == 8 || r == 256))
      CHECK(config.adapter.lora_alpha == (r == 8 ? 16 : 128));
    if (config.adapter.method == "mora" && data != "uuid")
      CHECK(config.adapter.operation == (r == 8 ? "rotation" : "sharing"));
  }
  CHECK(runs == 4 * 13 + 9 + 2 * 5);
}

TEST_SUITE_END();
