// Rows are collected to a few megabytes, formatted and encoded all at once, and the results are
// joined in order.
#include "mora/data/supervised.hpp"

#include <algorithm>

#include "data/notes.hpp"
#include "mora/core/error.hpp"
#include "mora/core/parallel.hpp"
#include "mora/data/token_cache.hpp"
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
            const SupervisedSettings& settings, BadRows bad_rows, TokenWriter& out)
      : tokenizer_(tokenizer),
        format_(format),
        settings_(settings),
        bad_rows_(bad_rows),
        out_(out) {}

  bool full() const { return settings_.max_samples > 0 && taken_ >= settings_.max_samples; }

  void add(Conversation conversation) {
    if (full()) return;
    ++taken_;
    for (const Message& m : conversation.messages) bytes_ += m.content.size();
    bytes_ += conversation.tokenized.tokens.size() * sizeof(int32_t);
    rows_.push_back(std::move(conversation));
    if (bytes_ >= kBatchBytes) encode();
  }

  SupervisedCounts finish(const RowCounts& rows) {
    encode();
    counts_.rows.read = taken_;
    counts_.rows.skipped += rows.skipped;
    if (rows.skipped > 0) counts_.rows.first_problem = rows.first_problem;
    return counts_;
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
        if (row.tokenized.tokens.empty()) {
          result.example = tokenize_marked(tokenizer_, format_(row), settings_.train_on);
        } else {
          result.example = row.tokenized;
          result.example.weights.front() = 0;
        }
      } catch (const Error& error) {
        result.problem = str(row.place, ": ", error.what());
      }
    });
    for (Result& result : results) take(result);
    rows_.clear();
    bytes_ = 0;
  }

  void take(Result& result) {
    if (!result.problem.empty()) {
      if (bad_rows_ == BadRows::error) fail(ErrorKind::data, result.problem);
      if (counts_.rows.skipped++ == 0) counts_.rows.first_problem = result.problem;
      return;
    }
    Example& e = result.example;
    const auto most = static_cast<size_t>(settings_.max_length);
    const bool too_long = e.tokens.size() > most;
    if (too_long && settings_.too_long == TooLong::drop) {
      ++counts_.dropped_long;
      return;
    }
    if (too_long) {
      e.tokens.resize(most);
      e.weights.resize(most);
    }
    if (std::ranges::none_of(e.weights, [](float w) { return w > 0; })) {
      ++counts_.dropped_masked;
      return;
    }
    if (too_long) ++counts_.cut;
    count_sample(ExampleView(e), tokenizer_.eos(), counts_.samples);
    out_.append(e.tokens, e.weights);
  }

  const Tokenizer& tokenizer_;
  const PromptFormat& format_;
  const SupervisedSettings& settings_;
  BadRows bad_rows_;
  std::vector<Conversation> rows_;
  size_t bytes_ = 0;  // of rows_
  int64_t taken_ = 0;
  TokenWriter& out_;
  SupervisedCounts counts_;
};

}  // namespace

namespace {

// Reads, formats and writes all rows.
SupervisedCounts tokenize_rows(const Tokenizer& tokenizer, const RowFiles& files,
                               const PromptFormat& format, const SupervisedSettings& settings,
                               TokenWriter& out) {
  Collector collector(tokenizer, format, settings, files.bad_rows, out);
  const RowCounts rows =
      read_conversations(files, [&](Conversation c) { collector.add(std::move(c)); });
  const SupervisedCounts c = collector.finish(rows);
  if (c.samples.samples > 0) return c;
  const std::string name = files.files.empty() ? "no files" : files.files.front().string();
  if (c.rows.read + c.rows.skipped == 0) fail(ErrorKind::data, name, ": holds no rows");
  fail(ErrorKind::data, name, ": none of ", c.rows.read + c.rows.skipped,
       " rows gives a training example: ", c.rows.skipped, " skipped, ", c.dropped_long,
       " longer than data.max_length = ", settings.max_length, ", ", c.dropped_masked,
       " without a trained token",
       c.rows.first_problem.empty() ? "" : "; the first problem: " + c.rows.first_problem);
}

std::string counts_text(const SupervisedCounts& c, std::span<const std::filesystem::path> files) {
  return dump_json({{"rows", rows_note(c.rows, files)},
                    {"cut", c.cut},
                    {"dropped_long", c.dropped_long},
                    {"dropped_masked", c.dropped_masked},
                    {"samples", c.samples.samples},
                    {"tokens", c.samples.tokens},
                    {"trained_tokens", c.samples.trained_tokens},
                    {"trained_ends", c.samples.trained_ends}});
}

SupervisedCounts counts_of(const std::string& text, std::span<const std::filesystem::path> files) {
  const std::string source = "the notes of the token cache";
  const Json json = parse_json(text, source);
  const JsonView note(json, source);
  return {.rows = noted_rows(note.at("rows"), files),
          .cut = note.at("cut").integer(),
          .dropped_long = note.at("dropped_long").integer(),
          .dropped_masked = note.at("dropped_masked").integer(),
          .samples = {.samples = note.at("samples").integer(),
                      .tokens = note.at("tokens").integer(),
                      .trained_tokens = note.at("trained_tokens").integer(),
                      .trained_ends = note.at("trained_ends").integer()}};
}

std::string key_of(const Tokenizer& tokenizer, const RowFiles& files, const PromptFormat& format,
                   const SupervisedSettings& settings, const TokenCache& cache) {
  TokenKey key("rows", cache.tokenizer, tokenizer);
  key.add("format", cache.format);
  // What it writes today: a template may tell the date.
  const Conversation probe{{{.role = std::string(kUser), .content = "What?"},
                            {.role = std::string(kAssistant), .content = "That."}},
                           "",
                           "",
                           {}};
  try {
    key.add("probe", format(probe).text);
  } catch (const Error& e) {
    key.add("no probe", e.what());
  }
  key.add("layout", files.layout);
  for (const std::string& column : files.columns) key.add("column", column);
  key.add("bad_rows", files.bad_rows == BadRows::skip ? "skip" : "error");
  key.add("max_length", str(settings.max_length));
  key.add("too_long", settings.too_long == TooLong::drop ? "drop" : "truncate");
  key.add("train_on", settings.train_on == TrainOn::all ? "all" : "completion");
  key.add("max_samples", str(settings.max_samples));
  key.add_files(files.files);
  return key.hex();
}

}  // namespace

SupervisedData read_supervised(const Tokenizer& tokenizer, const RowFiles& files,
                               const PromptFormat& format, const SupervisedSettings& settings,
                               const TokenCache& cache) {
  const std::string key =
      cache.folder.empty() ? "" : key_of(tokenizer, files, format, settings, cache);
  CachedTokens tokens =
      cached_tokens(cache.folder, key, tokenizer.vocab_size(), [&](TokenWriter& out) {
        return counts_text(tokenize_rows(tokenizer, files, format, settings, out), files.files);
      });
  return {std::move(tokens.data), counts_of(tokens.notes, files.files), std::move(tokens.origin)};
}

std::string report(const Tokenizer& tokenizer, const SupervisedData& data) {
  const SupervisedCounts& c = data.counts;
  std::string out = report_samples(
      tokenizer, c.samples, str("of ", c.rows.read, " rows"),
      str("; ", c.cut, " cut at max_length; dropped: ", c.dropped_long, " too long, ",
          c.dropped_masked, " without a trained token, ", c.rows.skipped, " bad rows"),
      data.examples[0]);
  if (c.rows.skipped > 0) out += str("the first bad row: ", c.rows.first_problem, "\n");
  return out + data.origin;
}

}  // namespace mora
