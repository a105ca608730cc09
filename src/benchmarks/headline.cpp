// Headline (Sinha and Khandait 2020): what a news headline about gold says, nine yes-no questions
// to each. The official file is a CSV with a column for each question, 1 or 0; BloombergGPT wrote
// the questions, AdaptLLM's template asks them.
#include <algorithm>
#include <array>
#include <optional>

#include "benchmarks/benchmarks.hpp"
#include "benchmarks/classification.hpp"
#include "benchmarks/csv.hpp"
#include "benchmarks/drawn_examples.hpp"
#include "mora/core/error.hpp"
#include "mora/io/text.hpp"

namespace mora::benchmarks {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kNews = "News";

struct Tag {
  std::string_view column;  // as the file spells it
  std::string_view group;
  std::string_view question;
};

constexpr std::array<Tag, 9> kTags = {{
    {"Price or Not", "price or not", "Does the news headline talk about price?"},
    {"Direction Up", "price up", "Does the news headline talk about price going up?"},
    {"Direction Constant", "price stable",
     "Does the news headline talk about price staying constant?"},
    {"Direction Down", "price down", "Does the news headline talk about price going down?"},
    {"PastPrice", "past price", "Does the news headline talk about price in the past?"},
    {"FuturePrice", "future price", "Does the news headline talk about price in the future?"},
    {"PastNews", "past general",
     "Does the news headline talk about a general event (apart from prices) in the past?"},
    {"FutureNews", "future general",
     "Does the news headline talk about a general event (apart from prices) in the future?"},
    {"Asset Comparision", "asset comparison",
     "Does the news headline compare gold with any other asset?"},
}};

// Which fields of a row are the headline and the tags.
class Columns {
 public:
  Columns(const fs::path& file, int64_t line, const std::vector<std::string>& names) {
    const auto place = [&](std::string_view column) {
      const auto found = std::ranges::find(names, column);
      if (found == names.end()) {
        fail(ErrorKind::data, file.string(), ":", line, ": no column \"", column,
             "\"; expected the header with ", kNews, " and the nine tags");
      }
      return static_cast<size_t>(found - names.begin());
    };
    count_ = names.size();
    news_ = place(kNews);
    for (size_t i = 0; i < kTags.size(); ++i) tags_[i] = place(kTags[i].column);
  }

  void add_questions(const fs::path& file, int64_t line, const std::vector<std::string>& fields,
                     std::vector<Question>& questions) const {
    static const std::vector<std::string> kAnswers = {"No", "Yes"};
    if (fields.size() != count_) {
      fail(ErrorKind::data, file.string(), ":", line, ": ", fields.size(),
           " fields, the header has ", count_);
    }
    for (size_t i = 0; i < kTags.size(); ++i) {
      const std::string& value = fields[tags_[i]];
      if (value != "0" && value != "1") {
        fail(ErrorKind::data, file.string(), ":", line, ": ", kTags[i].column, " is \"",
             printable(value, 60), "\", expected 0 or 1");
      }
      questions.push_back(
          label_question(str(fields[news_], "\nQuestion: ", kTags[i].question, "\nAnswer:"),
                         kAnswers, value == "1" ? 1 : 0));
      questions.back().group = kTags[i].group;
    }
  }

 private:
  size_t count_ = 0, news_ = 0;
  std::array<size_t, kTags.size()> tags_{};
};

std::vector<Question> read(const fs::path& file, Split) {
  std::vector<Question> questions;
  std::optional<Columns> columns;
  read_csv(file, [&](int64_t line, const std::vector<std::string>& fields) {
    if (columns) {
      columns->add_questions(file, line, fields, questions);
    } else {
      columns.emplace(file, line, fields);
    }
  });
  return questions;
}

}  // namespace

std::unique_ptr<Benchmark> make_headline(const BenchmarkConfig& config) {
  return std::make_unique<Classification>(with_drawn_examples(config, read));
}

}  // namespace mora::benchmarks
