// Every task from its shipped configuration to its scores, as a user runs it: fewer steps and
// questions, everything else as it is.
#include <algorithm>
#include <sstream>

#include "command.hpp"
#include "io/json.hpp"

TEST_SUITE_BEGIN("shipped runs");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

std::vector<Json> lines_of(const fs::path& file) {
  std::vector<Json> rows;
  std::istringstream in(bytes_of(file));
  for (std::string line; std::getline(in, line);) rows.push_back(parse_json(line, file.string()));
  return rows;
}

// Trains configs/NAME.json for a few steps and scores it; the scores as mora-eval prints them.
struct ShippedRun {
  TemporaryFolder folder;
  Json scores;

  ShippedRun(const std::string& name, int steps, const std::vector<std::string>& settings = {}) {
    std::vector<std::string> options = {"--config", str(MORA_SOURCE_DIR "/configs/", name, ".json"),
                                        "--set",    "output_dir=run",
                                        "--set",    str("train.max_steps=", steps),
                                        "--set",    "train.logging_steps=5",
                                        "--set",    "eval.num_samples=16"};
    for (const std::string& setting : settings) {
      options.emplace_back("--set");
      options.push_back(setting);
    }
    const Finished trained = train(folder.path(), options);
    INFO(trained.err);
    REQUIRE(trained.code == 0);
    const Finished scored = score(folder.path(), {"--config", "run/run_config.json", "--set",
                                                  "eval.batch_size=8", "--set", "seed=7"});
    INFO(scored.err);
    REQUIRE(scored.code == 0);
    const std::string& out = scored.out;
    scores = parse_json(out.substr(out.rfind('\n', out.size() - 2) + 1), "mora-eval");
  }

  // The loss of the first logged steps is above that of the last ones: something was learnt.
  void check_learnt() const {
    std::vector<double> losses;
    for (const Json& line : lines_of(folder / "run/metrics.jsonl")) {
      if (line.contains("loss")) losses.push_back(line.at("loss").get<double>());
    }
    REQUIRE(losses.size() >= 3);
    CHECK(losses.back() < 0.95 * losses.front());
  }

  // The samples and the summary of one evaluation.
  void check_evaluation(const std::string& label, size_t samples) const {
    CAPTURE(label);
    const auto rows = lines_of(folder / ("run/eval/" + label + ".jsonl"));
    CHECK(rows.size() == samples);
    const fs::path file = folder / ("run/eval/" + label + ".json");
    const Json summary = parse_json(bytes_of(file), file.string());
    CHECK(summary.at("n") == samples);
    CHECK_FALSE(summary.at("metrics").empty());
    CHECK(summary.contains("settings"));
  }
};

std::string benchmarks(const std::string& list) {
  return "eval.benchmarks=" + list;
}

const std::string kData = MORA_SOURCE_DIR "/data/";

}  // namespace

TEST_CASE("instruction tuning, then multiple choice without and with examples") {
  const std::string mmlu = R"({"name": "mmlu", "num_samples": 4, "data": ")" + kData +
                           R"(choices/mmlu", "num_fewshot": )";
  for (const char* name : {"instruction_mora", "instruction_full"}) {
    const ShippedRun run(name, 15, {benchmarks("[" + mmlu + "0}, " + mmlu + "2}]")});
    run.check_learnt();
    run.check_evaluation("mmlu", 16);
    run.check_evaluation("mmlu-2shot", 16);
    CHECK(run.scores.contains("mmlu-2shot/acc"));
  }
}

TEST_CASE("mathematics, then problems by generation") {
  const ShippedRun run("math_mora", 15,
                       {benchmarks(R"([{"name": "gsm8k", "prompt": "alpaca", "num_samples": 8,
                                       "max_new_tokens": 24, "data": ")" +
                                   kData + R"(arithmetic/test.jsonl"}])")});
  run.check_learnt();
  run.check_evaluation("gsm8k-alpaca", 8);
  run.check_evaluation("task", 16);
}

TEST_CASE("continual pretraining, then questions about the domain") {
  const ShippedRun run("continual_mora", 15,
                       {benchmarks(R"([{"name": "pubmedqa", "num_samples": 8, "data": ")" + kData +
                                   R"(facts/pubmedqa"}])")});
  run.check_learnt();
  run.check_evaluation("pubmedqa", 8);
  CHECK(run.scores.contains("perplexity"));
}

TEST_CASE("pretraining from scratch, in full and with merges") {
  for (const char* name : {"pretrain_full", "pretrain_relora", "pretrain_remora"}) {
    const bool restarts = std::string(name) != "pretrain_full";
    std::vector<std::string> settings = {"train.warmup_steps=2"};
    if (restarts) {
      settings.insert(settings.end(), {"restart.merge_steps=8", "train.restart_warmup_steps=1"});
    }
    const ShippedRun run(name, 16, settings);
    run.check_learnt();
    CHECK(fs::exists(run.folder / "run/model/model.safetensors"));
    CHECK(fs::exists(run.folder / "run/initial_model/model.safetensors"));
    CHECK(run.scores.contains("perplexity"));
    const Finished inspected =
        mora::testing::run(run.folder.path(), {MORA_BINARY_DIR "/mora-inspect", "run"});
    CHECK(inspected.code == 0);
    CHECK(inspected.out.find("q_proj") != std::string::npos);
  }
}

TEST_CASE("memorizing UUIDs") {
  for (const char* name : {"uuid_lora", "uuid_mora"}) {
    const ShippedRun run(name, 40, {"train.warmup_steps=2", "data.pairs=16"});
    run.check_learnt();
    run.check_evaluation("task", 16);
    CHECK(run.scores.contains("character_accuracy"));
  }
}

}  // namespace mora::testing

TEST_SUITE_END();
