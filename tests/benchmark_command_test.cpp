// mora-eval on benchmarks, as a user runs it: what it prints, and the files that it leaves.
#include <doctest/doctest.h>

#include <cmath>
#include <sstream>

#include "command.hpp"
#include "io/json.hpp"

using namespace mora;
using namespace mora::testing;
namespace fs = std::filesystem;

namespace {

const std::string kMmlu = std::string(MORA_SOURCE_DIR) + "/data/choices/mmlu";
const std::string kPubmedqa = std::string(MORA_SOURCE_DIR) + "/data/facts/pubmedqa";

Json json_of(const std::string& text) {
  return parse_json(text, "json");
}

std::vector<Json> lines_of(const fs::path& file) {
  std::vector<Json> lines;
  std::istringstream in(bytes_of(file));
  for (std::string line; std::getline(in, line);) lines.push_back(json_of(line));
  return lines;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The accuracy and standard error of lines, optionally of one group.
void check_metric(const Json& metric, const std::vector<Json>& lines) {
  double n = 0, right = 0;
  for (const Json& line : lines) {
    if (metric.contains("group") && line.at("group") != metric.at("group")) continue;
    n += 1;
    right += line.at("acc").get<double>();
  }
  CHECK(metric.at("n") == n);
  CHECK(metric.at("value").get<double>() == doctest::Approx(right / n));
  if (!metric.contains("group")) return;  // of groups pooled
  const double mean = right / n;
  CHECK(metric.at("standard_error").get<double>() ==
        doctest::Approx(std::sqrt(mean * (1 - mean) / (n - 1))));
}

}  // namespace

TEST_SUITE_BEGIN("benchmark commands");

TEST_CASE("a model is scored on MMLU, and every question is written down") {
  const TemporaryFolder folder;
  const Finished finished =
      score(folder.path(), {"--model", kBase, "--benchmark", "mmlu", "--data", kMmlu,
                            "--num-fewshot", "2", "--num-samples", "6", "--output", "out"});
  REQUIRE_MESSAGE(finished.code == 0, finished.err);
  const std::vector<Json> lines = lines_of(folder / "out/mmlu-2shot.jsonl");
  REQUIRE(lines.size() == 24);
  for (size_t i = 0; i < lines.size(); ++i) {
    const Json& line = lines[i];
    CHECK(line.at("index") == i);
    CHECK(line.at("prompt").get<std::string>().ends_with("\nAnswer:"));
    CHECK((line.at("prediction") == line.at("answer")) == (line.at("acc") == 1.0));
    const auto values = line.at("log_likelihoods").get<std::vector<double>>();
    REQUIRE(values.size() == 4);
    const auto best = std::ranges::max_element(values) - values.begin();
    CHECK(line.at("prediction") == std::string(1, static_cast<char>('A' + best)));
  }
  const Json summary = json_of(bytes_of(folder / "out/mmlu-2shot.json"));
  CHECK(summary.at("benchmark") == "mmlu");
  CHECK(summary.at("model") == kBase);
  CHECK(summary.at("n") == 24);
  CHECK(summary.at("settings").at("num_fewshot") == 2);
  CHECK(summary.at("settings").at("num_samples") == 6);
  CHECK(summary.at("metrics").size() == 5);  // in total and of four subjects
  for (const Json& metric : summary.at("metrics")) check_metric(metric, lines);
  const Json out = json_of(finished.out);
  CHECK(out.at("mmlu-2shot/n") == 24);
  CHECK(out.at("mmlu-2shot/acc") == summary.at("metrics")[0].at("value"));
  CHECK(out.at("mmlu-2shot/acc_stderr") == summary.at("metrics")[0].at("standard_error"));
  CHECK(has(finished.err, "| mmlu-2shot | opposite_words  | 6  | acc    | "));
}

TEST_CASE("a run's own score and its benchmarks are left in its folder and compared") {
  const TemporaryFolder folder;
  Json config = json_of(uuid_config(R"({"method": "lora"})"));
  config["eval"]["benchmarks"] =
      json_of(str(R"([{"name": "mmlu", "data": ")", kMmlu, R"(", "num_samples": 3},
          {"name": "pubmedqa", "label": "facts", "data": ")",
                  kPubmedqa, R"(", "num_samples": 8}])"));
  folder.file("config.json", dump_json(config));
  REQUIRE(train(folder.path(), {"--config", "config.json"}).code == 0);
  const Finished finished = score(folder.path(), {"--config", "config.json"});
  REQUIRE_MESSAGE(finished.code == 0, finished.err);
  const std::vector<Json> pairs = lines_of(folder / "run/eval/task.jsonl");
  REQUIRE(pairs.size() == 6);
  double accuracy = 0;
  for (const Json& pair : pairs) {
    CHECK(pair.at("prompt").get<std::string>().size() == 37);
    CHECK(pair.at("answer").get<std::string>().size() == 36);
    CHECK(pair.at("exact_match") == (pair.at("prediction") == pair.at("answer") ? 1.0 : 0.0));
    accuracy += pair.at("character_accuracy").get<double>() / 6;
  }
  const Json out = json_of(finished.out);
  CHECK(out.at("character_accuracy").get<double>() == doctest::Approx(accuracy));
  const Json task = json_of(bytes_of(folder / "run/eval/task.json"));
  CHECK(task.at("task") == "uuid");
  CHECK(task.at("adapter").get<std::string>().ends_with("run/adapter"));
  CHECK(task.at("metrics")[0].at("value") == out.at("character_accuracy"));
  CHECK(lines_of(folder / "run/eval/mmlu.jsonl").size() == 12);
  CHECK(lines_of(folder / "run/eval/facts.jsonl").size() == 8);

  const Finished table = score(folder.path(), {"--compare", "run", "run/", "./run/."});
  CHECK(table.code == 0);
  size_t rows = 0;
  for (size_t at = 0; (at = table.out.find("\n| run ", at)) != std::string::npos; ++at) ++rows;
  CHECK(rows == 3);  // each named by its folder, however that is written
  CHECK(has(table.out, "| facts acc"));
  CHECK(has(table.out, "| mmlu acc"));
  char value[32];
  std::snprintf(value, sizeof value, "| %.4f +- ", out.at("mmlu/acc").get<double>());
  CHECK(has(table.out, value));

  // Another adapter's results do not take the place of the run's.
  const std::string before = bytes_of(folder / "run/eval/task.json");
  const Finished earlier =
      score(folder.path(),
            {"--config", "config.json", "--adapter", "run/checkpoints/step-00000002", "--benchmark",
             "pubmedqa", "--data", kPubmedqa, "--num-samples", "4", "--num-fewshot", "0"});
  REQUIRE_MESSAGE(earlier.code == 0, earlier.err);
  CHECK(json_of(earlier.out).at("pubmedqa/n") == 4);
  CHECK_FALSE(json_of(earlier.out).contains("character_accuracy"));
  CHECK(bytes_of(folder / "run/eval/task.json") == before);
  CHECK_FALSE(fs::exists(folder / "run/eval/pubmedqa.json"));
}

TEST_CASE("held-out text is scored block by block") {
  const TemporaryFolder folder;
  folder.file("text.txt", some_text());
  const Finished finished = score(folder.path(), {"--model", kBase, "--task", "continual", "--data",
                                                  "text.txt", "--output", "out"});
  REQUIRE_MESSAGE(finished.code == 0, finished.err);
  double loss = 0, tokens = 0;
  for (const Json& block : lines_of(folder / "out/task.jsonl")) {
    CHECK(block.at("tokens") == 255);
    loss += block.at("loss").get<double>() * block.at("tokens").get<double>();
    tokens += block.at("tokens").get<double>();
  }
  const Json out = json_of(finished.out);
  CHECK(out.at("eval_loss").get<double>() == doctest::Approx(loss / tokens));
  CHECK(out.at("perplexity").get<double>() == doctest::Approx(std::exp(loss / tokens)));
}

TEST_CASE("mistakes about benchmarks are one line each") {
  const TemporaryFolder folder;
  const auto fails = [&](int code, std::vector<std::string> options, const std::string& part) {
    const Finished finished = score(folder.path(), joined({"--model", kBase}, options));
    CHECK(finished.code == code);
    CHECK(finished.err.starts_with("mora-eval: "));
    CHECK_MESSAGE(has(finished.err, part), finished.err);
    CHECK(std::ranges::count(finished.err, '\n') == 1);
  };
  fails(2, {"--benchmark", "mmlu"}, "with --task or --benchmark and --data");
  fails(2, {"--num-fewshot", "2", "--data", "x"}, "--benchmark");
  fails(2, {"--benchmark", "mmmlu", "--data", "x"}, "--name: /name: expected \"mmlu\"");
  fails(2, {"--benchmark", "mmlu", "--data", "x", "--num-fewshot", "many"}, "/num_fewshot: ");
  fails(2, {"--benchmark", "rct", "--data", "x", "--subjects", "[]"}, "--subjects: ");
  fails(2, {"--benchmark", "rct", "--data", "x", "--label", "../x"}, "\"label\" names files");
  fails(3, {"--benchmark", "mmlu", "--data", "x"}, "x/test: is no folder");
  folder.file("config.json", R"({"task": "uuid", "output_dir": "run", "model": {"path": "m"},
    "eval": {"benchmarks": [{"name": "mmlu", "data": "a"}, {"name": "mmlu", "data": "b"}]}})");
  const Finished twice = score(folder.path(), {"--config", "config.json"});
  CHECK(twice.code == 2);
  CHECK(has(twice.err, "has \"mmlu\" twice: give one of them another \"label\""));
}

TEST_SUITE_END();
