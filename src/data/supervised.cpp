// Rows are collected to a few megabytes, formatted and encoded all at once, and the results are
// joined in order.
#include "mora/data/supervised.hpp"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <sstream>

#include "mora/core/error.hpp"
#include "mora/core/parallel.hpp"
#include "mora/io/text.hpp"
#include "mora/text/chat_template.hpp"

namespace mora {

namespace {

constexpr size_t kBatchBytes = size_t{8} << 20;

// How many of the whole text's tokens lie before a byte: those that the text up to there has by
// itself, as far as they are the same. A token across the boundary counts as behind it.
size_t tokens_before(const Tokenizer& tokenizer, const MarkedText& text, size_t byte,
                     const std::vector<int32_t>& whole) {
  if (byte >= text.text.size()) return whole.size();
  const std::vector<int32_t> part =
      encode_prompt(tokenizer, std::string_view(text.text).substr(0, byte), text.kind);
  const auto [a, b] = std::ranges::mismatch(part, whole);
  return static_cast<size_t>(b - whole.begin());
}

}  // namespace

void ExampleList::append(const Example& example) {
  tokens_.insert(tokens_.end(), example.tokens.begin(), example.tokens.end());
  weights_.insert(weights_.end(), example.weights.begin(), example.weights.end());
  ends_.push_back(tokens_.size());
}

ExampleView ExampleList::operator[](int64_t i) const {
  ensure(i >= 0 && i < size(), "example ", i, " of ", size());
  const size_t begin = i == 0 ? 0 : ends_[static_cast<size_t>(i - 1)];
  const size_t count = ends_[static_cast<size_t>(i)] - begin;
  ExampleView view;
  view.tokens = std::span(tokens_).subspan(begin, count);
  view.weights = std::span(weights_).subspan(begin, count);
  return view;
}

Example tokenize_marked(const Tokenizer& tokenizer, const MarkedText& text, TrainOn train_on) {
  Example example;
  example.tokens = encode_prompt(tokenizer, text.text, text.kind);
  example.weights.assign(example.tokens.size(), train_on == TrainOn::all ? 1.0f : 0.0f);
  if (train_on == TrainOn::completion) {
    for (const auto& [begin, end] : text.trained) {
      const size_t first = tokens_before(tokenizer, text, begin, example.tokens);
      const size_t last = tokens_before(tokenizer, text, end, example.tokens);
      for (size_t i = first; i < last; ++i) example.weights[i] = 1;
    }
  }
  if (!example.weights.empty()) example.weights.front() = 0;
  return example;
}

namespace {

class Collector {
 public:
  Collector(const Tokenizer& tokenizer, const PromptFormat& format,
            const SupervisedSettings& settings, BadRows bad_rows)
      : tokenizer_(tokenizer), format_(format), settings_(settings), bad_rows_(bad_rows) {}

  bool full() const { return settings_.max_samples > 0 && taken_ >= settings_.max_samples; }

  void add(Conversation conversation) {
    if (full()) return;
    ++taken_;
    for (const Message& m : conversation.messages) bytes_ += m.content.size();
    rows_.push_back(std::move(conversation));
    if (bytes_ >= kBatchBytes) encode();
  }

  SupervisedData finish(const RowCounts& rows) {
    encode();
    data_.counts.rows.read = taken_;
    data_.counts.rows.skipped += rows.skipped;
    if (rows.skipped > 0) data_.counts.rows.first_problem = rows.first_problem;
    return std::move(data_);
  }

 private:
  struct Result {
    Example example;
    std::string problem;
  };

  void encode() {
    std::vector<Result> results(rows_.size());
    parallel_for(static_cast<int64_t>(rows_.size()), [&](int64_t i) {
      Result& result = results[static_cast<size_t>(i)];
      const Conversation& row = rows_[static_cast<size_t>(i)];
      try {
        result.example = tokenize_marked(tokenizer_, format_(row), settings_.train_on);
      } catch (const Error& error) {
        result.problem = str(row.place, ": ", error.what());
      }
    });
    for (Result& result : results) take(result);
    rows_.clear();
    bytes_ = 0;
  }

  static std::optional<int32_t> last_trained(const Example& e) {
    const auto last =
        std::ranges::find_if(e.weights.rbegin(), e.weights.rend(), [](float w) { return w > 0; });
    return e.tokens[static_cast<size_t>(e.weights.rend() - last) - 1];
  }

  void take(Result& result) {
    SupervisedCounts& counts = data_.counts;
    if (!result.problem.empty()) {
      if (bad_rows_ == BadRows::error) fail(ErrorKind::data, result.problem);
      if (counts.rows.skipped++ == 0) counts.rows.first_problem = result.problem;
      return;
    }
    Example& e = result.example;
    const auto most = static_cast<size_t>(settings_.max_length);
    const bool too_long = e.tokens.size() > most;
    if (too_long && settings_.too_long == TooLong::drop) {
      ++counts.dropped_long;
      return;
    }
    if (too_long) {
      e.tokens.resize(most);
      e.weights.resize(most);
    }
    const auto trained = std::ranges::count_if(e.weights, [](float w) { return w > 0; });
    if (trained == 0) {
      ++counts.dropped_masked;
      return;
    }
    if (too_long) ++counts.cut;
    if (last_trained(e) == tokenizer_.eos()) ++counts.trained_ends;
    counts.tokens += static_cast<int64_t>(e.tokens.size());
    counts.trained_tokens += trained;
    data_.examples.append(e);
  }

  const Tokenizer& tokenizer_;
  const PromptFormat& format_;
  const SupervisedSettings& settings_;
  BadRows bad_rows_;
  std::vector<Conversation> rows_;
  size_t bytes_ = 0;  // of rows_
  int64_t taken_ = 0;
  SupervisedData data_;
};

}  // namespace

SupervisedData read_supervised(const Tokenizer& tokenizer, const RowFiles& files,
                               const PromptFormat& format, const SupervisedSettings& settings) {
  Collector collector(tokenizer, format, settings, files.bad_rows);
  const RowCounts rows =
      read_conversations(files, [&](Conversation c) { collector.add(std::move(c)); });
  SupervisedData data = collector.finish(rows);
  if (data.examples.size() > 0) return data;
  const SupervisedCounts& c = data.counts;
  const std::string name = files.files.empty() ? "no files" : files.files.front().string();
  if (c.rows.read + c.rows.skipped == 0) fail(ErrorKind::data, name, ": holds no rows");
  fail(ErrorKind::data, name, ": none of ", c.rows.read + c.rows.skipped,
       " rows gives a training example: ", c.rows.skipped, " skipped, ", c.dropped_long,
       " longer than data.max_length = ", settings.max_length, ", ", c.dropped_masked,
       " without a trained token",
       c.rows.first_problem.empty() ? "" : "; the first problem: " + c.rows.first_problem);
}

std::string show_example(const Tokenizer& tokenizer, const ExampleView& example) {
  std::string out;
  bool trained = false;
  std::vector<int32_t> before;  // all tokens so far: decoding depends on what stands in front
  const auto flush = [&](size_t begin, size_t end) {
    const size_t known = tokenizer.decode(before).size();
    before.insert(before.end(), example.tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                  example.tokens.begin() + static_cast<std::ptrdiff_t>(end));
    out += tokenizer.decode(before).substr(known);
  };
  size_t begin = 0;
  for (size_t i = 0; i <= example.tokens.size(); ++i) {
    const bool end = i == example.tokens.size();
    const bool special =
        !end && (tokenizer.bos() == example.tokens[i] || tokenizer.eos() == example.tokens[i]);
    const bool turn = end ? trained : (example.weight(i) > 0) != trained;
    if (!end && !special && !turn) continue;
    flush(begin, i);
    begin = i;
    if (turn) {
      out += trained ? "]]" : "[[";
      trained = !trained;
    }
    if (!special) continue;
    out += tokenizer.piece(example.tokens[i]);
    before.push_back(example.tokens[i]);
    begin = i + 1;
  }
  return out;
}

std::string report(const Tokenizer& tokenizer, const SupervisedData& data) {
  const SupervisedCounts& c = data.counts;
  char share[32];
  std::snprintf(share, sizeof share, "%.1f %%",
                100.0 * static_cast<double>(c.trained_tokens) / static_cast<double>(c.tokens));
  std::string out = str(
      "data: ", data.examples.size(), " examples of ", c.rows.read, " rows; ", share, " of ",
      c.tokens, " tokens are trained; ", c.trained_ends, " examples end their answer with EOS; ",
      c.cut, " cut at max_length; dropped: ", c.dropped_long, " too long, ", c.dropped_masked,
      " without a trained token, ", c.rows.skipped, " bad rows\n");
  if (c.rows.skipped > 0) out += str("the first bad row: ", c.rows.first_problem, "\n");
  out += "the first example, what is trained between [[ and ]]:\n";
  std::istringstream lines(show_example(tokenizer, data.examples[0]));
  for (std::string line; std::getline(lines, line);) out += "  " + printable(line, 2000) + "\n";
  return out;
}

}  // namespace mora
