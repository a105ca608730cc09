// PubMedQA (Jin et al. 2019): a question about an abstract, to be answered with yes, no or maybe.
// Its labelled set ori_pqal.json, and test_ground_truth.json, which says what of it is asked;
// prompts are lm-evaluation-harness's.
#include <algorithm>
#include <map>

#include "benchmarks/benchmarks.hpp"
#include "benchmarks/files.hpp"
#include "benchmarks/multiple_choice.hpp"

namespace mora::benchmarks {

namespace {

const std::vector<std::string> kDecisions = {" yes", " no", " maybe"};

size_t decision(const JsonView& value) {
  const auto found = std::ranges::find(kDecisions, " " + value.string());
  if (found == kDecisions.end()) value.wrong_type("yes, no or maybe");
  return static_cast<size_t>(found - kDecisions.begin());
}

Question question_of(const JsonView& item) {
  std::string prompt = "Abstract: ";
  bool first = true;
  for (const JsonView& part : item.at("CONTEXTS").items()) {
    if (!first) prompt += '\n';
    prompt += part.string();
    first = false;
  }
  prompt += "\nQuestion: " + item.at("QUESTION").string() + "\nAnswer:";
  const size_t gold = decision(item.at("final_decision"));
  return {.group = {},
          .prompt = std::move(prompt),
          .choices = kDecisions,
          .answer = kDecisions[gold].substr(1),
          .gold = gold};
}

}  // namespace

std::unique_ptr<Benchmark> make_pubmedqa(const BenchmarkConfig& config) {
  std::map<std::string, size_t> place;  // of an article among the test questions
  const auto test = file_in(config.data, "test_ground_truth.json");
  std::vector<size_t> gold;
  read_document(test, [&](const JsonView& ids) {
    for (const auto& [id, answer] : ids.members()) {
      place.emplace(id, gold.size());
      gold.push_back(decision(answer));
    }
  });
  if (gold.empty()) fail(ErrorKind::data, test.string(), ": names no questions");
  std::vector<Question> questions(gold.size()), others;
  const auto labelled = file_in(config.data, "ori_pqal.json");
  read_document(labelled, [&](const JsonView& articles) {
    for (const auto& [id, item] : articles.members()) {
      Question question = question_of(item);
      const auto asked = place.find(id);
      if (asked == place.end()) {
        others.push_back(std::move(question));
        continue;
      }
      if (question.gold != gold[asked->second])
        item.at("final_decision").wrong(str("another answer than in ", test.string()));
      questions[asked->second] = std::move(question);
    }
  });
  for (const auto& [id, at] : place) {
    if (questions[at].prompt.empty())
      fail(ErrorKind::data, labelled.string(), ": has no article ", id, ", which ", test.string(),
           " names");
  }
  if (config.num_samples > 0 && config.num_samples < static_cast<int64_t>(questions.size()))
    questions.resize(static_cast<size_t>(config.num_samples));
  const std::string examples = few_shot(others, config.num_fewshot, labelled.string());
  for (Question& question : questions) question.prompt.insert(0, examples);
  return std::make_unique<MultipleChoice>(std::move(questions));
}

}  // namespace mora::benchmarks
