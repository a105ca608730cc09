#include "benchmarks/classification.hpp"

#include <algorithm>
#include <map>

#include "mora/core/error.hpp"

namespace mora::benchmarks {

double weighted_f1(std::span<const std::string> gold, std::span<const std::string> predicted) {
  ensure(gold.size() == predicted.size() && !gold.empty(), "labels and predictions");
  struct Counts {
    double right = 0, gold = 0, predicted = 0;
  };
  std::map<std::string, Counts> labels;
  for (size_t i = 0; i < gold.size(); ++i) {
    labels[gold[i]].gold += 1;
    labels[predicted[i]].predicted += 1;
    if (gold[i] == predicted[i]) labels[gold[i]].right += 1;
  }
  double sum = 0;
  for (const auto& [label, n] : labels) sum += n.gold * 2 * n.right / (n.gold + n.predicted);
  return sum / static_cast<double>(gold.size());
}

std::vector<Measurement> Classification::summary(std::span<const Judgement> judgements) const {
  struct Labels {
    std::vector<std::string> gold, predicted;
  };
  std::vector<std::pair<std::string, Labels>> groups;  // as they come
  for (size_t i = 0; i < judgements.size(); ++i) {
    const Question& question = questions()[i];
    auto found = std::ranges::find(groups, question.group, &decltype(groups)::value_type::first);
    if (found == groups.end()) found = groups.insert(found, {question.group, {}});
    found->second.gold.push_back(question.answer);
    found->second.predicted.push_back(judgements[i].prediction);
  }
  std::vector<Measurement> f1s;
  double sum = 0;
  for (const auto& [group, labels] : groups) {
    const double f1 = weighted_f1(labels.gold, labels.predicted);
    f1s.push_back({"weighted_f1", group, static_cast<int64_t>(labels.gold.size()), f1, -1});
    sum += f1;
  }
  std::vector<Measurement> result = Benchmark::summary(judgements);
  if (groups.empty()) return result;
  result.push_back({"weighted_f1", "", static_cast<int64_t>(judgements.size()),
                    sum / static_cast<double>(groups.size()), -1});
  if (groups.size() > 1) result.insert(result.end(), f1s.begin(), f1s.end());
  return result;
}

Question label_question(std::string prompt, const std::vector<std::string>& labels, size_t gold) {
  Question question{.group = {},
                    .prompt = std::move(prompt),
                    .choices = {},
                    .answer = labels[gold],
                    .gold = gold};
  for (const std::string& label : labels) question.choices.push_back(" " + label);
  return question;
}

}  // namespace mora::benchmarks
