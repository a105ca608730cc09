// FiQA (Maia et al. 2018), task 1: the sentiment of a headline or a post towards a company. The
// official files say it as a number from -1 to 1; BloombergGPT cuts that into three classes, and
// AdaptLLM's template asks for them.
#include <charconv>

#include "benchmarks/benchmarks.hpp"
#include "benchmarks/classification.hpp"
#include "benchmarks/drawn_examples.hpp"
#include "benchmarks/files.hpp"

namespace mora::benchmarks {

namespace {

namespace fs = std::filesystem;

// The files have the number as a text.
double score_of(const JsonView& value) {
  if (!value.json().is_string()) return value.number();
  const std::string text = value.string();
  double score = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), score);
  if (error != std::errc() || end != text.data() + text.size())
    value.wrong_type("a number, or a text that is one");
  return score;
}

// BloombergGPT, appendix B: below -0.1 negative, from 0.1 on positive.
size_t sentiment_of(const JsonView& value) {
  constexpr double kCut = 0.1;
  const double score = score_of(value);
  if (!(score >= -1 && score <= 1)) value.wrong("expected a sentiment from -1 to 1");
  return score < -kCut ? 0 : score < kCut ? 1 : 2;
}

void add_questions(const fs::path& file, std::vector<Question>& questions) {
  read_document(file, [&](const JsonView& sentences) {
    for (const auto& [id, item] : sentences.members()) {
      const std::string sentence = item.at("sentence").string();
      for (const JsonView& aspect : item.at("info").items()) {
        questions.push_back(label_question(str(sentence, "\nQuestion: what is the sentiment on ",
                                               aspect.at("target").string(), "?\nAnswer:"),
                                           kSentiments,
                                           sentiment_of(aspect.at("sentiment_score"))));
      }
    }
  });
}

std::vector<Question> read(const fs::path& place, Split split) {
  std::vector<Question> questions;
  if (!fs::is_directory(place)) {
    add_questions(place, questions);
    return questions;
  }
  const std::string end = split == Split::test ? "_ABSA_test.json" : "_ABSA_train.json";
  for (const char* kind : {"task1_headline", "task1_post"})
    add_questions(file_in(place, kind + end), questions);
  return questions;
}

}  // namespace

std::unique_ptr<Benchmark> make_fiqa(const BenchmarkConfig& config) {
  return std::make_unique<Classification>(with_drawn_examples(config, read));
}

}  // namespace mora::benchmarks
