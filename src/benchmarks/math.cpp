// MATH (Hendrycks et al. 2021): competition problems, answers in the last \boxed{} of a solution.
// Asked and judged as MetaMath's eval_math.py does. The files: rows with problem, solution, level
// and type (or subject), or the official folder with one such object a file.
#include <algorithm>
#include <map>

#include "benchmarks/benchmarks.hpp"
#include "benchmarks/drawn_examples.hpp"
#include "benchmarks/files.hpp"
#include "benchmarks/metamath.hpp"
#include "benchmarks/statistics.hpp"
#include "data/json_lines.hpp"
#include "mora/data/row_layouts.hpp"
#include "mora/eval/answers.hpp"
#include "mora/io/text.hpp"

namespace mora::benchmarks {

namespace {

namespace fs = std::filesystem;

// A .json file, or the same with .gz where the plain one is not there.
bool is_problem(const fs::path& file) {
  if (file.extension() != ".gz") return file.extension() == ".json";
  const fs::path plain = file.parent_path() / file.stem();
  return plain.extension() == ".json" && !fs::exists(plain);
}

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && is_problem(entry.path())) files.push_back(entry.path());
  }
  std::ranges::sort(files, [](const fs::path& a, const fs::path& b) {
    return counts_before(a.string(), b.string());
  });
  return files;
}

class Math final : public Benchmark {
 public:
  explicit Math(const BenchmarkConfig& config) {
    questions_ =
        without_examples(config, [&](const fs::path& place, Split) { return read(config, place); });
  }

  const std::vector<Question>& questions() const override { return questions_; }
  std::vector<std::string> measures() const override { return {"acc"}; }

  Judgement judge(const Question& question, const Reply& reply) const override {
    const auto answer = metamath_answer(reply.text);
    if (!answer) return {std::string(kNoAnswer), {0}};
    return {*answer, {math_equivalent(*answer, question.answer) ? 1.0 : 0.0}};
  }

  // In total, by type, by level.
  std::vector<Measurement> summary(std::span<const Judgement> judgements) const override {
    std::vector<Measurement> result = Benchmark::summary(judgements);
    std::map<std::string, std::vector<double>> by_level;
    for (size_t i = 0; i < judgements.size(); ++i)
      by_level[levels_.at(questions_[i].prompt)].push_back(judgements[i].scores.front());
    for (const auto& [level, scores] : by_level) result.push_back(mean_of("acc", level, scores));
    return result;
  }

 private:
  std::vector<Question> read(const BenchmarkConfig& config, const fs::path& place) {
    std::vector<Question> questions;
    const auto add = [&](const JsonView& row) { questions.push_back(question_of(config, row)); };
    if (!fs::is_directory(place)) {
      read_json_rows(place, add);
      return questions;
    }
    for (const fs::path& file : files_below(place)) read_document(file, add);
    return questions;
  }

  Question question_of(const BenchmarkConfig& config, const JsonView& row) {
    constexpr int64_t kTokens = 2048;
    Question question = metamath_question(config, row.at("problem").string(), kTokens);
    question.group = row.at(row.has("type") ? "type" : "subject").string();
    question.answer = last_boxed(row.at("solution").string());
    if (question.answer.empty()) row.at("solution").wrong("expected the answer in \\boxed{}");
    levels_[question.prompt] = row.at("level").string();
    return question;
  }

  std::vector<Question> questions_;
  std::map<std::string, std::string> levels_;  // of a prompt
};

}  // namespace

std::unique_ptr<Benchmark> make_math(const BenchmarkConfig& config) {
  return std::make_unique<Math>(config);
}

}  // namespace mora::benchmarks
