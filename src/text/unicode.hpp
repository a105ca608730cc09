// Unicode for tokenizers: UTF-8 code points, character classes, case and normal forms.
//
// Invariant: every string that a function here returns is valid UTF-8. Classes, case and normal
// forms are ICU's; docs/tokenizers.md says which Unicode versions meet.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mora {

// The bytes as UTF-8: each maximal part that is not UTF-8 becomes one U+FFFD, as Python and Rust
// replace it.
std::string to_valid_utf8(std::string_view bytes);

// The bytes of the UTF-8 character that `bytes` (not empty) begins with; 0 if there is none.
size_t utf8_character_bytes(std::string_view bytes);

// Of valid UTF-8: the bytes of the code point that begins at `text[at]`.
inline size_t code_point_bytes(std::string_view text, size_t at) {
  const auto lead = static_cast<uint8_t>(text[at]);
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// Of valid UTF-8: the code point at `at`, and `at` moved behind it.
inline char32_t next_code_point(std::string_view text, size_t& at) {
  const size_t length = code_point_bytes(text, at);
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[at + i]); };
  char32_t c = length == 1 ? byte(0) : byte(0) & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) c = c << 6 | (byte(i) & 0x3Fu);
  at += length;
  return c;
}

// Of valid UTF-8: where the code point before `at` (> 0) begins.
inline size_t previous_code_point(std::string_view text, size_t at) {
  do {
    --at;
  } while ((static_cast<uint8_t>(text[at]) & 0xC0) == 0x80);
  return at;
}

void append_utf8(std::string& out, char32_t c);

// The classes of the reference (the `tokenizers` library).
bool is_white_space(char32_t c);  // White_Space
bool is_word(char32_t c);         // \w of UTS 18: Alphabetic, M, Nd, Pc, Join_Control
bool is_numeric(char32_t c);      // Nd, Nl, No
bool is_punctuation(char32_t c);  // P, and the ASCII punctuation that Unicode calls symbols

std::string to_lower_case(std::string_view text);  // character by character, without context

enum class NormalForm { nfc, nfd, nfkc, nfkd };

std::string normal_form(NormalForm form, std::string_view text);

}  // namespace mora
