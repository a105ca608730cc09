// MMLU (Hendrycks et al. 2021): questions with four answers, by subject. Its official folder has
// test/SUBJECT_test.csv and dev/SUBJECT_dev.csv, the solved examples; prompts and summary are
// lm-evaluation-harness's.
#include <algorithm>
#include <cmath>
#include <set>

#include "benchmarks/benchmarks.hpp"
#include "benchmarks/csv.hpp"
#include "benchmarks/files.hpp"
#include "benchmarks/mmlu_categories.hpp"
#include "benchmarks/multiple_choice.hpp"
#include "mora/io/text.hpp"
#include "text/template_strings.hpp"

namespace mora::benchmarks {

namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kLetters = {" A", " B", " C", " D"};

std::vector<Question> read_questions(const fs::path& file, const std::string& subject,
                                     int64_t most) {
  std::vector<Question> questions;
  read_csv(file, [&](int64_t line, const std::vector<std::string>& fields) {
    if (fields.size() != 6) {
      fail(ErrorKind::data, file.string(), ":", line, ": ", fields.size(),
           " fields; expected 6: the question, four answers and the letter of the right one");
    }
    const auto gold = std::ranges::find(kLetters, " " + fields[5]);
    if (gold == kLetters.end()) {
      fail(ErrorKind::data, file.string(), ":", line, ": the right answer is \"",
           printable(fields[5]), "\"; expected A, B, C or D");
    }
    if (most > 0 && static_cast<int64_t>(questions.size()) == most) return;
    std::string prompt(jinja::strip(fields[0], jinja::Side::both));
    for (size_t i = 0; i < 4; ++i) prompt += str('\n', kLetters[i].substr(1), ". ", fields[i + 1]);
    questions.push_back({.group = subject,
                         .prompt = prompt + "\nAnswer:",
                         .choices = kLetters,
                         .answer = fields[5],
                         .gold = static_cast<size_t>(gold - kLetters.begin())});
  });
  if (questions.empty()) fail(ErrorKind::data, file.string(), ": has no questions");
  return questions;
}

// The subjects that the folder has, by name.
std::vector<std::string> subjects_in(const fs::path& folder) {
  if (!fs::is_directory(folder))
    fail(ErrorKind::data, folder.string(), ": is no folder; MMLU's has test/SUBJECT_test.csv");
  std::set<std::string> subjects;
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::string name = entry.path().filename().string();
    if (name.ends_with(".gz")) name.resize(name.size() - 3);
    if (name.ends_with("_test.csv")) subjects.insert(name.substr(0, name.size() - 9));
  }
  if (subjects.empty()) fail(ErrorKind::data, folder.string(), ": has no SUBJECT_test.csv");
  return {subjects.begin(), subjects.end()};
}

std::string description(std::string subject) {
  std::ranges::replace(subject, '_', ' ');
  return "The following are multiple choice questions (with answers) about " + subject + ".\n\n";
}

std::vector<Question> read_mmlu(const BenchmarkConfig& config) {
  std::vector<std::string> subjects = config.subjects;
  if (subjects.empty()) subjects = subjects_in(config.data / "test");
  std::vector<Question> result;
  std::set<std::string> seen;
  for (const std::string& subject : subjects) {
    if (!seen.insert(subject).second)
      fail(ErrorKind::usage, "subjects: ", subject, " is there twice");
    std::string start = description(subject);
    if (config.num_fewshot > 0) {
      const fs::path dev = file_in(config.data / "dev", subject + "_dev.csv");
      start += few_shot(read_questions(dev, subject, 0), config.num_fewshot, dev.string());
    }
    const fs::path test = file_in(config.data / "test", subject + "_test.csv");
    for (Question& question : read_questions(test, subject, config.num_samples)) {
      question.prompt.insert(0, start);
      result.push_back(std::move(question));
    }
  }
  return result;
}

// The mean over all questions of several subjects. Its standard error is pooled from the subjects'
// (the harness's pooled_sample_stderr): the differences between subjects are not part of it.
Measurement pooled(std::string group, std::span<const Measurement> subjects) {
  Measurement result{
      .name = "acc", .group = std::move(group), .n = 0, .value = 0, .standard_error = -1};
  double sum = 0, squares = 0;
  bool known = true;
  for (const Measurement& s : subjects) {
    const auto n = static_cast<double>(s.n);
    result.n += s.n;
    sum += s.value * n;
    squares += (n - 1) * s.standard_error * s.standard_error * n;
    known = known && s.standard_error >= 0;
  }
  const auto n = static_cast<double>(result.n);
  result.value = sum / n;
  if (known)
    result.standard_error = std::sqrt(squares / (n - static_cast<double>(subjects.size())) / n);
  return result;
}

class Mmlu final : public MultipleChoice {
 public:
  using MultipleChoice::MultipleChoice;

  // In total, by category, by subject. A subject that is none of MMLU's is in no category.
  std::vector<Measurement> summary(std::span<const Judgement> judgements) const override {
    std::vector<Measurement> subjects = MultipleChoice::summary(judgements);
    if (subjects.size() > 1) subjects.erase(subjects.begin());  // the total
    if (subjects.front().group.empty()) subjects.front().group = questions().front().group;
    std::vector<Measurement> result = {pooled("", subjects)};
    for (const MmluCategory& category : mmlu_categories()) {
      std::vector<Measurement> members;
      std::ranges::copy_if(subjects, std::back_inserter(members), [&](const Measurement& m) {
        return std::ranges::find(category.subjects, m.group) != category.subjects.end();
      });
      if (!members.empty()) result.push_back(pooled(std::string(category.name), members));
    }
    result.insert(result.end(), subjects.begin(), subjects.end());
    return result;
  }
};

}  // namespace

std::unique_ptr<Benchmark> make_mmlu(const BenchmarkConfig& config) {
  return std::make_unique<Mmlu>(read_mmlu(config));
}

}  // namespace mora::benchmarks
