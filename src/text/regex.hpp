// A regular expression of a tokenizer, by PCRE2 with its just-in-time compiler.
//
// Invariant: a Regex is immutable, so threads share it; what a match writes lies in the caller's
// RegexScratch.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace mora {

// What matching needs besides the expression; for one thread at a time.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(RegexScratch&&) noexcept;

 private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state_;
};

class Regex {
 public:
  // A pattern in the syntax of tokenizer.json (Oniguruma's, Ruby flavour). Error(data) where it
  // does not compile or uses what is not supported.
  explicit Regex(std::string_view pattern);

  // Calls found(begin, end) for each match from left to right, in bytes, as Oniguruma iterates: an
  // empty match counts unless it touches the match before it. The text is valid UTF-8. Error(data)
  // where a match would take more steps or memory than a text of this length may.
  void find_all(std::string_view text, RegexScratch& scratch,
                const std::function<void(size_t begin, size_t end)>& found) const;

 private:
  struct Code;
  std::string pattern_;
  std::shared_ptr<const Code> code_;
};

}  // namespace mora
