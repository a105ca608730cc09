#include "benchmarks/drawn_examples.hpp"

#include <map>

#include "benchmarks/files.hpp"
#include "benchmarks/python_random.hpp"

namespace mora::benchmarks {

namespace {

constexpr uint32_t kSeed = 1234;  // lm-evaluation-harness's fewshot_random_seed

std::string solved(const Question& question) {
  const std::string answer =
      question.choices.empty() ? " " + question.answer : question.choices[question.gold];
  return question.prompt + answer + "\n\n";
}

std::vector<Question> first_of_each_group(std::vector<Question> questions, int64_t most) {
  if (most == 0) return questions;
  std::map<std::string, int64_t> taken;
  std::erase_if(questions, [&](const Question& q) { return ++taken[q.group] > most; });
  return questions;
}

class Examples {
 public:
  enum class Pool : uint8_t { others, with_the_questions };

  Examples(const BenchmarkConfig& config, const ReadQuestions& read)
      : count_(static_cast<size_t>(config.num_fewshot)) {
    if (count_ == 0) return;
    const auto& place = config.fewshot.empty() ? config.data : config.fewshot;
    for (const Question& question : read(place, Split::train)) pool_.push_back(solved(question));
    const bool one_file =
        std::filesystem::is_regular_file(place) && std::filesystem::equivalent(place, config.data);
    if (one_file) kind_ = Pool::with_the_questions;
    if (pool_.size() < count_ + (one_file ? 1 : 0)) {
      fail(ErrorKind::usage, config.name, ": num_fewshot is ", count_, ", but ", place.string(),
           " has only ", pool_.size(), one_file ? " questions, one of them asked" : " examples",
           "; lower it or name another file as \"fewshot\"");
    }
  }

  std::string in_front_of(const Question& question) {
    if (count_ == 0) return {};
    if (kind_ == Pool::others) return join(pool_, random_.sample(pool_.size(), count_));
    const std::string own = solved(question);
    std::vector<size_t> drawn = random_.sample(pool_.size(), count_ + 1);
    std::erase_if(drawn, [&](size_t i) { return pool_[i] == own; });
    if (drawn.size() >= count_) return join(pool_, drawn);
    std::vector<std::string> others = pool_;  // its like was drawn more than once
    std::erase(others, own);
    if (others.size() < count_)
      fail(ErrorKind::usage, "num_fewshot is ", count_, ", but only ", others.size(),
           " questions are others than the asked one");
    return join(others, random_.sample(others.size(), count_));
  }

 private:
  std::string join(const std::vector<std::string>& pool, const std::vector<size_t>& drawn) const {
    std::string text;
    for (size_t i = 0; i < count_; ++i) text += pool[drawn[i]];
    return text;
  }

  size_t count_;
  Pool kind_ = Pool::others;
  std::vector<std::string> pool_;
  PythonRandom random_{kSeed};
};

}  // namespace

std::vector<Question> with_drawn_examples(const BenchmarkConfig& config,
                                          const ReadQuestions& read) {
  std::vector<Question> questions =
      first_of_each_group(read(config.data, Split::test), config.num_samples);
  if (questions.empty()) fail(ErrorKind::data, config.data.string(), ": has no questions");
  Examples examples(config, read);
  for (Question& question : questions) question.prompt.insert(0, examples.in_front_of(question));
  return questions;
}

std::vector<Question> without_examples(const BenchmarkConfig& config, const ReadQuestions& read) {
  if (config.num_fewshot > 0) {
    fail(ErrorKind::usage, config.name, ": num_fewshot is ", config.num_fewshot,
         ", but it is asked without examples; set it to 0");
  }
  return with_drawn_examples(config, read);
}

std::filesystem::path split_file(const std::filesystem::path& place, Split split,
                                 const std::string& test, const std::string& train) {
  if (!std::filesystem::is_directory(place)) return place;
  return file_in(place, split == Split::test ? test : train);
}

}  // namespace mora::benchmarks
