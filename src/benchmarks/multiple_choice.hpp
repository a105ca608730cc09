// Multiple choice by likelihood: the most likely answer is the model's.
#pragma once

#include <string>
#include <vector>

#include "mora/benchmarks/benchmark.hpp"

namespace mora::benchmarks {

// What is counted: whether the most likely choice is right (acc), or also whether that is right
// which is the most likely for its length in characters (acc_norm).
enum class Normalized : uint8_t { no, also };

// Measures as lm-evaluation-harness has them: of equals the first is the model's answer, and the
// space in front of a choice counts nothing in its length.
class MultipleChoice : public Benchmark {
 public:
  explicit MultipleChoice(std::vector<Question> questions, Normalized normalized = Normalized::no)
      : questions_(std::move(questions)), normalized_(normalized) {}

  const std::vector<Question>& questions() const override { return questions_; }
  std::vector<std::string> measures() const override;
  Judgement judge(const Question& question, const Reply& reply) const override;

 private:
  std::vector<Question> questions_;
  Normalized normalized_;
};

// The first `count` of solved questions as they stand in front of another, each with its answer and
// an empty line. Error(usage) names `place` when it has fewer.
std::string few_shot(const std::vector<Question>& solved, int64_t count, const std::string& place);

}  // namespace mora::benchmarks
