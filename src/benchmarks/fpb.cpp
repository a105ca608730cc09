// Financial PhraseBank (Malo et al. 2014): the sentiment of a sentence. Its files have lines
// "sentence@label" in ISO-8859-1; the template is AdaptLLM's.
#include <algorithm>

#include "benchmarks/benchmarks.hpp"
#include "benchmarks/classification.hpp"
#include "benchmarks/drawn_examples.hpp"
#include "mora/core/error.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"

namespace mora::benchmarks {

namespace {

// A line that is UTF-8 already, as in copies of the set, stays.
std::string utf8_of(std::string_view line) {
  if (is_valid_utf8(line)) return std::string(line);
  std::string text;
  for (const char c : line) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      text += c;
    } else {
      text += static_cast<char>(0xC0 | (byte >> 6));
      text += static_cast<char>(0x80 | (byte & 0x3F));
    }
  }
  return text;
}

std::vector<Question> read(const std::filesystem::path& file, Split) {
  std::vector<Question> questions;
  read_lines(file, [&](int64_t number, std::string_view line) {
    if (line.empty()) return;
    const size_t at = line.rfind('@');
    const auto label =
        at == line.npos ? kSentiments.end() : std::ranges::find(kSentiments, line.substr(at + 1));
    if (label == kSentiments.end()) {
      fail(ErrorKind::data, file.string(), ":", number, ": \"", printable(line, 60),
           "\": expected a sentence, \"@\" and negative, neutral or positive");
    }
    questions.push_back(label_question(
        utf8_of(line.substr(0, at)) + "\nQuestion: what is the sentiment?\nAnswer:", kSentiments,
        static_cast<size_t>(label - kSentiments.begin())));
  });
  return questions;
}

}  // namespace

std::unique_ptr<Benchmark> make_fpb(const BenchmarkConfig& config) {
  return std::make_unique<Classification>(with_drawn_examples(config, read));
}

}  // namespace mora::benchmarks
