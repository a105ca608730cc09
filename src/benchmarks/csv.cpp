#include "benchmarks/csv.hpp"

#include "benchmarks/files.hpp"
#include "mora/core/error.hpp"
#include "mora/io/text.hpp"

namespace mora::benchmarks {

namespace {

enum class State : uint8_t { field_begins, in_field, in_quotes, behind_quote };

class CsvReader {
 public:
  CsvReader(std::string name, const CsvRow& row) : name_(std::move(name)), row_(row) {}

  void read(std::string_view text) {
    for (const char c : text) {
      take(c);
      if (c == '\n') ++line_;
    }
    if (state_ == State::in_quotes)
      fail(ErrorKind::data, name_, ":", quoted_from_, ": a field begins with \" and never ends");
  }

 private:
  void take(char c) {
    switch (state_) {
      case State::field_begins:
        if (c == '"') {
          state_ = State::in_quotes;
          quoted_from_ = line_;
          return;
        }
        break;
      case State::in_quotes:
        if (c == '"') {
          state_ = State::behind_quote;
        } else {
          field_ += c;
        }
        return;
      case State::behind_quote:
        if (c == '"') {
          field_ += c;
          state_ = State::in_quotes;
          return;
        }
        break;
      case State::in_field:
        break;
    }
    if (c == '\n') return end_row();
    if (c == ',') return end_field();
    field_ += c;
    state_ = State::in_field;
  }

  void end_field() {
    if (!is_valid_utf8(field_) || field_.find('\0') != std::string::npos)
      fail(ErrorKind::data, name_, ":", begin_, ": not UTF-8 text: \"", printable(field_), '"');
    fields_.push_back(std::move(field_));
    field_.clear();
    state_ = State::field_begins;
  }

  void end_row() {
    const bool empty = fields_.empty() && state_ == State::field_begins;
    if (!empty) {
      end_field();
      row_(begin_, fields_);
    }
    fields_.clear();
    begin_ = line_ + 1;
  }

  std::string name_;
  const CsvRow& row_;
  State state_ = State::field_begins;
  std::string field_;
  std::vector<std::string> fields_;
  int64_t line_ = 1, begin_ = 1, quoted_from_ = 1;
};

}  // namespace

void read_csv(const std::filesystem::path& path, const CsvRow& row) {
  CsvReader(path.string(), row).read(read_text(path));
}

}  // namespace mora::benchmarks
