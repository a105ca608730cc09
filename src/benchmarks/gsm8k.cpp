// GSM8K (Cobbe et al. 2021): school problems, answers that end in "#### N". Asked and judged as
// lm-evaluation-harness does, or as MetaMath's eval_gsm8k.py.
#include "benchmarks/benchmarks.hpp"
#include "benchmarks/drawn_examples.hpp"
#include "benchmarks/metamath.hpp"
#include "data/json_lines.hpp"
#include "mora/eval/answers.hpp"

namespace mora::benchmarks {

namespace {

class HarnessGsm8k final : public Benchmark {
 public:
  explicit HarnessGsm8k(const BenchmarkConfig& config)
      : questions_(with_drawn_examples(
            config, [&](const auto& place, Split split) { return read(config, place, split); })) {}

  const std::vector<Question>& questions() const override { return questions_; }

  std::vector<std::string> measures() const override {
    return {"exact_match,strict-match", "exact_match,flexible-extract"};
  }

  Judgement judge(const Question& question, const Reply& reply) const override {
    const std::string flexible = harness_flexible(reply.text);
    const auto score = [&](const std::string& answer) {
      return harness_equal(answer, question.answer) ? 1.0 : 0.0;
    };
    return {flexible, {score(harness_strict(reply.text)), score(flexible)}};
  }

 private:
  static std::vector<Question> read(const BenchmarkConfig& config,
                                    const std::filesystem::path& place, Split split) {
    std::vector<Question> questions;
    const int64_t tokens = config.max_new_tokens == 0 ? 256 : config.max_new_tokens;
    read_json_rows(split_file(place, split, "test.jsonl", "train.jsonl"), [&](const JsonView& row) {
      questions.push_back({.group = {},
                           .prompt = "Question: " + row.at("question").string() + "\nAnswer:",
                           .choices = {},
                           .answer = row.at("answer").string(),
                           .stops = {"Question:", "</s>", "<|im_end|>"},
                           .max_new_tokens = tokens});
    });
    return questions;
  }

  std::vector<Question> questions_;
};

class MetamathGsm8k final : public Benchmark {
 public:
  explicit MetamathGsm8k(const BenchmarkConfig& config)
      : questions_(without_examples(
            config, [&](const auto& place, Split split) { return read(config, place, split); })) {}

  const std::vector<Question>& questions() const override { return questions_; }
  std::vector<std::string> measures() const override { return {"acc"}; }

  Judgement judge(const Question& question, const Reply& reply) const override {
    const auto number = metamath_number(reply.text);
    if (!number) return {std::string(kNoAnswer), {0}};
    const bool right = number == gsm8k_number(question.answer);
    return {str(static_cast<int64_t>(*number)), {right ? 1.0 : 0.0}};
  }

 private:
  static std::vector<Question> read(const BenchmarkConfig& config,
                                    const std::filesystem::path& place, Split split) {
    constexpr int64_t kTokens = 512;
    std::vector<Question> questions;
    read_json_rows(split_file(place, split, "test.jsonl", "train.jsonl"), [&](const JsonView& row) {
      const JsonView answer = row.at("answer");
      if (!gsm8k_number(answer.string()))
        answer.wrong("expected \"#### \" and an integer at the end");
      questions.push_back(metamath_question(config, row.at("question").string(), kTokens));
      questions.back().answer = answer.string();
    });
    return questions;
  }

  std::vector<Question> questions_;
};

}  // namespace

std::unique_ptr<Benchmark> make_gsm8k(const BenchmarkConfig& config) {
  if (config.prompt == "harness") return std::make_unique<HarnessGsm8k>(config);
  return std::make_unique<MetamathGsm8k>(config);
}

}  // namespace mora::benchmarks
