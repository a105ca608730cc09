#include "benchmarks/multiple_choice.hpp"

#include <algorithm>

#include "mora/core/error.hpp"
#include "text/template_strings.hpp"

namespace mora::benchmarks {

namespace {

std::string_view shown(std::string_view choice) {
  if (choice.starts_with(' ')) choice.remove_prefix(1);
  return choice;
}

size_t largest(const std::vector<double>& values) {
  return static_cast<size_t>(std::ranges::max_element(values) - values.begin());
}

}  // namespace

std::vector<std::string> MultipleChoice::measures() const {
  if (normalized_ == Normalized::also) return {"acc", "acc_norm"};
  return {"acc"};
}

Judgement MultipleChoice::judge(const Question& question, const Reply& reply) const {
  const std::vector<double>& log_likelihoods = reply.log_likelihoods;
  ensure(log_likelihoods.size() == question.choices.size() && !log_likelihoods.empty(),
         "a likelihood for each choice");
  const auto score = [&](size_t choice) { return choice == question.gold ? 1.0 : 0.0; };
  const size_t best = largest(log_likelihoods);
  Judgement result{.prediction = std::string(shown(question.choices[best])),
                   .scores = {score(best)}};
  if (normalized_ == Normalized::also) {
    std::vector<double> by_length = log_likelihoods;
    for (size_t i = 0; i < by_length.size(); ++i)
      by_length[i] /= static_cast<double>(jinja::count_characters(shown(question.choices[i])));
    result.scores.push_back(score(largest(by_length)));
  }
  return result;
}

std::string few_shot(const std::vector<Question>& solved, int64_t count, const std::string& place) {
  if (count > static_cast<int64_t>(solved.size())) {
    fail(ErrorKind::usage, place, ": num_fewshot is ", count, ", but there are only ",
         solved.size(), " examples");
  }
  std::string text;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i)
    text += solved[i].prompt + solved[i].choices[solved[i].gold] + "\n\n";
  return text;
}

}  // namespace mora::benchmarks
