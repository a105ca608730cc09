// White space is the set of str.isspace; letters are ASCII only, and other text is refused where
// case or repr would need the Unicode tables.
#include "text/template_strings.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

namespace mora::jinja {

namespace {

size_t character_bytes(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  const size_t length = lead < 0xC2 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 1;
  if (length > text.size()) return 1;
  for (size_t i = 1; i < length; ++i) {
    if ((static_cast<uint8_t>(text[i]) & 0xC0) != 0x80) return 1;
  }
  return length;
}

bool is_space(std::string_view c) {
  static constexpr std::array<std::string_view, 19> kWide = {
      "\u0085", "\u00A0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003",
      "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200A",
      "\u2028", "\u2029", "\u202F", "\u205F", "\u3000"};
  if (c.size() > 1) return std::ranges::find(kWide, c) != kWide.end();
  return c == " " || (c[0] >= '\t' && c[0] <= '\r') || (c[0] >= 0x1C && c[0] <= 0x1F);
}

bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}
bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}
char upper(char c) {
  return is_lower(c) ? static_cast<char>(c - 'a' + 'A') : c;
}
char lower(char c) {
  return is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c;
}

std::string_view last_character(std::string_view text) {
  for (size_t n = std::min<size_t>(4, text.size()); n > 1; --n) {
    const std::string_view tail = text.substr(text.size() - n);
    if (character_bytes(tail) == n) return tail;
  }
  return text.substr(text.size() - 1);
}

}  // namespace

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> result;
  while (!text.empty()) {
    result.push_back(text.substr(0, character_bytes(text)));
    text.remove_prefix(result.back().size());
  }
  return result;
}

size_t count_characters(std::string_view text) {
  size_t count = 0;
  for (; !text.empty(); ++count) text.remove_prefix(character_bytes(text));
  return count;
}

size_t leading_space(std::string_view text) {
  if (text.empty()) return 0;
  const std::string_view c = text.substr(0, character_bytes(text));
  return is_space(c) ? c.size() : 0;
}

size_t trailing_space(std::string_view text) {
  if (text.empty()) return 0;
  const std::string_view c = last_character(text);
  return is_space(c) ? c.size() : 0;
}

std::string_view strip(std::string_view text, Side side, const std::string* unwanted) {
  std::vector<std::string_view> set;
  if (unwanted) set = characters(*unwanted);
  const auto goes = [&](std::string_view c) {
    return unwanted ? std::ranges::find(set, c) != set.end() : is_space(c);
  };
  while (side != Side::right && !text.empty() && goes(text.substr(0, character_bytes(text))))
    text.remove_prefix(character_bytes(text));
  while (side != Side::left && !text.empty() && goes(last_character(text)))
    text.remove_suffix(last_character(text).size());
  return text;
}

size_t find_part(std::string_view text, std::string_view part) {
  const void* at = ::memmem(text.data(), text.size(), part.data(), part.size());
  return at == nullptr ? std::string_view::npos
                       : static_cast<size_t>(static_cast<const char*>(at) - text.data());
}

namespace {

std::vector<std::string> split_at_spaces(std::string_view text, int64_t most) {
  std::vector<std::string> parts;
  for (text = strip(text, Side::left); !text.empty(); text = strip(text, Side::left)) {
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.emplace_back(text);
      return parts;
    }
    size_t n = 0;
    while (n < text.size() && leading_space(text.substr(n)) == 0)
      n += character_bytes(text.substr(n));
    parts.emplace_back(text.substr(0, n));
    text.remove_prefix(n);
  }
  return parts;
}

}  // namespace

std::vector<std::string> split(std::string_view text, const std::string* separator, int64_t most) {
  if (!separator) return split_at_spaces(text, most);
  std::vector<std::string> parts;
  for (size_t at = find_part(text, *separator);
       at != std::string_view::npos && static_cast<int64_t>(parts.size()) != most;
       at = find_part(text, *separator)) {
    parts.emplace_back(text.substr(0, at));
    text.remove_prefix(at + separator->size());
  }
  parts.emplace_back(text);
  return parts;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t most,
                    size_t limit) {
  std::string out;
  for (int64_t done = 0; (most < 0 || done < most) && out.size() <= limit; ++done) {
    const size_t at = find_part(text, from);
    if (at == std::string_view::npos) break;
    out += text.substr(0, at);
    out += to;
    text.remove_prefix(at + from.size());
    if (!from.empty()) continue;
    if (text.empty()) break;  // Python puts `to` around every character
    const size_t n = character_bytes(text);
    out += text.substr(0, n);
    text.remove_prefix(n);
  }
  return out += text;
}

bool change_case(std::string_view text, Case to, std::string& result) {
  if (std::ranges::any_of(text, [](char c) { return static_cast<uint8_t>(c) > 0x7F; }))
    return false;
  result.clear();
  bool start = true;  // of a word, or of the text
  for (const char c : text) {
    const bool up = to == Case::upper || (to != Case::lower && start);
    result += up ? upper(c) : lower(c);
    if (to == Case::title) start = !is_upper(c) && !is_lower(c);
    if (to == Case::capitalize) start = false;
    if (to == Case::words)
      start = is_space({&c, 1}) || std::string_view("-({[<").find(c) != std::string_view::npos;
  }
  return true;
}

std::string python_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 400> buffer{};
  const double size = std::fabs(value);
  const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
  const auto end = std::to_chars(buffer.begin(), buffer.end(), value,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific)
                       .ptr;
  std::string text(buffer.begin(), end);
  if (plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

bool python_repr(std::string_view text, std::string& result) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  const bool single = text.find('\'') != std::string_view::npos;
  const char quote = single && text.find('"') == std::string_view::npos ? '"' : '\'';
  result = quote;
  for (const char c : text) {
    const auto b = static_cast<uint8_t>(c);
    if (b > 0x7F) return false;
    if (c == quote || c == '\\') {
      result += {'\\', c};
    } else if (c == '\n' || c == '\r' || c == '\t') {
      result += {'\\', c == '\n' ? 'n' : c == '\r' ? 'r' : 't'};
    } else if (b < 0x20 || b == 0x7F) {
      result += {'\\', 'x', kDigits[b >> 4], kDigits[b & 15]};
    } else {
      result += c;
    }
  }
  result += quote;
  return true;
}

std::string json_string(std::string_view text) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  static constexpr std::string_view kPlain = "\"\\\b\f\n\r\t", kLetters = "\"\\bfnrt";
  std::string out = "\"";
  for (const char c : text) {
    const size_t at = kPlain.find(c);
    const auto b = static_cast<uint8_t>(c);
    if (at != std::string_view::npos) {
      out += {'\\', kLetters[at]};
    } else if (b < 0x20) {
      out += {'\\', 'u', '0', '0', kDigits[b >> 4], kDigits[b & 15]};
    } else {
      out += c;
    }
  }
  return out += '"';
}

}  // namespace mora::jinja
