// Python's string functions on UTF-8, for chat templates. A character is a code point; bytes that
// are not UTF-8 count one by one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mora::jinja {

std::vector<std::string_view> characters(std::string_view text);
size_t count_characters(std::string_view text);

// The length in bytes of the white space character (str.isspace) at the front or the end, or 0.
size_t leading_space(std::string_view text);
size_t trailing_space(std::string_view text);

enum class Side : uint8_t { left, right, both };
// Without the characters of `unwanted` at the chosen sides; nullptr: without white space.
std::string_view strip(std::string_view text, Side side, const std::string* unwanted = nullptr);

// Where `part` begins in the text, npos if nowhere. Unlike std::string_view's, it takes time of the
// sum of both lengths, never of their product.
size_t find_part(std::string_view text, std::string_view part);

// str.split: at white space when `separator` is null; `most` < 0: no limit.
std::vector<std::string> split(std::string_view text, const std::string* separator, int64_t most);
// str.replace; most < 0: all. Ends early, with a longer text, when the result is longer than
// `limit`.
std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t most,
                    size_t limit);

enum class Case : uint8_t { upper, lower, capitalize, title, words };  // words: Jinja's title
// False for text with other than ASCII characters, whose case needs tables that we do not have.
bool change_case(std::string_view text, Case to, std::string& result);

std::string python_float(double value);                        // repr(float)
bool python_repr(std::string_view text, std::string& result);  // false: other than ASCII
std::string json_string(std::string_view text);  // with quotes, as json.dumps(ensure_ascii=False)

}  // namespace mora::jinja
