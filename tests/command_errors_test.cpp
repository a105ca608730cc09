// Every mistake that a user or a machine can make: the documented exit code, one clear line on
// standard error, and nothing half-written.
#include <algorithm>

#include "command.hpp"
#include "io/json.hpp"

TEST_SUITE_BEGIN("command errors");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

int64_t line_count(const std::string& text) {
  return std::ranges::count(text, '\n');
}

// The last line, because a run that had started has said so before.
std::string last_line(const std::string& text) {
  const size_t end = text.find_last_not_of('\n');
  const size_t begin = text.rfind('\n', end);
  return text.substr(begin == std::string::npos ? 0 : begin + 1);
}

void check_message(const Finished& finished, int code, const std::vector<std::string>& parts) {
  INFO(finished.err);
  CHECK(finished.code == code);
  CHECK(finished.out.empty());
  CHECK(finished.err.starts_with("mora-"));
  CHECK(finished.err.ends_with('\n'));
  for (const std::string& part : parts)
    CHECK_MESSAGE(finished.err.find(part) != std::string::npos, part);
}

void check_line(const Finished& finished, int code, const std::vector<std::string>& parts) {
  check_message(finished, code, parts);
  CHECK(line_count(finished.err) == 1);
}

// A folder with a configuration that would run.
struct Workplace : TemporaryFolder {
  Workplace() { file("config.json", uuid_config(R"({"method": "lora", "r": 4})")); }

  Finished train_with(const std::vector<std::string>& settings) const {
    std::vector<std::string> options = {"--config", "config.json"};
    for (const std::string& setting : settings) {
      options.push_back("--set");
      options.push_back(setting);
    }
    return train(path(), options);
  }

  // The run must fail before its output folder exists.
  void check(int code, const std::vector<std::string>& settings,
             const std::vector<std::string>& parts) const {
    check_line(train_with(settings), code, parts);
    CHECK_FALSE(fs::exists(path() / "run"));
  }

  void copy_base() const { fs::copy(kBase, path() / "model"); }

  void change_model(const std::string& key, int64_t value) const {
    Json config = parse_json(bytes_of(path() / "model/config.json"), "config.json");
    config[key] = value;
    file("model/config.json", dump_json(config));
  }
};

}  // namespace

TEST_CASE("mistakes in the command line and the configuration end with 2") {
  const Workplace place;
  check_line(train(place.path(), {}), 2, {"--config"});
  check_line(train(place.path(), {"--config", "nowhere.json"}), 2,
             {"nowhere.json", "No such file"});
  check_line(train(place.path(), {"--config", "config.json", "--threads", "0"}), 2, {"--threads"});
  check_line(train(place.path(), {"--config", "config.json", "--sett", "x"}), 2, {"--sett"});
  check_line(score(place.path(), {}), 2, {"--config", "--model"});
  check_line(score(place.path(), {"--frobnicate"}), 2, {"--frobnicate"});
  place.file("syntax.json", "{\"task\": \"uuid\",\n \"output_dir\": }");
  check_line(train(place.path(), {"--config", "syntax.json"}), 2, {"syntax.json:2:"});
  place.check(2, {"adapter.r=0"}, {"adapter.r", "[1, 65536]"});
  place.check(2, {"train.lerning_rate=1"}, {"unknown key", "did you mean \"learning_rate\"?"});
  place.check(2, {R"(adapter.target_modules=["nope"])"}, {"\"nope\"", "q_proj"});
}

TEST_CASE("all problems of a configuration are told at once") {
  const Workplace place;
  const Finished finished = place.train_with({"adapter.r=0", "train.max_steps=-5", "task=poetry"});
  check_message(finished, 2, {"adapter/r", "train/max_steps", "task"});
  CHECK(line_count(finished.err) == 3);
  CHECK_FALSE(fs::exists(place / "run"));
}

TEST_CASE("a bad model ends with 3") {
  const Workplace place;
  place.check(3, {"model.path=nowhere"}, {"nowhere/config.json", "No such file"});
  place.copy_base();
  const fs::path weights = place / "model/model.safetensors",
                 pieces = place / "model/tokenizer.model";
  fs::resize_file(weights, fs::file_size(weights) - 1000);
  place.check(3, {"model.path=model"}, {"model.safetensors"});
  fs::copy_file(fs::path(kBase) / "model.safetensors", weights,
                fs::copy_options::overwrite_existing);
  place.change_model("vocab_size", 500);
  place.check(3, {"model.path=model"}, {"the tokenizer has 1024", "500"});
  for (const char* key : {"num_hidden_layers", "head_dim"}) {
    const Workplace huge;
    huge.copy_base();
    huge.change_model(key, 1 << 30);
    huge.check(3, {"model.path=model"}, {"config.json", key, "is 1073741824, expected"});
  }
  place.file("model/tokenizer.model", "no SentencePiece model at all");
  place.check(3, {"model.path=model"}, {pieces.filename().string(), "not a SentencePiece model"});
}

TEST_CASE("weights that do not fit are all listed") {
  const Workplace place;
  place.copy_base();
  place.change_model("intermediate_size", 300);
  const Finished finished = place.train_with({"model.path=model"});
  check_message(
      finished, 3,
      {"model.safetensors", "layers.0.mlp.gate_proj", "layers.5.mlp.down_proj", "[300, 128]"});
  CHECK(line_count(finished.err) == 1 + 6 * 3);
  CHECK_FALSE(fs::exists(place / "run"));
}

TEST_CASE("bad data end with 3, with file and line") {
  const Workplace place;
  place.file("empty.jsonl", "");
  place.check(3, {"data.file=empty.jsonl"}, {"empty.jsonl", "no pairs"});
  place.file("bad.jsonl",
             "{\"key\": \"8f14e45f-ceea-467f-a8d8-1a2b3c4d5e6f\", \"value\": "
             "\"8f14e45f-ceea-467f-a8d8-1a2b3c4d5e60\"}\n{\"key\": \"short\"}\n");
  place.check(3, {"data.file=bad.jsonl"}, {"bad.jsonl:2", "expected a UUID"});
  place.check(3, {"data.file=nowhere.jsonl"}, {"nowhere.jsonl", "No such file"});
  place.file("text.txt", "too little");
  place.file("config.json", pretrain_config());
  place.check(3, {}, {"text.txt", "block"});
}

TEST_CASE("what is to be scored and exceeds the model's positions is refused before training") {
  const Workplace place;
  place.check(2, {"eval.max_new_tokens=500"}, {"eval.max_new_tokens is 500", "512 positions"});
  const auto row = [](const std::string& question) {
    return dump_json({{"prompt", question}, {"completion", "yes"}}) + "\n";
  };
  place.file("short.jsonl", row("Is it?"));
  place.file("long.jsonl", row("Is it?") + row(some_text() + some_text()));
  place.file("config.json", str(R"({"task": "instruction", "output_dir": "run",
  "model": {"path": ")",
                                kBase, R"("}, "adapter": {"method": "lora", "r": 4},
  "data": {"train_files": ["short.jsonl"], "validation_files": ["long.jsonl"],
           "prompt_format": "plain", "max_length": 100000},
  "train": {"per_device_train_batch_size": 1, "max_steps": 1}})"));
  place.check(3, {}, {"held-out example 2 has", "512 positions"});
  CHECK(place.train_with({"eval.num_samples=1"}).code == 0);
  check_line(score(place.path(), {"--config", "config.json"}), 3,
             {"held-out example 2 has", "512 positions"});
}

TEST_CASE("a model beyond the memory is refused with 4") {
  const Workplace place;
  place.file("text.txt", some_text());
  place.file("config.json", pretrain_config());
  const auto refused = [&](const std::string& model, const std::vector<std::string>& parts) {
    place.file("big.json", model);
    place.check(4, {"model.config=big.json"}, parts);
  };
  const std::vector<std::string> told = {"out of memory", "GiB are needed", "GiB are available"};
  refused(R"({"vocab_size": 1024, "hidden_size": 262144, "intermediate_size": 1048576,
              "num_attention_heads": 4096, "max_position_embeddings": 512})",
          told);
  // No single block of this one is large.
  refused(R"({"vocab_size": 1024, "hidden_size": 16384, "intermediate_size": 16384,
              "num_hidden_layers": 400, "num_attention_heads": 128})",
          told);
  refused(R"({"vocab_size": 1024, "max_position_embeddings": 2147483648})", told);
  // Sizes whose product no integer holds.
  refused(R"({"vocab_size": 1024, "hidden_size": 2147483648, "intermediate_size": 2147483648,
              "num_attention_heads": 2147483648, "head_dim": 2,
              "max_position_embeddings": 1})",
          {"out of memory"});
}

TEST_CASE("a loss that is not finite ends with 5 and leaves nothing to be taken for a result") {
  const Workplace place;
  const Finished finished = place.train_with({"train.learning_rate=1e38", "train.max_grad_norm=0",
                                              "train.save_steps=0", "train.save_at=[]"});
  check_message({finished.code, finished.out, last_line(finished.err)}, 5,
                {"step 2", "not finite", "layers.0.", "learning_rate"});
  for (const char* name : {"adapter", "summary.json"})
    CHECK_FALSE(fs::exists(place / "run" / name));
  CHECK(fs::is_empty(place / "run/checkpoints"));
}

TEST_CASE("more steps than can be counted end with 2") {
  const Workplace place;
  place.check(2, {"train.max_steps=-1", "train.num_train_epochs=1e300"},
              {"train.num_train_epochs", "1e+300", "at most 1e12"});
}

TEST_CASE("what the system refuses ends with 6") {
  const Workplace place;
  place.check(6, {"output_dir=config.json"}, {"config.json", "Not a directory"});
  place.check(6, {"output_dir=/proc/mora-test"}, {"/proc/mora-test"});
  const Finished full = run(place.path(), {MORA_BINARY_DIR "/mora-eval", "--help"}, "/dev/full");
  check_line(full, 6, {"standard output", "No space left"});
  REQUIRE(place.train_with({"train.max_steps=1"}).code == 0);
  const Finished scores =
      run(place.path(), {MORA_BINARY_DIR "/mora-eval", "--config", "config.json"}, "/dev/full");
  check_message({scores.code, scores.out, last_line(scores.err)}, 6,
                {"standard output", "No space left"});
  const Finished printed = run(
      place.path(), {MORA_BINARY_DIR "/mora-train", "--config", "config.json", "--print-config"},
      "/dev/full");
  check_line(printed, 6, {"standard output"});
}

TEST_CASE("a folder that another run uses ends with 7") {
  const Workplace place;
  fs::create_directory(place / "run");
  const FileLock lock(place / "run/LOCK");
  check_line(place.train_with({}), 7, {"run", "another run"});
  CHECK_FALSE(fs::exists(place / "run/metrics.jsonl"));
  CHECK_FALSE(fs::exists(place / "run/run_config.json"));
}

}  // namespace mora::testing

TEST_SUITE_END();
