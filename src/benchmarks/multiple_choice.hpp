// Multiple choice by likelihood: the most likely answer is the model's.
#pragma once

#include <string>
#include <vector>

#include "mora/benchmarks/benchmark.hpp"

namespace mora::benchmarks {

// Which of the answers is the most likely: by its whole log-likelihood, or by that over its length
// in characters, without the space in front (lm-evaluation-harness's acc and acc_norm), or over its
// number of tokens (AdaptLLM). Of equals it is the first.
enum class Preference : uint8_t { whole, per_character, per_token };

// A share of right answers.
struct ChoiceMeasure {
  std::string name;
  Preference preference;
};

// Predicts by the first measure.
class MultipleChoice : public Benchmark {
 public:
  explicit MultipleChoice(std::vector<Question> questions,
                          std::vector<ChoiceMeasure> measures = {{"acc", Preference::whole}})
      : questions_(std::move(questions)), measures_(std::move(measures)) {}

  const std::vector<Question>& questions() const override { return questions_; }
  std::vector<std::string> measures() const override;
  Judgement judge(const Question& question, const Reply& reply) const override;

 private:
  std::vector<Question> questions_;
  std::vector<ChoiceMeasure> measures_;
};

// The first `count` of solved questions as they stand in front of another, each with its answer and
// an empty line. Error(usage) names `place` when it has fewer.
std::string few_shot(const std::vector<Question>& solved, int64_t count, const std::string& place);

// A choice without the space in front.
std::string_view shown(std::string_view choice);

}  // namespace mora::benchmarks
