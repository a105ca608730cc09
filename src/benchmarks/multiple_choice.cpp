#include "benchmarks/multiple_choice.hpp"

#include <algorithm>

#include "mora/core/error.hpp"
#include "text/template_strings.hpp"

namespace mora::benchmarks {

namespace {

size_t preferred(const Question& question, const Reply& reply, Preference preference) {
  std::vector<double> values = reply.log_likelihoods;
  for (size_t i = 0; i < values.size(); ++i) {
    if (preference == Preference::per_character) {
      values[i] /= static_cast<double>(jinja::count_characters(shown(question.choices[i])));
    } else if (preference == Preference::per_token) {
      values[i] /= static_cast<double>(reply.choice_tokens[i]);
    }
  }
  return static_cast<size_t>(std::ranges::max_element(values) - values.begin());
}

}  // namespace

std::string_view shown(std::string_view choice) {
  if (choice.starts_with(' ')) choice.remove_prefix(1);
  return choice;
}

std::vector<std::string> MultipleChoice::measures() const {
  std::vector<std::string> names;
  for (const ChoiceMeasure& measure : measures_) names.push_back(measure.name);
  return names;
}

Judgement MultipleChoice::judge(const Question& question, const Reply& reply) const {
  const size_t choices = question.choices.size();
  ensure(choices > 0 && reply.log_likelihoods.size() == choices &&
             reply.choice_tokens.size() == choices,
         "a likelihood for each choice");
  Judgement result;
  for (const ChoiceMeasure& measure : measures_) {
    const size_t choice = preferred(question, reply, measure.preference);
    if (result.scores.empty()) result.prediction = shown(question.choices[choice]);
    result.scores.push_back(choice == question.gold ? 1 : 0);
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
