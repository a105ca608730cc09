// MedQA (Jin et al. 2020): questions of the medical licence examination (USMLE) with four answers.
// Its official lines of JSON with "question", "options" and "answer_idx", as a file, or as
// phrases_no_exclude_test.jsonl in a folder; prompts are lm-evaluation-harness's medqa_4options.
#include <algorithm>

#include "benchmarks/benchmarks.hpp"
#include "benchmarks/files.hpp"
#include "benchmarks/multiple_choice.hpp"
#include "data/json_lines.hpp"

namespace mora::benchmarks {

namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kLetters = {" A", " B", " C", " D"};

Question question_of(const JsonView& row) {
  const JsonView options = row.at("options");
  std::string prompt = "Question: " + row.at("question").string() + "\n";
  for (const std::string& letter : kLetters) {
    const std::string key = letter.substr(1);
    prompt += key + ". " + options.at(key).string() + "\n";
  }
  if (options.members().size() != kLetters.size())
    options.wrong("expected four options, A to D (the official 4_options files)");
  const JsonView answer = row.at("answer_idx");
  const auto gold = std::ranges::find(kLetters, " " + answer.string());
  if (gold == kLetters.end()) answer.wrong_type("A, B, C or D");
  return {.group = {},
          .prompt = prompt + "Answer:",
          .choices = kLetters,
          .answer = gold->substr(1),
          .gold = static_cast<size_t>(gold - kLetters.begin())};
}

std::vector<Question> read_questions(const fs::path& file, int64_t most) {
  std::vector<Question> questions;
  read_json_lines(file, [&](const JsonView& row) {
    Question question = question_of(row);
    if (most == 0 || static_cast<int64_t>(questions.size()) < most)
      questions.push_back(std::move(question));
  });
  if (questions.empty()) fail(ErrorKind::data, file.string(), ": has no questions");
  return questions;
}

}  // namespace

std::unique_ptr<Benchmark> make_medqa(const BenchmarkConfig& config) {
  const bool folder = fs::is_directory(config.data);
  const fs::path test =
      folder ? file_in(config.data, "phrases_no_exclude_test.jsonl") : config.data;
  std::vector<Question> questions = read_questions(test, config.num_samples);
  if (config.num_fewshot > 0) {
    const fs::path train = file_in(test.parent_path(), "phrases_no_exclude_train.jsonl");
    const std::string examples =
        few_shot(read_questions(train, config.num_fewshot), config.num_fewshot, train.string());
    for (Question& question : questions) question.prompt.insert(0, examples);
  }
  return std::make_unique<MultipleChoice>(
      std::move(questions), std::vector<ChoiceMeasure>{{"acc", Preference::whole},
                                                       {"acc_norm", Preference::per_character}});
}

}  // namespace mora::benchmarks
