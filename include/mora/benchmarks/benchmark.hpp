// Benchmark: an evaluation set in its official files; what a model is asked of it, and how answers
// are judged. A benchmark knows nothing of models or tokens, so that its prompts and its judgement
// are tested against the reference implementations without either.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mora/config/run_config.hpp"

namespace mora {

// One request. With choices the model gives each one's likelihood behind the prompt; without, it
// continues the prompt greedily.
struct Question {
  std::string group;                    // subject or category; empty: none
  std::string prompt;                   // few-shot examples included
  std::vector<std::string> choices;     // continuations, with the space in front where there is one
  std::string answer;                   // the reference answer, as the files have it
  size_t gold = 0;                      // index into choices
  std::vector<std::string> stops = {};  // a continuation ends before the first of these
  int64_t max_new_tokens = 0;           // of a continuation
};

// What the model said: a log-likelihood for each choice and of how many tokens that is, or a
// continuation cut before its stop.
struct Reply {
  std::vector<double> log_likelihoods;
  std::string text;
  std::vector<int64_t> choice_tokens = {};
};

// How one question went: the prediction as shown in the per-sample file, and a score for each of
// the benchmark's measures ("acc", "exact_match"), 1 and 0 where it is right or wrong.
struct Judgement {
  std::string prediction;
  std::vector<double> scores;  // as many as measures()
};

// A number of the summary; deviation is the standard error of the mean, negative where there is
// none.
struct Measurement {
  std::string name;   // "acc"
  std::string group;  // empty: all questions
  int64_t n;
  double value, standard_error;
};

class Benchmark {
 public:
  virtual ~Benchmark() = default;

  virtual const std::vector<Question>& questions() const = 0;
  virtual std::vector<std::string> measures() const = 0;
  virtual Judgement judge(const Question& question, const Reply& reply) const = 0;

  // The summary of all judgements, in the order of questions(). By default the mean of each measure
  // in total and, where there is more than one, by group; benchmarks whose metric is not a mean
  // (F1 over a whole set) or that group twice (MMLU's categories) have their own.
  virtual std::vector<Measurement> summary(std::span<const Judgement> judgements) const;
};

// Reads the benchmark `config` names. Error(data) names file and place of what is not in the
// official format, Error(usage) an option that it does not have.
std::unique_ptr<Benchmark> make_benchmark(const BenchmarkConfig& config);

}  // namespace mora
