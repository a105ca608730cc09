// Text that came from outside: checking it, and showing it without letting it drive a terminal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mora {

// True if the bytes are UTF-8 without overlong forms, surrogates or values above U+10FFFF.
bool is_valid_utf8(std::string_view bytes);
size_t valid_utf8_bytes(std::string_view bytes);  // as many from the front

// The text with control characters (C0, DEL, C1) and bytes that are not UTF-8 written as \n, \t,
// \xNN, and cut with
// "..." after max_bytes: every name, key or value from a file goes through this on its way into a
// message.
std::string printable(std::string_view text, size_t max_bytes = 200);

// The order in which people count: "layers.2" before "layers.10".
bool counts_before(std::string_view a, std::string_view b);

}  // namespace mora
