// ConvFinQA (Chen et al. 2022): conversations about a page of a report; every turn is asked behind
// the page and the turns before it with their right answers. The files: the official one, an array
// of conversations, or an object with such an array as "dev" (table by column, answers beside the
// questions). Template and metric are AdaptLLM's, tables Markdown as in BloombergGPT's appendix B.
#include "benchmarks/benchmarks.hpp"
#include "benchmarks/drawn_examples.hpp"
#include "benchmarks/files.hpp"
#include "benchmarks/spoken_answers.hpp"
#include "mora/core/error.hpp"
#include "text/template_strings.hpp"

namespace mora::benchmarks {

namespace {

namespace fs = std::filesystem;

using TableRow = std::vector<std::string>;

// A number as short as it is exact, or a text.
std::string text_of(const JsonView& value) {
  if (value.json().is_string()) return value.string();
  std::string text = jinja::python_float(value.number());
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text;
}

// A text, or a list of sentences.
std::string prose(const JsonView& value) {
  if (value.json().is_string()) return value.string();
  std::string text;
  for (const JsonView& sentence : value.items())
    text += (text.empty() ? "" : " ") + sentence.string();
  return text;
}

std::vector<TableRow> table_by_rows(const JsonView& table) {
  std::vector<TableRow> rows;
  for (const JsonView& row : table.items()) {
    rows.emplace_back();
    for (const JsonView& cell : row.items()) rows.back().push_back(text_of(cell));
  }
  return rows;
}

// {column: {row: value}}; every column has the rows of the first.
std::vector<TableRow> table_by_columns(const JsonView& table) {
  std::vector<TableRow> rows = {{""}};
  for (const auto& [name, column] : table.members()) {
    const bool first = rows.front().size() == 1;
    rows.front().push_back(name);
    size_t at = 0;
    for (const auto& [row, value] : column.members()) {
      if (first) rows.push_back({row});
      if (++at >= rows.size() || rows[at].front() != row)
        value.wrong("expected the rows of the first column");
      rows[at].push_back(text_of(value));
    }
    if (at + 1 != rows.size()) column.wrong("expected the rows of the first column");
  }
  return rows;
}

std::string markdown(const std::vector<TableRow>& rows) {
  std::string text;
  for (size_t i = 0; i < rows.size(); ++i) {
    text += "|";
    for (const std::string& cell : rows[i]) text += " " + (cell.empty() ? "-" : cell) + " |";
    text += "\n";
    if (i > 0) continue;
    text += "|";
    for (size_t column = 0; column < rows[i].size(); ++column) text += " --- |";
    text += "\n";
  }
  return text;
}

std::string page(const JsonView& document, const std::vector<TableRow>& table) {
  return prose(document.at("pre_text")) + "\n" + markdown(table) + prose(document.at("post_text")) +
         "\n";
}

// One question for each turn.
void add_turns(std::string prompt, const JsonView& asked, const JsonView& answered,
               int64_t max_new_tokens, std::vector<Question>& questions) {
  const std::vector<JsonView> turns = asked.items(), answers = answered.items();
  if (turns.size() != answers.size())
    answered.wrong(str(answers.size(), " answers to ", turns.size(), " questions"));
  for (size_t i = 0; i < turns.size(); ++i) {
    prompt += "Question: " + turns[i].string() + "\nAnswer:";
    const std::string answer = text_of(answers[i]);
    questions.push_back({.group = {},
                         .prompt = prompt,
                         .choices = {},
                         .answer = answer,
                         .stops = {"\n"},
                         .max_new_tokens = max_new_tokens});
    prompt += " " + answer + "\n";
  }
}

std::vector<Question> read(const fs::path& place, int64_t max_new_tokens) {
  std::vector<Question> questions;
  read_document(split_file(place, Split::test, "dev.json", "train.json"), [&](const JsonView& all) {
    const JsonView conversations = all.json().is_object() ? all.at("dev") : all;
    for (const JsonView& item : conversations.items()) {
      if (item.has("doc")) {
        const JsonView document = item.at("doc"), dialogue = item.at("dialogue");
        add_turns(page(document, table_by_columns(document.at("table"))),
                  dialogue.at("conv_questions"), dialogue.at("executed_answers"), max_new_tokens,
                  questions);
      } else {
        const JsonView annotation = item.at("annotation");
        add_turns(page(item, table_by_rows(item.at("table"))), annotation.at("dialogue_break"),
                  annotation.at("exe_ans_list"), max_new_tokens, questions);
      }
    }
  });
  return questions;
}

class ConvFinQa final : public Benchmark {
 public:
  explicit ConvFinQa(const BenchmarkConfig& config)
      : questions_(without_examples(config, [&](const fs::path& place, Split) {
          return read(place, config.max_new_tokens == 0 ? kAdaptTokens : config.max_new_tokens);
        })) {}

  const std::vector<Question>& questions() const override { return questions_; }
  std::vector<std::string> measures() const override { return {"exact_match"}; }

  Judgement judge(const Question& question, const Reply& reply) const override {
    return {reply.text.substr(0, reply.text.find('\n')),
            {numbers_agree(reply.text, question.answer) ? 1.0 : 0.0}};
  }

 private:
  std::vector<Question> questions_;
};

}  // namespace

std::unique_ptr<Benchmark> make_convfinqa(const BenchmarkConfig& config) {
  return std::make_unique<ConvFinQa>(config);
}

}  // namespace mora::benchmarks
