// Configuration: one declaration parses, validates, prints and documents; every problem is
// reported, with its place.
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "mora/config/run_config.hpp"
#include "temporary_folder.hpp"

using namespace mora;

TEST_SUITE_BEGIN("config");

namespace {

using Overrides = std::vector<std::string>;

const char* const kUuid = R"({"task": "uuid", "output_dir": "out", "model": {"path": "/m"})";

// Parses `text` as a file named c.json; returns the configuration.
RunConfig parse(const TemporaryFolder& folder, const std::string& text,
                const Overrides& overrides = {}) {
  RunConfig config;
  parse_config(folder.file("c.json", text), overrides, config);
  return config;
}

// The problems found in `text`, a line each, with the folder's name taken out.
std::string problems(const std::string& text, const Overrides& overrides = {}) {
  const TemporaryFolder folder;
  std::string message = message_of(ErrorKind::usage, [&] { parse(folder, text, overrides); });
  const std::string prefix = folder.path().string() + "/";
  for (size_t at = message.find(prefix); at != std::string::npos; at = message.find(prefix)) {
    message.erase(at, prefix.size());
  }
  return message;
}

// A whole configuration of task uuid with `rest` added.
std::string uuid(const std::string& rest) {
  return std::string(kUuid) + rest + "}";
}

}  // namespace

TEST_CASE("a small configuration gives the defaults for the rest") {
  const TemporaryFolder folder;
  const RunConfig config = parse(folder, uuid(""));
  CHECK(config.task == "uuid");
  CHECK(config.output_dir == folder / "out");
  CHECK(config.model.path == "/m");
  CHECK(config.model.tokenizer.empty());
  CHECK(config.seed == 42);
  CHECK(config.adapter.method == "lora");
  CHECK(config.adapter.target_modules.size() == 7);
  CHECK(config.train.learning_rate == 1e-3);
  CHECK(config.train.max_steps == -1);
}

TEST_CASE("values of every type are read, comments are passed over") {
  const TemporaryFolder folder;
  const RunConfig config = parse(folder, R"(// a run
{
  "task": "pretrain", "output_dir": "../o/./x/", "seed": 1000.0,
  "model": {"config": "m/config.json", "tokenizer": "/t.model", "dtype": "bfloat16"},
  "adapter": {"method": "mora", "operator": "sharing", "grouping": "contiguous_strided",
              "r": 128, "target_modules": ["q_proj"], "lora_dropout": 0.1},
  "data": {"train_files": ["a.gz", "/b"], "block_size": 2}, // files
  "train": {"learning_rate": 1e3, "num_train_epochs": 2, "save_at": [3, 5]}
})");
  CHECK(config.output_dir == folder.path().parent_path() / "o" / "x");
  CHECK(config.seed == 1000);
  CHECK(config.model.config == folder / "m/config.json");
  CHECK(config.model.tokenizer == "/t.model");
  CHECK(config.adapter.grouping == "contiguous_strided");
  CHECK(config.adapter.target_modules == std::vector<std::string>{"q_proj"});
  CHECK(config.adapter.lora_dropout == 0.1);
  CHECK(config.data.train_files == std::vector<std::filesystem::path>{folder / "a.gz", "/b"});
  CHECK(config.train.learning_rate == 1000);
  CHECK(config.train.num_train_epochs == 2);
  CHECK(config.train.save_at == std::vector<int64_t>{3, 5});
}

TEST_CASE("all problems are reported at once, each with its line") {
  CHECK(problems(R"({
  "task": "uuid",
  "seed": 2.9,
  "model": {"path": "/m", "dtype": "float8"},
  "adapter": {
    "r": 0,
    "lora_dropout": 1
  },
  "train": {"learning_rat": 1,
            "save_steps": true, "save_at": [1, 0], "lr_scheduler_type": 3},
  "eval": [],
  "speling": {}
})") == R"(c.json:1: /output_dir: required, but missing (folder of the run's results)
c.json:3: /seed: expected an integer, got 2.9
c.json:4: /model/dtype: expected "float32", "bfloat16" or "auto", got "float8"
c.json:6: /adapter/r: 0 is outside the range [1, 65536]
c.json:7: /adapter/lora_dropout: 1 is outside the range [0.0, 1.0)
c.json:10: /train/lr_scheduler_type: expected "constant", "constant_with_warmup", "linear", "cosine" or "cosine_restarts", got 3
c.json:10: /train/save_steps: expected an integer, got true
c.json:10: /train/save_at: element 1: 0 is outside the range [1, 1000000000000]
c.json:9: /train/learning_rat: unknown key; did you mean "learning_rate"?
c.json:11: /eval: expected an object, got an array
c.json:12: /speling: unknown key)");
}

TEST_CASE("lossy conversions are refused") {
  for (const char* value : {"2.9", "true", "\"3\"", "null", "[3]", "{}", "9223372036854775808",
                            "18446744073709551617", "1e19"}) {
    const auto text = problems(uuid(", \"seed\": " + std::string(value)));
    CHECK_MESSAGE(text.find("c.json:1: /seed: expected an integer, got ") == 0, text);
  }
  const auto wrong = [](const std::string& key, const std::string& value) {
    return problems(uuid(", \"train\": {\"" + key + "\": " + value + "}"));
  };
  CHECK(wrong("learning_rate", "\"1e-3\"") ==
        "c.json:1: /train/learning_rate: expected a number, got \"1e-3\"");
  CHECK(wrong("learning_rate", "-1") ==
        "c.json:1: /train/learning_rate: -1 is outside the range >= 0.0");
  CHECK(wrong("adam_epsilon", "0") ==
        "c.json:1: /train/adam_epsilon: 0 is outside the range > 0.0");
  CHECK(wrong("save_at", "3") == "c.json:1: /train/save_at: expected a list, got 3");
  CHECK(problems(uuid(R"(, "adapter": {"use_rslora": 1})")) ==
        "c.json:1: /adapter/use_rslora: expected true or false, got 1");
  CHECK(problems(uuid(R"(, "adapter": {"target_modules": ["q_proj", 2]})")) ==
        "c.json:1: /adapter/target_modules: element 1: expected a string, got 2");
}

TEST_CASE("a key of another choice is unknown, and the error says whose it is") {
  CHECK(
      problems(uuid(R"(, "adapter": {"method": "mora", "lora_alpha": 1})")) ==
      R"(c.json:1: /adapter/lora_alpha: unknown key for method "mora" ("lora_alpha" belongs to method "lora"))");
  CHECK(
      problems(uuid(R"(, "adapter": {"r": 1, "method": "full"})")) ==
      R"(c.json:1: /adapter/r: unknown key for method "full" ("r" belongs to method "lora" or "mora"))");
  CHECK(
      problems(uuid(
          R"(, "adapter": {"method": "mora", "operator": "rotation", "grouping": "strided"})")) ==
      R"(c.json:1: /adapter/grouping: unknown key for operator "rotation" ("grouping" belongs to operator "sharing"))");
  CHECK(
      problems(uuid(R"(, "adapter": {"grouping": "strided"})")) ==
      R"(c.json:1: /adapter/grouping: unknown key for method "lora" ("grouping" belongs to method "mora"))");
  CHECK(
      problems(uuid(R"(, "data": {"block_size": 8})")) ==
      R"(c.json:1: /data/block_size: unknown key for task "uuid" ("block_size" belongs to task "pretrain" or "continual"))");
}

TEST_CASE("restarts are an adapter's, and their cycles must fit the run") {
  CHECK(
      problems(uuid(R"(, "adapter": {"method": "full"}, "restart": {"merge_steps": 4})")) ==
      R"(c.json:1: /restart: unknown key for adapter.method "full" ("restart" belongs to adapter.method "lora" or "mora"))");
  const auto restart = [](const std::string& values, const std::string& train = "") {
    return problems(uuid(R"(, "adapter": {"method": "mora"}, "restart": {)" + values +
                         R"(}, "train": {)" + train + "}"));
  };
  CHECK(restart(R"("reset_steps": 3)") ==
        R"(c.json:1: /restart: "reset_steps" means nothing without "merge_steps")");
  CHECK(
      restart(R"("merge_steps": 4, "pruning_ratio": 0.5)") ==
      R"(c.json:1: /restart/pruning_ratio: unknown key for optimizer_reset "full" ("pruning_ratio" belongs to optimizer_reset "random" or "magnitude"))");
  CHECK(
      problems(
          uuid(
              R"(, "adapter": {"method": "mora", "grouping": "random"}, "restart": {"merge_steps": 4})"))
          .find(
              R"(/restart: "regroup" "two" takes turns between adapter.grouping "strided" and)") !=
      std::string::npos);
  CHECK(
      problems(
          uuid(
              R"(, "adapter": {"method": "mora", "grouping": "random"}, "restart": {"merge_steps": 4, "regroup": "four"})"))
          .find(R"("four" does not know adapter.grouping "random")") != std::string::npos);
  CHECK(
      problems(uuid(
          R"(, "adapter": {"method": "mora", "operator": "rotation"}, "restart": {"regroup": "two"})")) ==
      R"(c.json:1: /restart/regroup: unknown key for adapter.operator "rotation" ("regroup" belongs to adapter.operator "sharing"))");
}

TEST_CASE("the conditions of the jagged cosine are those of its authors") {
  const auto train = [](const std::string& values, const std::string& restart = "") {
    return problems(uuid(R"(, "restart": {)" + restart + R"(},
"train": {"lr_scheduler_type": "cosine_restarts")" +
                         values + "}"));
  };
  CHECK(
      train("") ==
      R"(c.json:2: /train: "lr_scheduler_type" "cosine_restarts" needs "cycle_length", or restart.merge_steps)");
  CHECK(
      train(R"(, "max_steps": 10)", R"("merge_steps": 4)") ==
      R"(c.json:2: /train: "max_steps" must be a multiple of "cycle_length", but 10 is none of 4)");
  CHECK(train(R"(, "max_steps": 12, "warmup_steps": 3, "adjust_step": 2)", R"("merge_steps": 4)") ==
        "c.json:2: /train: \"warmup_steps\" and \"adjust_step\" must be over before the first "
        "restart, but 3 + 2 is more than \"cycle_length\" 4");
  CHECK(train(R"(, "cycle_length": 4, "min_lr_ratio": 0)") ==
        "c.json:2: /train/min_lr_ratio: 0 is outside the range (0.0, 1.0]");
  CHECK(
      problems(uuid(R"(, "train": {"cycle_length": 3})")) ==
      R"(c.json:1: /train/cycle_length: unknown key for lr_scheduler_type "linear" ("cycle_length" belongs to lr_scheduler_type "cosine_restarts"))");
  const TemporaryFolder folder;
  const RunConfig config = parse(folder, uuid(R"(, "restart": {"merge_steps": 5},
                             "train": {"lr_scheduler_type": "cosine_restarts", "max_steps": 20})"));
  CHECK(config.train.cycle_length == 5);
  CHECK(to_json_text(config).find("\"cycle_length\": 5") != std::string::npos);
}

TEST_CASE("a wrong choice is one problem, not one for each key that depends on it") {
  CHECK(problems(uuid(R"(, "adapter": {"method": "mroa", "lora_alpha": 1, "r": 4})")) ==
        R"(c.json:1: /adapter/method: expected "full", "lora" or "mora", got "mroa")");
  CHECK(problems(R"({"output_dir": "o", "model": {"path": "m"}, "data": {"pairs": 4}})") ==
        "c.json:1: /task: required, but missing (what is learnt)");
}

TEST_CASE("the model comes from exactly one place") {
  CHECK(problems(R"({"task": "uuid", "output_dir": "o"})") ==
        "c.json:1: /model: give one of \"path\" (a model to start from) and \"config\" (a model to "
        "initialise from scratch)");
  CHECK(problems(R"({"task": "uuid", "output_dir": "o",
                     "model": {"path": "m", "config": "c"}})") ==
        "c.json:2: /model: \"path\" and \"config\" exclude each other; give only one");
  CHECK(problems(R"({"task": "uuid", "output_dir": "", "model": 3})") ==
        "c.json:1: /output_dir: must not be empty\n"
        "c.json:1: /model: expected an object, got 3");
  CHECK(problems(R"({"task": "pretrain", "output_dir": "o", "model": {"path": "m"},
                     "data": {"train_files": []}})") ==
        "c.json:2: /data/train_files: must not be empty");
}

TEST_CASE("overrides replace and add values, and are named in errors") {
  const TemporaryFolder folder;
  const RunConfig config =
      parse(folder, uuid(R"(, "seed": 1, "train": {"max_steps": 5})"),
            {"seed=2", "seed=3", "train.learning_rate=1e-4", "adapter.method=mora",
             "data.loss_on=value", "train.save_at=[1,2]", "output_dir=/a=b", "model.path=here"});
  CHECK(config.seed == 3);
  CHECK(config.train.max_steps == 5);
  CHECK(config.train.learning_rate == 1e-4);
  CHECK(config.adapter.method == "mora");
  CHECK(config.data.loss_on == "value");
  CHECK(config.train.save_at == std::vector<int64_t>{1, 2});
  CHECK(config.output_dir == "/a=b");
  CHECK(config.model.path == std::filesystem::current_path() / "here");

  CHECK(problems(uuid(",\n\"seed\": 1"), {"seed=x"}) ==
        "--set seed: /seed: expected an integer, got \"x\"");
  CHECK(problems(uuid(""), {"train.lerning_rate=1"}) ==
        "--set train.lerning_rate: /train/lerning_rate: unknown key; did you mean "
        "\"learning_rate\"?");
  CHECK(problems(uuid(""), {"nowhere.at.all=1"}) == "--set nowhere.at.all: /nowhere: unknown key");
  CHECK(problems(uuid(""), {"seed.x=1"}) ==
        "--set seed.x: /seed: expected an integer, got an object");
  CHECK(problems(uuid(""), {"task.x=1"}) == "--set task.x: /task is not a section");
  CHECK(problems(uuid(""), {"seed", "=3"}) ==
        "--set seed: expected key=value\n--set =3: expected key=value");
  CHECK(problems(uuid(",\n\"train\": {\n\"max_steps\": 1}"), {"train={\"max_steps\":-2}"})
            .find("--set train: /train/max_steps: -2 is outside") == 0);
}

TEST_CASE("files that cannot be read as JSON are errors of usage with their place") {
  CHECK(problems("{\"task\": \"uuid\",\n  task: 1}").find("c.json:2:4: syntax error") == 0);
  CHECK(problems("{\"seed\": 1,\n \"seed\": 2}") == "c.json:2:7: duplicate key \"seed\"");
  CHECK(problems("[]") == "c.json: expected an object, got an array");
  CHECK(problems("").find("c.json:1:1: ") == 0);
  RunConfig config;
  const TemporaryFolder folder;
  const auto missing = folder / "none.json";
  CHECK(message_of(ErrorKind::usage, [&] { parse_config(missing, {}, config); }) ==
        "configuration: cannot open " + missing.string() + ": No such file or directory");
}

TEST_CASE("a configuration extends another, key by key, each file's paths from its own folder") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "sub");
  folder.file("sub/base.json", R"({
    "task": "uuid", "output_dir": "base-out", "model": {"path": "m"},
    "data": {"file": "x.jsonl"}, "train": {"learning_rate": 0.5, "save_at": [1, 2]}})");
  folder.file("sub/middle.json", R"({"extends": "base.json", "adapter": {"r": 3}})");
  const RunConfig config = parse(folder, R"({"extends": "sub/middle.json", "output_dir": "out",
      "train": {"max_steps": 7, "save_at": [3]}})");
  CHECK(config.model.path == folder / "sub/m");
  CHECK(config.data.file == folder / "sub/x.jsonl");
  CHECK(config.output_dir == folder / "out");
  CHECK(config.adapter.r == 3);
  CHECK(config.train.learning_rate == 0.5);
  CHECK(config.train.max_steps == 7);
  CHECK(config.train.save_at == std::vector<int64_t>{3});
  CHECK(parse(folder, R"({"extends": "sub/base.json"})", {"data.file=y"}).data.file ==
        std::filesystem::current_path() / "y");
  CHECK(to_json_text(config).find("extends") == std::string::npos);

  // Problems are told where they were written.
  const auto told = [&](const std::string& text) {
    return message_of(ErrorKind::usage, [&] { parse(folder, text); });
  };
  folder.file("sub/bad.json", "{\"extends\": \"base.json\",\n\"train\": {\n\"max_steps\": -9}}");
  CHECK(told("{\"extends\": \"sub/bad.json\",\n\"train\": {\"warmup_step\": 1}}") ==
        (folder / "sub/bad.json").string() + ":3: /train/max_steps: -9 is outside the range [-1, " +
            "1000000000000]\n" + (folder / "c.json").string() +
            ":2: /train/warmup_step: unknown key; did you mean \"warmup_steps\"?");
  CHECK(told(R"({"extends": 3})") ==
        (folder / "c.json").string() + ":1: /extends: expected a file, got 3");
  CHECK(told(R"({"extends": "c.json"})").find("probably in a circle") != std::string::npos);
  CHECK(told(R"({"extends": "none.json"})").find("cannot open") != std::string::npos);
  // What a base says for another choice is told as any key of another choice.
  CHECK(told(R"({"extends": "sub/base.json", "task": "pretrain", "data": {"train_files": ["t"]}})")
            .find("sub/base.json:3: /data/file: unknown key for task \"pretrain\"") !=
        std::string::npos);
}

TEST_CASE("an array of sections is read, checked and printed item by item") {
  const TemporaryFolder folder;
  const RunConfig config = parse(folder, uuid(R"(, "eval": {"benchmarks": [
      {"name": "mmlu", "data": "m", "num_fewshot": 5},
      {"name": "gsm8k", "data": "g.jsonl", "prompt": "metamath"}]})"));
  REQUIRE(config.eval.benchmarks.size() == 2);
  CHECK(config.eval.benchmarks[0].num_fewshot == 5);
  CHECK(config.eval.benchmarks[1].data == folder / "g.jsonl");
  RunConfig again;
  parse_config(folder.file("again.json", to_json_text(config)), {}, again);
  CHECK(to_json_text(again) == to_json_text(config));

  CHECK(problems(uuid(R"(, "eval": {"benchmarks": {}})")) ==
        "c.json:1: /eval/benchmarks: expected an array of objects, got an object");
  CHECK(
      problems(uuid(
          ",\n\"eval\": {\"benchmarks\": [\n1,\n{\"name\": \"mmlu\"},\n"
          "{\"name\": \"mmlu\", \"data\": \"m\", \"label\": \"o\", \"prompt\": \"harness\"}]}")) ==
      "c.json:3: /eval/benchmarks/0: expected an object, got 1\n"
      "c.json:4: /eval/benchmarks/1/data: required, but missing (its official files: a folder "
      "or a file)\n"
      "c.json:5: /eval/benchmarks/2/prompt: unknown key for name \"mmlu\" (\"prompt\" belongs "
      "to name \"gsm8k\")");
  CHECK(problems(uuid(R"(, "eval": {"benchmarks": [{"name": "mmlu", "data": "a"},
      {"name": "mmlu", "data": "b"}]})")) ==
        "c.json:1: /eval: \"benchmarks\" has \"mmlu\" twice: give one of them another \"label\"");
  CHECK(parse(folder, uuid(""), {R"(eval.benchmarks=[{"name": "ner", "data": "n"}])"})
            .eval.benchmarks[0]
            .data == std::filesystem::current_path() / "n");
}

TEST_CASE("the printed configuration parses to the same configuration") {
  const TemporaryFolder folder;
  for (const char* adapter : {R"({"method": "full"})", R"({"lora_alpha": 0.1, "use_rslora": true})",
                              R"({"method": "mora", "operator": "truncation", "r": 3})",
                              R"({"method": "mora", "grouping": "contiguous"})"}) {
    const RunConfig config =
        parse(folder, uuid(R"(, "train": {"learning_rate": 1e-7, "save_at": [4]}, "data":
                               {"file": "x.jsonl"}, "adapter": )" +
                           std::string(adapter)));
    const std::string printed = to_json_text(config);
    CHECK(printed.find((folder / "x.jsonl").string()) != std::string::npos);
    std::filesystem::create_directory(folder / "elsewhere");
    RunConfig again;
    parse_config(folder.file("elsewhere/c.json", printed), {}, again);
    CHECK(to_json_text(again) == printed);
    CHECK(again.train.learning_rate == 1e-7);
    CHECK(again.data.file == config.data.file);
    CHECK(again.adapter.lora_alpha == config.adapter.lora_alpha);
    CHECK(again.adapter.grouping == config.adapter.grouping);
  }
  RunConfig relative;
  relative.output_dir = "out";
  CHECK(to_json_text(relative).find((std::filesystem::current_path() / "out").string()) !=
        std::string::npos);
}

TEST_CASE("the documentation lists every field, with default, range and condition") {
  const std::string text = document_config();
  for (const char* row :
       {"| key | type | default | range | description |",
        "| `task` | choice | required | \"uuid\", \"pretrain\", \"continual\", \"instruction\", "
        "\"math\" | what is learnt |",
        "| `output_dir` | path | required | | folder of the run's results |",
        "| `train.` | section | | | training |",
        "| `train.learning_rate` | number | `0.001` | >= 0.0 | peak learning rate |",
        "| `train.save_at` | list of integers | `[]` | [1, 1000000000000] | further steps at which "
        "to save |",
        "| `adapter.lora_alpha` | number | `16.0` | > 0.0 | the update is scaled by lora_alpha / r "
        "(only with method \"lora\") |"}) {
    CHECK_MESSAGE(text.find(row) != std::string::npos, row);
  }
  CHECK(text.find("(only with method \"mora\" and operator \"sharing\") |") != std::string::npos);
  CHECK(std::count(text.begin(), text.end(), '\n') == 2 + 8 + 92);
}

TEST_SUITE_END();
