// Benchmarks answered in free text: GSM8K and MATH, asked and judged as the references do.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>

#include "benchmarks/drawn_examples.hpp"
#include "benchmarks/python_random.hpp"
#include "gzip_file.hpp"
#include "io/json.hpp"
#include "mora/benchmarks/benchmark.hpp"
#include "mora/io/file.hpp"
#include "temporary_folder.hpp"

using namespace mora;

namespace {

const Json& goldens() {
  static const Json kGoldens = [] {
    const std::string path = std::string(MORA_SOURCE_DIR) + "/tests/golden/generation.json";
    return parse_json(read_file(path, size_t{16} << 20), path);
  }();
  return kGoldens;
}

std::string lines_of(const Json& rows) {
  std::string text;
  for (const Json& row : rows) text += dump_json(row) + "\n";
  return text;
}

// What a runner makes of a text that goes on after a stop.
Reply reply_of(const Question& question, std::string text) {
  size_t end = text.size();
  for (const std::string& stop : question.stops) end = std::min(end, text.find(stop));
  text.resize(end);
  return {.log_likelihoods = {}, .text = std::move(text)};
}

// MetaMath's script on the rows of a golden.
std::vector<Judgement> check_metamath(const Benchmark& benchmark, const Json& golden) {
  const auto& questions = benchmark.questions();
  REQUIRE(questions.size() == golden["cases"].size());
  CHECK(questions.size() >= 50);
  std::vector<Judgement> judgements;
  for (size_t i = 0; i < questions.size(); ++i) {
    const Json& c = golden["cases"][i];
    INFO(c.dump());
    CHECK(questions[i].prompt == c["prompt"].get<std::string>());
    CHECK(questions[i].max_new_tokens == golden["tokens"].get<int64_t>());
    judgements.push_back(benchmark.judge(questions[i], reply_of(questions[i], c["output"])));
    CHECK(judgements.back().scores == std::vector<double>{c["right"].get<double>()});
  }
  return judgements;
}

double value_of(const std::vector<Measurement>& summary, const std::string& name,
                const std::string& group) {
  for (const Measurement& m : summary) {
    if (m.name == name && m.group == group) return m.value;
  }
  FAIL_CHECK("no " << name << " of " << group);
  return -1;
}

}  // namespace

TEST_SUITE("benchmark generation") {
  TEST_CASE("random.sample: Python's numbers") {
    for (const Json& c : goldens()["samples"]) {
      benchmarks::PythonRandom random(1234);
      CHECK(random.sample(c["n"], c["k"]) == c["drawn"].get<std::vector<size_t>>());
    }
  }

  TEST_CASE("GSM8K: lm-evaluation-harness's five-shot requests and scores") {
    const Json& golden = goldens()["gsm8k"];
    const TemporaryFolder folder;
    BenchmarkConfig config;
    config.name = "gsm8k";
    config.num_fewshot = 5;
    config.data = folder.file("test.jsonl", lines_of(golden["test"]));
    config.fewshot = folder.file("train.jsonl", lines_of(golden["train"]));
    const auto benchmark = make_benchmark(config);
    const auto& questions = benchmark->questions();
    REQUIRE(questions.size() == golden["cases"].size());
    CHECK(questions.size() >= 50);
    std::vector<Judgement> judgements;
    double strict = 0;
    for (size_t i = 0; i < questions.size(); ++i) {
      const Json& c = golden["cases"][i];
      INFO(c.dump());
      CHECK(questions[i].prompt == c["prompt"].get<std::string>());
      CHECK(questions[i].stops == golden["until"].get<std::vector<std::string>>());
      CHECK(questions[i].max_new_tokens == 256);
      judgements.push_back(benchmark->judge(questions[i], reply_of(questions[i], c["output"])));
      CHECK(judgements.back().scores ==
            std::vector<double>{c["strict"].get<double>(), c["flexible"].get<double>()});
      strict += c["strict"].get<double>();
    }
    const auto summary = benchmark->summary(judgements);
    CHECK(summary.size() == 2);
    CHECK(value_of(summary, "exact_match,strict-match", "") ==
          doctest::Approx(strict / static_cast<double>(questions.size())));

    config.data = config.fewshot = folder.path();  // which has both by their names
    CHECK(make_benchmark(config)->questions().back().prompt == questions.back().prompt);
    config.num_samples = 3;
    CHECK(make_benchmark(config)->questions().size() == 3);
  }

  TEST_CASE("GSM8K and MATH: MetaMath's prompts and results") {
    const TemporaryFolder folder;
    BenchmarkConfig config;
    config.name = "gsm8k";
    config.prompt = "metamath";
    config.data = folder.file("test.jsonl", lines_of(goldens()["metamath_gsm8k"]["rows"]));
    check_metamath(*make_benchmark(config), goldens()["metamath_gsm8k"]);

    const Json& golden = goldens()["metamath_math"];
    config.name = "math";
    config.data = folder.file("math.jsonl", lines_of(golden["rows"]));
    const auto benchmark = make_benchmark(config);
    const auto judgements = check_metamath(*benchmark, golden);
    const auto summary = benchmark->summary(judgements);
    CHECK(summary.size() == 1 + 3 + 5);
    double right = 0, n = 0;
    for (size_t i = 0; i < judgements.size(); ++i) {
      if (golden["rows"][i]["level"] != "Level 2") continue;
      right += golden["cases"][i]["right"].get<double>();
      n += 1;
    }
    CHECK(value_of(summary, "acc", "Level 2") == doctest::Approx(right / n));
    config.num_samples = 2;  // of each type
    CHECK(make_benchmark(config)->questions().size() == 6);
  }

  TEST_CASE("MATH: the official folder, its files plain or gzip, is the rows in order") {
    const Json& rows = goldens()["metamath_math"]["rows"];
    const TemporaryFolder folder;
    std::filesystem::create_directories(folder / "test" / "algebra");
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::string name = str("test/algebra/", i, ".json"), text = dump_json(rows[i], 4);
      if (i % 3 != 0) folder.file(name, text);
      if (i % 3 != 1) testing::write_gzip(folder / (name + ".gz"), text);  // or both
    }
    BenchmarkConfig config;
    config.name = "math";
    config.data = folder / "test";
    const auto questions = make_benchmark(config)->questions();
    REQUIRE(questions.size() == rows.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::string problem = rows[i]["problem"];
      CHECK(questions[i].prompt.find(problem) != std::string::npos);
    }
  }

  TEST_CASE("an example is never the question itself") {
    const TemporaryFolder folder;
    std::string rows;
    for (int i = 0; i < 8; ++i)
      rows += str(R"({"question": "Q)", i / 2, R"(", "answer": "1"})", "\n");
    BenchmarkConfig config;
    config.name = "gsm8k";
    config.num_fewshot = 4;
    config.data = folder.file("rows.jsonl", rows);
    const auto benchmark = make_benchmark(config);
    for (const Question& question : benchmark->questions()) {
      const size_t asked = question.prompt.rfind("Question: ");
      CHECK(question.prompt.find(question.prompt.substr(asked)) == asked);
      CHECK(std::ranges::count(question.prompt, 'Q') == 10);
    }
  }

  TEST_CASE("what is wrong is said in one line") {
    const TemporaryFolder folder;
    const auto message = [&](ErrorKind kind, const BenchmarkConfig& config) {
      const std::string text = message_of(kind, [&] { make_benchmark(config); });
      CHECK(text.find('\n') == std::string::npos);
      return text;
    };
    BenchmarkConfig config;
    config.name = "gsm8k";
    config.data = folder.file("a.jsonl", "{\"question\": \"Q\", \"answer\": \"#### x\"}\n");
    config.num_fewshot = 1;
    CHECK(message(ErrorKind::usage, config).find("num_fewshot is 1") != std::string::npos);
    config.prompt = "metamath";
    CHECK(message(ErrorKind::usage, config).find("set it to 0") != std::string::npos);
    config.num_fewshot = 0;
    CHECK(message(ErrorKind::data, config).find("a.jsonl:1:29: /answer: expected \"#### \"") !=
          std::string::npos);
    config.data = folder.file("empty.jsonl", "\n");
    CHECK(message(ErrorKind::data, config).find("empty.jsonl: has no questions") !=
          std::string::npos);
    config.data = folder / "missing.jsonl";
    CHECK(message(ErrorKind::data, config).find("missing.jsonl") != std::string::npos);
    config.data = folder.file("rows.txt", "");
    CHECK(message(ErrorKind::usage, config).find("expected .jsonl or .json") != std::string::npos);
    config.name = "math";
    config.data = folder.file(
        "m.jsonl",
        "{\"problem\": \"P\", \"level\": \"1\", \"type\": \"T\", \"solution\": \"5\"}\n");
    CHECK(
        message(ErrorKind::data, config).find("m.jsonl:1:57: /solution: expected the answer in") !=
        std::string::npos);
  }
}
