// PubMed 200k RCT (Dernoncourt and Lee 2017): which of five roles a sentence has in an abstract.
// Its official text files: "###" and a number before each abstract, then a line for each sentence,
// "LABEL<tab>sentence". Prompt, choice by likelihood per token and micro F1 (which is the accuracy
// where each question has one answer) are AdaptLLM's.
#include <algorithm>
#include <array>

#include "benchmarks/benchmarks.hpp"
#include "benchmarks/files.hpp"
#include "benchmarks/multiple_choice.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"

namespace mora::benchmarks {

namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 5> kLabels = {"BACKGROUND", "OBJECTIVE", "METHODS",
                                                     "RESULTS", "CONCLUSIONS"};
const std::vector<std::string> kRoles = {" background", " objective", " methods", " results",
                                         " conclusions"};

// Calls take() for each sentence of the file, in order.
void read_sentences(const fs::path& file, const std::function<void(Question)>& take) {
  read_lines(file, [&](int64_t number, std::string_view line) {
    if (line.empty() || line.starts_with("###")) return;
    const size_t tab = line.find('\t');
    const auto label = std::ranges::find(kLabels, line.substr(0, tab));
    if (tab == std::string_view::npos || label == kLabels.end() || !is_valid_utf8(line)) {
      fail(ErrorKind::data, file.string(), ":", number, ": \"", printable(line, 60),
           "\"; expected ###number, or BACKGROUND, OBJECTIVE, METHODS, RESULTS or CONCLUSIONS, a "
           "tab and a sentence");
    }
    const auto gold = static_cast<size_t>(label - kLabels.begin());
    take({.group = {},
          .prompt = std::string(line.substr(tab + 1)) +
                    "\nQuestion: what is the role of this sentence in an abstract?\nAnswer:",
          .choices = kRoles,
          .answer = kRoles[gold].substr(1),
          .gold = gold});
  });
}

// As many examples of each role as of any other: the first of each, then the second of each.
std::vector<Question> balanced_examples(const fs::path& file, int64_t count) {
  std::array<std::vector<Question>, kLabels.size()> by_role;
  read_sentences(file, [&](Question question) {
    std::vector<Question>& same = by_role[question.gold];
    if (static_cast<int64_t>(same.size()) < count) same.push_back(std::move(question));
  });
  std::vector<Question> result;
  for (size_t round = 0; static_cast<int64_t>(round) < count; ++round) {
    for (std::vector<Question>& same : by_role) {
      if (round < same.size()) result.push_back(std::move(same[round]));
    }
  }
  return result;
}

}  // namespace

std::unique_ptr<Benchmark> make_rct(const BenchmarkConfig& config) {
  const bool folder = fs::is_directory(config.data);
  const fs::path test = folder ? file_in(config.data, "test.txt") : config.data;
  std::vector<Question> questions;
  read_sentences(test, [&](Question question) {
    if (config.num_samples == 0 || static_cast<int64_t>(questions.size()) < config.num_samples)
      questions.push_back(std::move(question));
  });
  if (questions.empty()) fail(ErrorKind::data, test.string(), ": has no sentences");
  if (config.num_fewshot > 0) {
    const fs::path train = file_in(test.parent_path(), "train.txt");
    const std::string examples =
        few_shot(balanced_examples(train, config.num_fewshot), config.num_fewshot, train.string());
    for (Question& question : questions) question.prompt.insert(0, examples);
  }
  return std::make_unique<MultipleChoice>(
      std::move(questions), std::vector<ChoiceMeasure>{{"micro_f1", Preference::per_token}});
}

}  // namespace mora::benchmarks
