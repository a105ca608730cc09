// From the regular expressions of tokenizer.json to PCRE2's.
//
// Invariant: the result means in PCRE2 what the original means in Oniguruma's Ruby syntax, which is
// the reference's; what would mean something else is refused, never passed on.
#pragma once

#include <string>
#include <string_view>

namespace mora {

// For options PCRE2_UTF, PCRE2_UCP and PCRE2_MULTILINE, newline LF. Throws Error(data) with the
// construct that is not supported and its byte in the pattern.
std::string to_pcre2_syntax(std::string_view pattern);

}  // namespace mora
