// ReMoRA and ReLoRA as a user runs them: pretraining from scratch with whole modules beside the
// adapters, what the run leaves, and warm starts from full-rank weights.
#include <fstream>
#include <sstream>

#include "command.hpp"
#include "io/json.hpp"
#include "mora/io/folder_commit.hpp"
#include "mora/io/safetensors_folder.hpp"

TEST_SUITE_BEGIN("restart_command");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

// A pretraining run of 12 steps with merges after 4 and 8.
Json restarting_config(const std::string& adapter) {
  Json config = parse_json(pretrain_config(), "config");
  config["adapter"] = parse_json(adapter, "adapter");
  config["adapter"]["modules_to_save"] = {"embed_tokens", "lm_head", "norm", "input_layernorm",
                                          "post_attention_layernorm"};
  config["restart"] = {{"merge_steps", 4}};
  config["train"]["max_steps"] = 12;
  config["train"]["save_steps"] = 5;
  config["train"]["learning_rate"] = 3e-3;
  config["train"]["lr_scheduler_type"] = "cosine_restarts";
  config["train"]["warmup_steps"] = 1;
  config["train"]["restart_warmup_steps"] = 1;
  return config;
}

// The shipped model's output is its embedding; this one has both.
std::string untied_config() {
  const std::string file = MORA_SOURCE_DIR "/configs/models/llama_1m.json";
  Json json = parse_json(bytes_of(file), file);
  json["num_hidden_layers"] = 2;
  return dump_json(json);
}

Finished mora(const fs::path& folder, const std::string& program,
              const std::vector<std::string>& options) {
  Finished finished = run(folder, joined({MORA_BINARY_DIR "/" + program}, options));
  REQUIRE_MESSAGE(finished.code == 0, finished.err);
  return finished;
}

struct RestartingRun : TemporaryFolder {
  Finished finished;
  Json summary;

  explicit RestartingRun(const std::string& adapter) {
    file("text.txt", some_text());
    file("model.json", untied_config());
    Json config = restarting_config(adapter);
    config["model"]["config"] = "model.json";
    file("config.json", dump_json(config));
    finished = mora(path(), "mora-train", {"--config", "config.json"});
    summary = parse_json(bytes_of(*this / "run/summary.json"), "summary");
  }
};

void check_metrics(const fs::path& run) {
  std::istringstream in(bytes_of(run / "metrics.jsonl"));
  std::vector<int64_t> merges;
  for (std::string line; std::getline(in, line);) {
    const Json json = parse_json(line, "metrics.jsonl");
    if (json.contains("merges")) merges.push_back(json.at("merges").get<int64_t>());
  }
  CHECK(merges == std::vector<int64_t>{0, 1, 1, 2, 2, 2});  // of steps 2, 4 ... 12
}

TEST_CASE("pretraining with ReLoRA or ReMoRA leaves one model, scored and inspected like any") {
  struct Kind {
    const char *adapter, *method, *operation;
  };
  for (const Kind& kind :
       {Kind{R"({"method": "lora", "r": 4})", "relora", "-"},
        Kind{R"({"method": "mora", "r": 4})", "remora", "sharing strided, regroup two"}}) {
    INFO(kind.method);
    const RestartingRun place(kind.adapter);
    const fs::path run = place / "run";
    CHECK(place.finished.err.find("step 8: merge 2, the adapters begin anew") != std::string::npos);
    CHECK(place.summary.at("method") == kind.method);
    CHECK(place.summary.at("operator") == kind.operation);
    CHECK(place.summary.at("merges") == 2);
    check_metrics(run);
    CHECK_NOTHROW(verify_folder(run / "model"));
    CHECK_FALSE(fs::exists(run / "adapter"));
    for (const char* name : {"config.json", "model.safetensors", "tokenizer.model"}) {
      CHECK(fs::exists(run / "model" / name));
      CHECK(fs::exists(run / "checkpoints/step-00000010/base" / name));
    }
    // The scores of the run were those of base and adapter, these are of the merged model.
    const Finished scored = mora(place.path(), "mora-eval", {"--config", "config.json"});
    const Json scores = parse_json(scored.out, "scores");
    CHECK(scores.at("perplexity").get<double>() ==
          doctest::Approx(place.summary.at("perplexity").get<double>()).epsilon(1e-5));
    const fs::path last = run / "checkpoints/step-00000012";
    const Finished later =
        mora(place.path(), "mora-eval", {"--config", "config.json", "--adapter", last.string()});
    CHECK(parse_json(later.out, "scores").at("perplexity") == place.summary.at("perplexity"));
    mora(place.path(), "mora-convert",
         {"merge", "--model", (last / "base").string(), "--adapter", last.string(), "--out",
          "merged"});
    CHECK(tensors_sha256(SafetensorsFolder(place / "merged")) ==
          tensors_sha256(SafetensorsFolder(run / "model")));
    mora(place.path(), "mora-inspect", {run.string(), "--json", "report.json"});
    const Json report = parse_json(bytes_of(place / "report.json"), "report");
    CHECK(report.at("base") == (run / "initial_model").string());
    for (const Json& type : report.at("updates_by_type"))
      CHECK(type.at("frobenius_norm").get<double>() > 0.0);
    const Finished table = mora(place.path(), "mora-eval", {"--compare", "run"});
    CHECK(table.out.find(kind.method) != std::string::npos);
  }
}

TEST_CASE("a restarting run begins with what full-rank training left") {
  const TemporaryFolder folder;
  folder.file("text.txt", some_text());
  folder.file("full.json", pretrain_config());
  mora(folder.path(), "mora-train", {"--config", "full.json"});
  Json config = restarting_config(R"({"method": "lora", "r": 4})");
  config["adapter"]["modules_to_save"] = {"norm"};  // the shipped model is tied
  for (const char* start : {"run/model", "run/checkpoints/step-00000002"}) {
    INFO(start);
    config["model"] = {{"path", start}};
    config["output_dir"] = "warm";
    folder.file("warm.json", dump_json(config));
    const Finished warm =
        mora(folder.path(), "mora-train", {"--config", "warm.json", "--overwrite"});
    CHECK(warm.err.find("merge 2") != std::string::npos);
    CHECK_FALSE(fs::exists(folder / "warm/initial_model"));
    const Finished report = mora(folder.path(), "mora-inspect", {"warm"});
    CHECK(report.out.find((folder / start).string()) != std::string::npos);
  }
}

TEST_CASE("merges keep frozen matrices in float32 unless told otherwise") {
  const TemporaryFolder folder;
  Json config = parse_json(uuid_config(R"({"method": "mora", "r": 4})"), "config");
  config["restart"] = {{"merge_steps", 2}};
  folder.file("config.json", dump_json(config));
  const Finished single = mora(folder.path(), "mora-train", {"--config", "config.json"});
  CHECK(single.err.find("note: ") == std::string::npos);
  const Finished half = mora(
      folder.path(), "mora-train",
      {"--config", "config.json", "--set", "model.dtype=bfloat16", "--set", "output_dir=half"});
  CHECK(half.err.find("note: model.dtype is bfloat16") != std::string::npos);
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  CHECK(SafetensorsFolder(folder / "run/model").info(name).dtype == "F32");
  CHECK(SafetensorsFolder(folder / "half/model").info(name).dtype == "BF16");
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
