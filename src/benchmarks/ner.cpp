// NER (Salinas Alvarado et al. 2015): names in loan agreements. The official files FIN5 and FIN3
// are CoNLL's: a token a line, its tag last, an empty line behind each sentence. As BloombergGPT,
// without MISC and without sentences that have no entity; template and metric are AdaptLLM's.
#include <optional>

#include "benchmarks/benchmarks.hpp"
#include "benchmarks/drawn_examples.hpp"
#include "benchmarks/spoken_answers.hpp"
#include "mora/core/error.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"
#include "text/template_strings.hpp"

namespace mora::benchmarks {

namespace {

namespace fs = std::filesystem;

struct Sentence {
  std::string text;
  std::vector<Entity> entities;
  std::string tag = "O";  // of the last token

  void add(const std::string& token, const std::string& next) {
    text += (text.empty() ? "" : " ") + token;
    if (next != "O") {
      const std::string type = next.substr(2);
      const bool goes_on = next.starts_with("I-") && tag != "O" && tag.substr(2) == type;
      if (goes_on) {
        entities.back().name += " " + token;
      } else {
        entities.push_back({token, type});
      }
    }
    tag = next;
  }

  std::string answer() const {
    std::string list;
    for (const Entity& entity : entities) {
      if (entity.type == "MISC") continue;
      list += str(list.empty() ? "" : ", ", entity.name, " (", entity.type, ")");
    }
    return list;
  }
};

bool is_tag(std::string_view tag) {
  return tag == "O" || ((tag.starts_with("I-") || tag.starts_with("B-")) && tag.size() > 2);
}

std::vector<Question> read(const fs::path& file, int64_t max_new_tokens) {
  std::vector<Question> questions;
  Sentence sentence;
  const auto finish = [&] {
    if (const std::string answer = sentence.answer(); !answer.empty()) {
      questions.push_back({.group = {},
                           .prompt = sentence.text + "\nExtract named entity:",
                           .choices = {},
                           .answer = answer,
                           .stops = {"\n"},
                           .max_new_tokens = max_new_tokens});
    }
    sentence = {};
  };
  read_lines(file, [&](int64_t number, std::string_view line) {
    const std::vector<std::string> columns = jinja::split(line, nullptr, -1);
    if (columns.empty()) return finish();
    if (columns.front() == "-DOCSTART-") return;
    if (!is_valid_utf8(line) || columns.size() < 2 || !is_tag(columns.back())) {
      fail(ErrorKind::data, file.string(), ":", number, ": \"", printable(line, 60),
           "\": expected a token in UTF-8 and, last, its tag: O, I-TYPE or B-TYPE");
    }
    sentence.add(columns.front(), columns.back());
  });
  finish();
  return questions;
}

class Ner final : public Benchmark {
 public:
  explicit Ner(const BenchmarkConfig& config)
      : questions_(with_drawn_examples(config, [&](const fs::path& place, Split split) {
          return read(split_file(place, split, "FIN3.txt", "FIN5.txt"),
                      config.max_new_tokens == 0 ? kAdaptTokens : config.max_new_tokens);
        })) {}

  const std::vector<Question>& questions() const override { return questions_; }
  std::vector<std::string> measures() const override { return {"entity_f1"}; }

  Judgement judge(const Question& question, const Reply& reply) const override {
    return {reply.text, {entity_f1(entities_in(question.answer), entities_in(reply.text))}};
  }

 private:
  std::vector<Question> questions_;
};

}  // namespace

std::unique_ptr<Benchmark> make_ner(const BenchmarkConfig& config) {
  return std::make_unique<Ner>(config);
}

}  // namespace mora::benchmarks
