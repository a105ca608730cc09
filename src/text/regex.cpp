// PCRE2, 8 bits, UTF and Unicode properties. Compiled code is used where the processor allows it;
// where its stack is too small for a text, the interpreter, whose memory is the heap's, takes over.
#include "text/regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "mora/core/error.hpp"
#include "mora/io/text.hpp"
#include "text/regex_syntax.hpp"
#include "text/unicode.hpp"

namespace mora {
namespace {

constexpr size_t kMaxPatternBytes = 1 << 16;
constexpr size_t kJitStackBytes = size_t{64} << 20;  // at most; it grows as needed
constexpr uint32_t kHeapLimitKilobytes = 256 << 10;
constexpr uint32_t kMatchSteps = 5'000'000;  // per match; see also steps_for()

// Steps grow with the text, so that one long match is no error and an exponential one is.
uint32_t steps_for(size_t text_bytes) {
  constexpr size_t kMost = 1'000'000'000;
  return static_cast<uint32_t>(std::min(kMatchSteps + 16 * std::min(text_bytes, kMost), kMost));
}

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  bool jit = false;

  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

struct RegexScratch::State {
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr);

  State() {
    if (match == nullptr || context == nullptr || stack == nullptr) {
      fail(ErrorKind::memory, "not enough memory for regular expressions");
    }
    pcre2_jit_stack_assign(context, nullptr, stack);
    pcre2_set_heap_limit(context, kHeapLimitKilobytes);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    pcre2_match_data_free(match);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

RegexScratch::RegexScratch() : state_(std::make_unique<State>()) {}
RegexScratch::~RegexScratch() = default;
RegexScratch::RegexScratch(RegexScratch&&) noexcept = default;

Regex::Regex(std::string_view pattern) : pattern_(pattern) {
  if (pattern.empty()) fail(ErrorKind::data, "empty regular expression");
  if (pattern.size() > kMaxPatternBytes) {
    fail(ErrorKind::data, "regular expression of ", pattern.size(), " bytes; at most ",
         kMaxPatternBytes, " are allowed");
  }
  std::string translated;
  try {
    translated = to_pcre2_syntax(pattern);
  } catch (const Error& error) {
    fail(ErrorKind::data, "regular expression \"", printable(pattern), "\": ", error.what());
  }
  auto code = std::make_shared<Code>();
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE at = 0;
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                             &error, &at, context.get());
  if (code->code == nullptr) {
    fail(ErrorKind::data, "regular expression \"", printable(pattern),
         "\" does not compile: ", message_of(error));
  }
  code->jit = pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE) == 0;
  code_ = std::move(code);
}

void Regex::find_all(std::string_view text, RegexScratch& scratch,
                     const std::function<void(size_t, size_t)>& found) const {
  RegexScratch::State& state = *scratch.state_;
  pcre2_set_match_limit(state.context, steps_for(text.size()));
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(state.match);
  size_t from = 0;
  size_t last_end = std::string_view::npos;
  while (from <= text.size()) {
    int result = PCRE2_ERROR_JIT_STACKLIMIT;
    if (code_->jit) {
      result = pcre2_jit_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                               state.match, state.context);
    }
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
      result = pcre2_match(code_->code, subject, text.size(), from,
                           PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state.match, state.context);
    }
    if (result == PCRE2_ERROR_NOMATCH) return;
    if (result < 0) {
      fail(ErrorKind::data, "regular expression \"", printable(pattern_), "\" on a text of ",
           text.size(), " bytes: ", message_of(result));
    }
    const size_t begin = range[0];
    const size_t end = range[1];
    if (begin == end && end == last_end) {
      if (from >= text.size()) return;
      from += code_point_bytes(text, from);
      continue;
    }
    from = end;
    last_end = end;
    found(begin, end);
  }
}

}  // namespace mora
