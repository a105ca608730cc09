// Whole commands as a user runs them: what a run leaves, that its scores can be had again, that
// folders are not lost by mistake, that threads do not change the result, and how signals end it.
#include "command.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include "io/json.hpp"
#include "mora/io/folder_commit.hpp"
#include "mora/io/safetensors_folder.hpp"

TEST_SUITE_BEGIN("command");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

Json json_of(const std::string& text) {
  return parse_json(text, "output of a command");
}

std::vector<Json> lines_of(const fs::path& file) {
  std::vector<Json> rows;
  std::istringstream in(bytes_of(file));
  for (std::string line; std::getline(in, line);) rows.push_back(json_of(line));
  return rows;
}

void check_keys(const Json& json, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) CHECK_MESSAGE(json.contains(key), key);
  CHECK(json.size() == keys.size());
}

void check_same(const Json& scores, const Json& summary, const std::vector<std::string>& names) {
  for (const std::string& name : names) CHECK_MESSAGE(scores.at(name) == summary.at(name), name);
}

std::vector<std::string> checkpoint_names(const fs::path& run) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints"))
    names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

const std::vector<std::string> kUuidScores = {"samples", "character_accuracy", "exact_match"};
const std::string kLora = R"({"method": "lora", "r": 4})";
const std::string kMora = R"({"method": "mora", "r": 4})";

void check_uuid_metrics(const std::vector<Json>& metrics) {
  REQUIRE(metrics.size() == 5);  // steps 2 and 4, scores, step 6, scores
  for (const size_t i : {0, 1, 3}) {
    check_keys(metrics[i], {"step", "epoch", "loss", "grad_norm", "learning_rate", "tokens",
                            "tokens_per_second", "seconds"});
  }
  for (const size_t i : {2, 4})
    check_keys(metrics[i], {"step", "samples", "character_accuracy", "exact_match"});
  CHECK(metrics[1].at("step") == 4);
  CHECK(metrics[2].at("step") == 4);
  CHECK(metrics[4].at("step") == 6);
}

// Every saved adapter names the weights it belongs to.
void check_base_hash(const fs::path& adapter) {
  const SafetensorsFile file(adapter / "adapter_model.safetensors");
  REQUIRE(file.metadata().contains("base_hash"));
  CHECK(file.metadata().at("base_hash") == tensors_sha256(SafetensorsFolder(kBase)));
}

void check_uuid_folder(const fs::path& run, const Json& summary) {
  check_uuid_metrics(lines_of(run / "metrics.jsonl"));
  check_keys(summary, {"task", "method", "operator", "rank", "trainable_parameters", "steps",
                       "loss", "samples", "character_accuracy", "exact_match", "seconds",
                       "train_seconds", "tokens", "tokens_per_second", "planned_memory_bytes",
                       "peak_memory_bytes", "threads", "device"});
  CHECK(summary.at("steps") == 6);
  CHECK(summary.at("samples") == 6);
  CHECK(summary.at("rank") == 4);
  CHECK(lines_of(run / "uuid_pairs.jsonl").size() == 6);
  CHECK_NOTHROW(verify_folder(run / "adapter"));
  CHECK(checkpoint_names(run) ==
        std::vector<std::string>{"step-00000002", "step-00000003", "step-00000006"});
  for (const std::string& name : checkpoint_names(run)) {
    CHECK_NOTHROW(verify_folder(run / "checkpoints" / name));
    check_base_hash(run / "checkpoints" / name);
  }
  check_base_hash(run / "adapter");
}

// The same scores by every way to ask for them.
void check_uuid_scores(const TemporaryFolder& folder, const Json& summary) {
  const Finished by_config = score(folder.path(), {"--config", "config.json"});
  CHECK_MESSAGE(by_config.code == 0, by_config.err);
  check_same(json_of(by_config.out), summary, kUuidScores);
  for (const char* adapter : {"run/adapter", "run/checkpoints/step-00000006"}) {
    const Finished by_parts =
        score(folder.path(), {"--model", kBase, "--adapter", adapter, "--task", "uuid", "--data",
                              "run/uuid_pairs.jsonl", "--json", "scores.json"});
    CHECK_MESSAGE(by_parts.code == 0, by_parts.err);
    check_same(json_of(by_parts.out), summary, kUuidScores);
    CHECK(bytes_of(folder / "scores.json") == by_parts.out);
  }
  const Finished earlier = score(
      folder.path(), {"--config", "config.json", "--adapter", "run/checkpoints/step-00000002"});
  CHECK(earlier.code == 0);
  CHECK(json_of(earlier.out).at("adapter") == "run/checkpoints/step-00000002");
}

}  // namespace

TEST_CASE("a run on UUID pairs leaves its folder, and its scores can be had again") {
  for (const std::string& adapter : {kLora, kMora}) {
    CAPTURE(adapter);
    const TemporaryFolder folder;
    folder.file("config.json", uuid_config(adapter));
    const Finished run = train(folder.path(), {"--config", "config.json"});
    REQUIRE_MESSAGE(run.code == 0, run.err);
    CHECK(run.out.empty());
    CHECK(run.err.starts_with("data: "));
    CHECK(run.err.find("\ntrainable params: ") != std::string::npos);
    const Json summary = json_of(bytes_of(folder / "run/summary.json"));
    check_uuid_folder(folder / "run", summary);
    check_uuid_scores(folder, summary);
  }
}

TEST_CASE("the printed configuration is the one that runs, overrides included") {
  const TemporaryFolder folder;
  folder.file("config.json", uuid_config(kMora));
  const std::vector<std::string> options = {
      "--set", "train.max_steps=2", "--set", "adapter.r=2", "--set", "adapter.operator=rotation"};
  const Finished printed =
      train(folder.path(), joined({"--config", "config.json", "--print-config"}, options));
  REQUIRE_MESSAGE(printed.code == 0, printed.err);
  const Json config = json_of(printed.out);
  CHECK(config.at("train").at("max_steps") == 2);
  CHECK(config.at("adapter").at("r") == 2);
  CHECK(config.at("adapter").at("operator") == "rotation");
  CHECK(config.at("data").at("pairs") == 6);
  CHECK_FALSE(fs::exists(folder / "run"));
  folder.file("printed.json", printed.out);
  CHECK(train(folder.path(), {"--config", "printed.json", "--print-config"}).out == printed.out);
  CHECK(train(folder.path(), joined({"--config", "config.json"}, options)).code == 0);
  CHECK(bytes_of(folder / "run/run_config.json") == printed.out);
}

TEST_CASE("pretraining from scratch leaves a model that is scored and trained on") {
  const TemporaryFolder folder;
  folder.file("text.txt", some_text());
  folder.file("config.json", pretrain_config());
  const Finished run = train(folder.path(), {"--config", "config.json"});
  REQUIRE_MESSAGE(run.code == 0, run.err);
  const Json summary = json_of(bytes_of(folder / "run/summary.json"));
  CHECK(summary.at("method") == "full");
  CHECK(summary.at("loss") < 7.0);
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.model"})
    CHECK(fs::exists(folder / "run/model" / name));
  const Finished scored = score(folder.path(), {"--config", "config.json"});
  CHECK_MESSAGE(scored.code == 0, scored.err);
  check_same(json_of(scored.out), summary, {"samples", "eval_loss", "perplexity"});
  folder.file("next.json", uuid_config(kLora));
  const Finished next = train(folder.path(), {"--config", "next.json", "--set",
                                              "model.path=run/model", "--set", "output_dir=next"});
  CHECK_MESSAGE(next.code == 0, next.err);
}

TEST_CASE("an earlier run is replaced only when told, and only by a run that can start") {
  const TemporaryFolder folder;
  folder.file("config.json", uuid_config(kLora));
  REQUIRE(train(folder.path(), {"--config", "config.json"}).code == 0);
  folder.file("run/notes.txt", "mine");
  fs::create_directory(folder / "run/eval");
  for (const char* file : {"uuid.json", "uuid.jsonl", "mmlu.json", "mmlu.jsonl", "plan.json"})
    folder.file(str("run/eval/", file), "{}");
  const std::string before = bytes_of(folder / "run/summary.json");
  const Finished refused = train(folder.path(), {"--config", "config.json"});
  CHECK(refused.code == 2);
  CHECK(refused.err.find("already holds a run") != std::string::npos);
  folder.file("bad.jsonl", "{\"key\": 1}\n");
  const Finished bad = train(
      folder.path(), {"--config", "config.json", "--overwrite", "--set", "data.file=bad.jsonl"});
  CHECK(bad.code == 3);
  CHECK(bytes_of(folder / "run/summary.json") == before);
  CHECK(checkpoint_names(folder / "run").size() == 3);

  const Finished replaced =
      train(folder.path(), {"--config", "config.json", "--overwrite", "--set", "train.max_steps=1",
                            "--set", "train.save_steps=0"});
  CHECK_MESSAGE(replaced.code == 0, replaced.err);
  CHECK(json_of(bytes_of(folder / "run/summary.json")).at("steps") == 1);
  CHECK(checkpoint_names(folder / "run").empty());
  CHECK(bytes_of(folder / "run/notes.txt") == "mine");
  CHECK_FALSE(fs::exists(folder / "run/eval/uuid.json"));
  CHECK_FALSE(fs::exists(folder / "run/eval/mmlu.jsonl"));
  CHECK(fs::exists(folder / "run/eval/plan.json"));

  folder.file("text.txt", some_text());
  folder.file("config.json", pretrain_config());
  const Finished other = train(folder.path(), {"--config", "config.json", "--overwrite"});
  CHECK_MESSAGE(other.code == 0, other.err);
  CHECK_FALSE(fs::exists(folder / "run/uuid_pairs.jsonl"));
  CHECK_FALSE(fs::exists(folder / "run/adapter"));
}

TEST_CASE("the number of threads does not change a byte of the adapter") {
  for (const std::string& adapter : {kLora, kMora}) {
    const TemporaryFolder folder;
    folder.file("config.json", uuid_config(adapter));
    std::map<std::string, std::string> adapters;
    for (const char* threads : {"1", "3"}) {
      const Finished run = train(folder.path(), {"--config", "config.json", "--threads", threads,
                                                 "--set", str("output_dir=run-", threads)});
      REQUIRE_MESSAGE(run.code == 0, run.err);
      CHECK(json_of(bytes_of(folder / str("run-", threads) / "summary.json")).at("threads") ==
            std::stoi(threads));
      adapters[threads] =
          bytes_of(folder / str("run-", threads) / "adapter/adapter_model.safetensors");
    }
    CHECK(adapters["1"].size() > 1000);
    CHECK((adapters["1"] == adapters["3"]));
  }
}

// The set of signals for which a process has handlers.
uint64_t caught_signals(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("SigCgt:")) return std::stoull(line.substr(7), nullptr, 16);
  }
  FAIL("no SigCgt");
  return 0;
}

// There must be no handler: it would run on a stack that the matrix kernels have put in the heap.
TEST_CASE("a signal ends a run after a whole checkpoint") {
  for (const int signal : {SIGTERM, SIGINT}) {
    const TemporaryFolder folder;
    folder.file("config.json", uuid_config(kLora));
    Command command(folder.path(),
                    {MORA_BINARY_DIR "/mora-train", "--config", "config.json", "--set",
                     "train.max_steps=1000000000000", "--set", "train.save_steps=0", "--set",
                     "train.save_at=[]", "--set", "train.eval_steps=0"});
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    std::error_code none;
    while (fs::file_size(folder / "run/metrics.jsonl", none) + 1 <= 1) {
      REQUIRE(std::chrono::steady_clock::now() < deadline);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    CHECK((caught_signals(command.pid()) & (1u << (SIGINT - 1) | 1u << (SIGTERM - 1))) == 0);
    command.send(signal);
    const Finished stopped = command.wait();
    CHECK_MESSAGE(stopped.code == 128 + signal, stopped.err);
    CHECK(stopped.err.find(str("stopped by signal ", signal)) != std::string::npos);
    CHECK_FALSE(fs::exists(folder / "run/summary.json"));
    const auto names = checkpoint_names(folder / "run");
    REQUIRE(names.size() == 1);
    CHECK_NOTHROW(verify_folder(folder / "run/checkpoints" / names[0]));
    const Finished scored = score(
        folder.path(), {"--config", "config.json", "--adapter", str("run/checkpoints/", names[0])});
    CHECK_MESSAGE(scored.code == 0, scored.err);
  }
}

TEST_CASE("a reader of the log that ends does not end the run") {
  const TemporaryFolder folder;
  folder.file("config.json", uuid_config(kLora));
  const Finished piped = run(
      folder.path(), {"bash", "-c",
                      "set -o pipefail; " MORA_BINARY_DIR
                      "/mora-train --config config.json --set train.max_steps=300 2>&1 | true"});
  CHECK(piped.code == 0);
  CHECK(fs::exists(folder / "run/summary.json"));
}

TEST_CASE("a run in a folder whose name is not UTF-8 keeps its adapter") {
  const TemporaryFolder folder;
  const fs::path place = folder / "caf\xe9";
  fs::create_directory(place);
  fs::copy(kBase, place / "base", fs::copy_options::recursive);
  folder.file("caf\xe9/config.json", uuid_config(kMora));
  const Finished trained = train(place, {"--config", "config.json", "--set", "model.path=base"});
  CHECK_MESSAGE(trained.code == 0, trained.err);
  CHECK(fs::exists(place / "run/adapter/adapter_model.safetensors"));
}

}  // namespace mora::testing

TEST_SUITE_END();
