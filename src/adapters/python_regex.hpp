// Regular expressions as PEFT's configurations have them: the syntax of Python's `re`, matched
// against names of modules.
//
// Invariant: what compiles here means what it means in Python. Constructs that the two would read
// differently, and those that no name of a module needs, are refused.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace mora::adapters {

class PythonRegex {
 public:
  explicit PythonRegex(std::string_view pattern);  // Error(data) quotes the pattern and the fault

  bool full_match(std::string_view text) const;  // re.fullmatch
  bool match(std::string_view text) const;       // re.match: at the beginning

  // The text of a named group after match(); nothing without a match.
  std::optional<std::string> group(std::string_view text, const char* name) const;

 private:
  struct Code;
  struct Match;
  bool run(std::string_view text, uint32_t options, const Match& into) const;

  std::string pattern_;
  std::shared_ptr<const Code> code_;
};

}  // namespace mora::adapters
