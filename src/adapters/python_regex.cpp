// PCRE2's interpreter: patterns are run a few hundred times on short names, compiled code would not
// pay.
#include "adapters/python_regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "mora/core/error.hpp"
#include "mora/io/text.hpp"

namespace mora::adapters {

namespace {

constexpr size_t kMaxPatternBytes = 1 << 14;
constexpr uint32_t kMatchSteps = 100'000;  // a name of a module needs a few hundred
constexpr uint32_t kHeapLimitKilobytes = 1 << 14;

bool is_letter_or_zero(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '0';
}

// Finds what PCRE2 would read differently from Python.
class SyntaxCheck {
 public:
  explicit SyntaxCheck(std::string_view pattern) : pattern_(pattern) {}

  // The construct that is refused, or "".
  std::string_view fault() {
    for (; at_ < pattern_.size() && fault_.empty(); ++at_) {
      switch (pattern_[at_]) {
        case '\\':
          escape("AbBdDsSwWZ");
          break;
        case '[':
          character_class();
          break;
        case '(':
          group();
          break;
        case '{':
          repetition();
          break;
        default:
          break;
      }
    }
    return fault_;
  }

 private:
  bool starts_with(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  void refuse(size_t bytes) { fault_ = pattern_.substr(at_, bytes); }

  // "{,3}" and "{2, 3}": counts for the one, text for the other.
  void repetition() {
    const size_t end = pattern_.find_first_not_of("0123456789, ", at_ + 1);
    const std::string_view counts = pattern_.substr(at_, end == pattern_.npos ? end : end - at_);
    if (counts.starts_with("{,") || counts.find(' ') != counts.npos) refuse(counts.size() + 1);
  }

  void escape(std::string_view letters) {
    const char next = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '0';
    if (is_letter_or_zero(next) && letters.find(next) == letters.npos) return refuse(2);
    ++at_;
  }

  void character_class() {
    const size_t begin = at_++;
    if (starts_with("^")) ++at_;
    if (starts_with("]")) ++at_;
    for (; at_ < pattern_.size() && !starts_with("]") && fault_.empty(); ++at_) {
      if (starts_with("[:") || starts_with("[.") || starts_with("[=")) refuse(2);
      if (starts_with("\\")) escape("bdDsSwW");
    }
    if (at_ >= pattern_.size() && fault_.empty()) fault_ = pattern_.substr(begin, 1);
  }

  // Flags for all of a pattern stand at its beginning, as Python asks since 3.11.
  void group() {
    if (starts_with("(*")) return refuse(2);
    if (!starts_with("(?")) return;
    for (const char* fine : {"(?:", "(?=", "(?!", "(?>", "(?#", "(?<=", "(?<!", "(?P<", "(?P="}) {
      if (starts_with(fine)) return;
    }
    size_t end = at_ + 2;
    while (end < pattern_.size() &&
           std::string_view("ims").find(pattern_[end]) != std::string::npos)
      ++end;
    const char last = end < pattern_.size() && end > at_ + 2 ? pattern_[end] : '\0';
    if (last != ':' && !(last == ')' && at_ == 0)) refuse(end - at_ + 1);
  }

  std::string_view pattern_, fault_;
  size_t at_ = 0;
};

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

[[noreturn]] void refuse(std::string_view pattern, const std::string& problem) {
  fail(ErrorKind::data, "the regular expression \"", printable(pattern), "\" ", problem);
}

}  // namespace

struct PythonRegex::Code {
  pcre2_code* code = nullptr;

  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

struct PythonRegex::Match {
  pcre2_match_data* data;
  pcre2_match_context* context = pcre2_match_context_create(nullptr);

  explicit Match(const Code& code)
      : data(pcre2_match_data_create_from_pattern(code.code, nullptr)) {
    if (data == nullptr || context == nullptr)
      fail(ErrorKind::memory, "not enough memory for regular expressions");
    pcre2_set_match_limit(context, kMatchSteps);
    pcre2_set_heap_limit(context, kHeapLimitKilobytes);
  }
  Match(const Match&) = delete;
  Match& operator=(const Match&) = delete;
  ~Match() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
};

PythonRegex::PythonRegex(std::string_view pattern) : pattern_(pattern) {
  if (pattern.size() > kMaxPatternBytes)
    refuse(pattern, str("is longer than ", kMaxPatternBytes, " bytes"));
  const std::string_view fault = SyntaxCheck(pattern).fault();
  if (!fault.empty()) {
    refuse(pattern,
           str("holds \"", printable(fault), "\", which is not supported in names of modules"));
  }
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  auto code = std::make_shared<Code>();
  int error = 0;
  PCRE2_SIZE at = 0;
  code->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, context.get());
  if (code->code == nullptr)
    refuse(pattern, str("does not compile: ", message_of(error), " (at byte ", at, ")"));
  code_ = std::move(code);
}

bool PythonRegex::run(std::string_view text, uint32_t options, const Match& into) const {
  const int result = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()),
                                 text.size(), 0, options | PCRE2_ANCHORED, into.data, into.context);
  if (result >= 0) return true;
  if (result == PCRE2_ERROR_NOMATCH) return false;
  refuse(pattern_, str("fails on \"", printable(text), "\": ", message_of(result)));
}

bool PythonRegex::full_match(std::string_view text) const {
  return run(text, PCRE2_ENDANCHORED, Match(*code_));
}

bool PythonRegex::match(std::string_view text) const {
  return run(text, 0, Match(*code_));
}

std::optional<std::string> PythonRegex::group(std::string_view text, const char* name) const {
  const Match found(*code_);
  if (!run(text, 0, found)) return std::nullopt;
  PCRE2_UCHAR* value = nullptr;
  PCRE2_SIZE size = 0;
  if (pcre2_substring_get_byname(found.data, reinterpret_cast<PCRE2_SPTR>(name), &value, &size) !=
      0)
    return std::nullopt;
  std::string copy(reinterpret_cast<const char*>(value), size);
  pcre2_substring_free(value);
  return copy;
}

}  // namespace mora::adapters
