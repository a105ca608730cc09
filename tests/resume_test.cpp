// mora-train --resume as a user meets it: a run that was killed or stopped, whenever, goes on to
// the files of the run that never was; what would not be exact is refused.
#include <fstream>

#include "command.hpp"
#include "io/json.hpp"
#include "mora/io/folder_commit.hpp"
#include "mora/train/checkpoint.hpp"

TEST_SUITE_BEGIN("resume");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMora = R"({"method": "mora", "r": 4, "lora_dropout": 0.1})";

// A run with checkpoints in the middle of log windows, dropout and several epochs; with `restart`,
// merges at steps with and without a checkpoint.
struct Place : TemporaryFolder {
  explicit Place(const std::string& adapter = kMora, const std::string& restart = "") {
    Json config = parse_json(uuid_config(adapter), "config");
    if (!restart.empty()) config["restart"] = parse_json(restart, "restart");
    config["train"]["max_steps"] = 24;
    config["train"]["logging_steps"] = 3;
    config["train"]["save_steps"] = 5;
    config["train"]["save_at"] = {2};
    config["train"]["eval_steps"] = 10;
    config["train"]["gradient_accumulation_steps"] = 2;
    file("config.json", dump_json(config));
  }

  std::vector<std::string> options(std::vector<std::string> settings) const {
    std::vector<std::string> all = {"--config", "config.json"};
    for (std::string& s : settings) {
      if (!s.starts_with("--")) all.push_back("--set");
      all.push_back(std::move(s));
    }
    return all;
  }
  Finished train(std::vector<std::string> settings) const {
    return testing::train(path(), options(std::move(settings)));
  }
  fs::path checkpoint(int64_t step, const std::string& run = "run") const {
    return path() / run / "checkpoints" / str("step-000000", step < 10 ? "0" : "", step);
  }
};

// All that does not depend on the clock.
Json without_times(Json record) {
  for (const char* key : {"seconds", "train_seconds", "tokens_per_second", "planned_memory_bytes",
                          "peak_memory_bytes", "threads"})
    record.erase(key);
  return record;
}

std::vector<Json> metrics_of(const fs::path& run) {
  std::vector<Json> rows;
  std::ifstream in(run / "metrics.jsonl");
  for (std::string line; std::getline(in, line);)
    rows.push_back(without_times(parse_json(line, "metrics.jsonl")));
  return rows;
}

Json summary_of(const fs::path& run) {
  return without_times(parse_json(bytes_of(run / "summary.json"), "summary.json"));
}

void check_same_run(const fs::path& run, const fs::path& undisturbed, const std::string& weights) {
  CHECK(bytes_of(run / weights) == bytes_of(undisturbed / weights));
  CHECK(metrics_of(run) == metrics_of(undisturbed));
  CHECK(summary_of(run) == summary_of(undisturbed));
}

struct Method {
  std::string adapter, restart, weights;
};

constexpr const char* kMerged = "model/model.safetensors";

std::vector<Method> restarting_methods() {
  return {{R"({"method": "lora", "r": 4, "use_dora": true})",
           R"({"merge_steps": 7, "merge_at": "after_first_step", "optimizer_reset": "random",
               "pruning_ratio": 0.9})",
           kMerged},
          {kMora, R"({"merge_steps": 5, "regroup": "two"})", kMerged},
          {kMora, R"({"merge_steps": 4, "reset_steps": 6, "regroup": "random"})", kMerged}};
}

TEST_CASE("a run killed again and again ends as the run that never was") {
  std::vector<Method> methods = restarting_methods();
  methods.push_back({kMora, "", "adapter/adapter_model.safetensors"});
  methods.push_back({R"({"method": "full"})", "", kMerged});
  for (const Method& method : methods) {
    INFO(method.adapter << " " << method.restart);
    const Place place(method.adapter, method.restart);
    REQUIRE(place.train({"output_dir=whole"}).code == 0);
    Finished last{};
    int starts = 0;
    for (; starts < 60; ++starts) {
      Command command(place.path(),
                      joined({MORA_BINARY_DIR "/mora-train"}, place.options({"--resume"})));
      if (starts < 6) {
        std::this_thread::sleep_for(std::chrono::milliseconds(150 + 137 * starts));
        command.send(SIGKILL);
      }
      last = command.wait();
      if (starts >= 6) break;
    }
    REQUIRE_MESSAGE(last.code == 0, last.err);
    check_same_run(place / "run", place / "whole", method.weights);
    for (const auto& entry : fs::directory_iterator(place / "run/checkpoints"))
      CHECK(entry.path().filename().string().starts_with("step-"));
  }
}

void check_each_checkpoint(const Method& method) {
  const Place place(method.adapter, method.restart);
  REQUIRE(place.train({"output_dir=whole"}).code == 0);
  const auto checkpoints = list_checkpoints(place / "whole/checkpoints");
  REQUIRE(checkpoints.size() == 6);  // 2, 5, 10, 15, 20, 24
  for (size_t kept = 1; kept <= checkpoints.size(); ++kept) {
    INFO(kept);
    fs::remove_all(place / "run");
    fs::create_directories(place / "run/checkpoints");
    fs::copy_file(place / "whole/metrics.jsonl", place / "run/metrics.jsonl");
    for (size_t i = 0; i < kept; ++i)
      fs::copy(checkpoints[i], place / "run/checkpoints" / checkpoints[i].filename());
    const Finished resumed = place.train({"--resume", "engine.threads=1", "train.recompute=block"});
    REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
    CHECK(resumed.err.find("going on after step ") != std::string::npos);
    check_same_run(place / "run", place / "whole", method.weights);
  }
}

TEST_CASE("going on from each checkpoint gives the same files") {
  std::vector<Method> methods = restarting_methods();
  methods.push_back({kMora, "", "adapter/adapter_model.safetensors"});
  for (const Method& method : methods) {
    INFO(method.adapter << " " << method.restart);
    check_each_checkpoint(method);
  }
}

TEST_CASE("a signal right after going on saves nothing twice") {
  const Place place;
  Command command(place.path(), joined({MORA_BINARY_DIR "/mora-train"},
                                       place.options({"train.max_steps=1000000"})));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!fs::exists(place.checkpoint(5))) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  command.send(SIGTERM);
  REQUIRE(command.wait().code == 143);
  const auto before = list_checkpoints(place / "run/checkpoints");
  Command again(place.path(), joined({MORA_BINARY_DIR "/mora-train"},
                                     place.options({"--resume", "train.max_steps=1000000"})));
  again.send(SIGTERM);
  const Finished stopped = again.wait();
  CHECK_MESSAGE(stopped.code == 143, stopped.err);
  CHECK(list_checkpoints(place / "run/checkpoints").size() >= before.size());
}

TEST_CASE("a damaged checkpoint is passed over, and only a damaged one") {
  const Place place;
  REQUIRE(place.train({"output_dir=whole"}).code == 0);
  REQUIRE(place.train({}).code == 0);
  fs::remove(place / "run/summary.json");
  fs::resize_file(place.checkpoint(24) / "optimizer.safetensors", 100);
  const Finished resumed = place.train({"--resume"});
  REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
  for (const char* part :
       {"warning: ", "optimizer.safetensors", "damaged-step-00000024", "step 20"})
    CHECK_MESSAGE(resumed.err.find(part) != std::string::npos, part);
  CHECK(list_checkpoints(place / "run/checkpoints").size() == 6);
  check_same_run(place / "run", place / "whole", "adapter/adapter_model.safetensors");

  fs::remove(place / "run/summary.json");
  for (const auto& checkpoint : list_checkpoints(place / "run/checkpoints"))
    fs::resize_file(checkpoint / "state.json", 10);
  const Finished none = place.train({"--resume"});
  CHECK(none.code == 3);
  CHECK(none.err.find("none of the 6 checkpoints is whole") != std::string::npos);
}

TEST_CASE("what would change the result is refused, what would not is free") {
  const Place place;
  REQUIRE(place.train({"train.max_steps=3"}).code == 0);
  const Finished changed = place.train(
      {"--resume", "train.max_steps=3", "train.learning_rate=1e-4", "adapter.r=8", "seed=7"});
  CHECK(changed.code == 2);
  for (const char* part : {"train.learning_rate: 0.0001, but the checkpoint was made with 0.003",
                           "adapter.r: 8", "seed: 7"})
    CHECK_MESSAGE(changed.err.find(part) != std::string::npos, changed.err);
  const Finished merging = place.train({"--resume", "train.max_steps=3", "restart.merge_steps=2"});
  CHECK(merging.code == 2);
  CHECK(merging.err.find("restart.merge_steps: 2, but the checkpoint was made with 0") !=
        std::string::npos);
  const Finished data = place.train({"--resume", "train.max_steps=3", "data.pairs=7"});
  CHECK(data.code == 2);
  const Finished done = place.train({"--resume", "train.max_steps=3", "train.save_steps=2",
                                     "train.logging_steps=1", "engine.threads=1"});
  CHECK(done.code == 0);
  CHECK(done.err.find("finished: nothing to do") != std::string::npos);
  CHECK(place.train({"--resume", "--overwrite"}).code == 2);
}

TEST_CASE("an entry that left a list is a change, and so is the model's config.json") {
  const Place place;
  const fs::path model = place / "model";
  fs::create_directory(model);
  for (const auto& file : fs::directory_iterator(kBase)) {
    if (file.path().filename() != kManifestName)
      fs::copy(file.path(), model / file.path().filename());
  }
  const std::vector<std::string> settings = {
      "model.path=model", "train.max_steps=3",
      R"(adapter.modules_to_save=["model.norm", "input_layernorm"])"};
  REQUIRE(place.train(settings).code == 0);
  const Finished shorter = place.train({"--resume", "model.path=model", "train.max_steps=3",
                                        R"(adapter.modules_to_save=["model.norm"])"});
  CHECK(shorter.code == 2);
  CHECK_MESSAGE(shorter.err.find("adapter.modules_to_save.1: no such setting, but the checkpoint "
                                 "was made with \"input_layernorm\"") != std::string::npos,
                shorter.err);

  Json config = parse_json(bytes_of(model / "config.json"), "config.json");
  config["rms_norm_eps"] = 0.001;
  place.file("model/config.json", dump_json(config));
  const Finished other = place.train(joined(settings, {"--resume"}));
  CHECK(other.code == 2);
  CHECK_MESSAGE(
      other.err.find("config.json of the model, rms_norm_eps: 0.001") != std::string::npos,
      other.err);
}

TEST_CASE("a finished run without checkpoints is told from one with other settings") {
  const Place place;
  const std::vector<std::string> settings = {"train.save_steps=0", "train.save_at=[]",
                                             "train.max_steps=3"};
  REQUIRE(place.train(settings).code == 0);
  REQUIRE(list_checkpoints(place / "run/checkpoints").empty());
  const std::string before = bytes_of(place / "run/run_config.json");
  const Finished changed =
      place.train(joined(settings, {"--resume", "train.learning_rate=1e-4", "data.pairs=7"}));
  CHECK(changed.code == 2);
  for (const char* part :
       {"finished", "train.learning_rate: 0.0001, but the run was made with 0.003",
        "data.pairs: 7"})
    CHECK_MESSAGE(changed.err.find(part) != std::string::npos, changed.err);
  CHECK(bytes_of(place / "run/run_config.json") == before);
  const Finished same = place.train(joined(settings, {"--resume", "train.logging_steps=1"}));
  CHECK_MESSAGE(same.code == 0, same.err);
}

TEST_CASE("a run that is ended in its last evaluation goes on with it") {
  const Place place;
  const std::vector<std::string> settings = {"train.save_steps=0", "train.save_at=[]",
                                             "train.max_steps=3", "train.eval_steps=0",
                                             "data.pairs=3000"};
  const std::vector<std::string> few = joined(settings, {"eval.num_samples=5"});
  REQUIRE(place.train(joined(few, {"output_dir=whole"})).code == 0);
  Command command(place.path(), joined({MORA_BINARY_DIR "/mora-train"}, place.options(settings)));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!fs::exists(place.checkpoint(3))) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  command.send(SIGTERM);
  const Finished ended = command.wait();
  REQUIRE_MESSAGE(ended.code == 143, ended.err);
  CHECK_FALSE(fs::exists(place / "run/summary.json"));
  const Finished resumed = place.train(joined(few, {"--resume"}));
  REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
  CHECK(resumed.err.find("going on after step 3") != std::string::npos);
  check_same_run(place / "run", place / "whole", "adapter/adapter_model.safetensors");
  CHECK(list_checkpoints(place / "run/checkpoints").empty());
}

TEST_CASE("an old checkpoint that cannot be removed ends no run") {
  const Place place;
  REQUIRE(place.train({"train.max_steps=10"}).code == 0);
  fs::remove(place / "run/summary.json");
  fs::remove_all(place.checkpoint(10));
  for (const auto& file : fs::directory_iterator(place.checkpoint(2))) fs::remove(file);
  const Finished resumed =
      place.train({"--resume", "train.max_steps=10", "train.save_total_limit=1"});
  REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
  CHECK(resumed.err.find("warning: an older checkpoint stays: ") != std::string::npos);
  CHECK(fs::exists(place.checkpoint(10)));
}

TEST_CASE("the same examples from a changed file are told from other examples") {
  const Place place;
  REQUIRE(place.train({"train.max_steps=3"}).code == 0);
  const std::string pairs = bytes_of(place / "run/uuid_pairs.jsonl");
  place.file("pairs.jsonl", pairs);
  const std::vector<std::string> settings = {"output_dir=other", "data.file=pairs.jsonl",
                                             "train.max_steps=3"};
  REQUIRE(place.train(settings).code == 0);
  place.file("pairs.jsonl", "\n" + pairs);
  CHECK(place.train(joined(settings, {"--resume"})).code == 0);
  std::string other = pairs;
  other[other.find("\"value\"") + 12] ^= 1;  // another hexadecimal digit, mostly
  place.file("pairs.jsonl", other);
  const Finished refused = place.train(joined(settings, {"--resume"}));
  CHECK_MESSAGE(refused.code != 0, refused.err);
  CHECK(refused.err.find("training examples") != std::string::npos);
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
