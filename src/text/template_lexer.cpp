// Splits a template as Jinja 2's lexer does. Bracket depth decides where a tag ends, so that "}}"
// inside a dictionary is not an end.
#include <array>

#include "mora/io/text.hpp"
#include "text/template_strings.hpp"
#include "text/template_syntax.hpp"

namespace mora::jinja {

namespace {

using Kind = Token::Kind;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

std::string with_plain_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

void append_utf8(std::string& out, uint32_t c) {
  const auto byte = [&](uint32_t b) { out += static_cast<char>(b); };
  if (c < 0x80) return byte(c);
  if (c < 0x800) return byte(0xC0 | c >> 6), byte(0x80 | (c & 63));
  if (c < 0x10000) {
    return byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63));
  }
  byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 63)), byte(0x80 | (c >> 6 & 63));
  byte(0x80 | (c & 63));
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& name)
      : source_(with_plain_newlines(source)), name_(name) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) data();
    push(Kind::end, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool starts(std::string_view text) const { return rest().starts_with(text); }
  void push(Kind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }
  [[noreturn]] void reject(std::string_view problem) const {
    fail(ErrorKind::data, name_, ": line ", line_, ": ", problem);
  }

  void advance(size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) line_ += source_[at_ + i] == '\n';
    if (bytes > 0) line_start_ = source_[at_ + bytes - 1] == '\n';
    at_ += bytes;
  }
  void skip_spaces() {
    for (size_t n = leading_space(rest()); n > 0; n = leading_space(rest())) advance(n);
  }

  void data();
  void comment();
  void tag(std::string_view end);
  void end_of_tag(std::string_view end);
  void token();
  void number();
  void string();
  std::string unescaped(std::string_view raw) const;
  void code_point(std::string_view raw, size_t& i, std::string& out) const;

  std::string source_;
  const std::string& name_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_start_ = true;  // what was read last ends a line
  std::string brackets_;
  std::vector<Token> tokens_;
};

// Text up to the next tag, and that tag.
void Lexer::data() {
  const std::string_view all = rest();
  size_t n = all.find('{');
  while (
      n != std::string_view::npos &&
      (n + 1 == all.size() || std::string_view("{%#").find(all[n + 1]) == std::string_view::npos))
    n = all.find('{', n + 1);
  std::string_view text = all.substr(0, n);
  const bool more = n != std::string_view::npos;
  const char kind = more ? all[n + 1] : ' ', sign = more && n + 2 < all.size() ? all[n + 2] : ' ';
  if (sign == '-') {
    text = strip(text, Side::right);
  } else if (more && sign != '+' && kind != '{') {
    const size_t line = text.rfind('\n') + 1;  // 0 where there is none
    if ((line > 0 || line_start_) && strip(text.substr(line), Side::left).empty())
      text = text.substr(0, line);
  }
  if (!text.empty()) push(Kind::data, std::string(text));
  advance(more ? n + 2 : all.size());
  if (!more) return;
  if (sign == '-' || sign == '+') advance(1);
  if (kind == '#') return comment();
  push(kind == '%' ? Kind::begin_block : Kind::begin_value, "");
  tag(kind == '%' ? "%}" : "}}");
}

void Lexer::comment() {
  const size_t n = rest().find("#}");
  if (n == std::string_view::npos) reject("a comment has no end; expected `#}`");
  const char sign = n > 0 ? rest()[n - 1] : ' ';
  advance(n + 2);
  if (sign == '-') return skip_spaces();
  if (sign != '+' && starts("\n")) advance(1);
}

void Lexer::tag(std::string_view end) {
  for (;;) {
    skip_spaces();
    if (at_ == source_.size()) reject(str("a tag has no end; expected `", end, "`"));
    const bool signed_end =
        (starts("-") || (starts("+") && end == "%}")) && rest().substr(1).starts_with(end);
    if (brackets_.empty() && (signed_end || starts(end))) return end_of_tag(end);
    token();
  }
}

void Lexer::end_of_tag(std::string_view end) {
  push(end == "%}" ? Kind::end_block : Kind::end_value, "");
  const char sign = starts("-") ? '-' : starts("+") ? '+' : ' ';
  advance(end.size() + (sign != ' '));
  if (sign == '-') return skip_spaces();
  if (end == "%}" && sign != '+' && starts("\n")) advance(1);
}

void Lexer::token() {
  static constexpr std::array<std::string_view, 26> kOperators = {
      "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
      "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
  const char c = source_[at_];
  if (is_name_start(c)) {
    size_t n = 1;
    while (n < rest().size() && (is_name_start(rest()[n]) || is_digit(rest()[n]))) ++n;
    push(Kind::name, std::string(rest().substr(0, n)));
    return advance(n);
  }
  if (is_digit(c)) return number();
  if (c == '\'' || c == '"') return string();
  for (const std::string_view op : kOperators) {
    if (!starts(op)) continue;
    const size_t open = std::string_view("([{").find(c), close = std::string_view(")]}").find(c);
    if (open != std::string_view::npos) brackets_ += ")]}"[open];
    if (close != std::string_view::npos) {
      if (brackets_.empty() || brackets_.back() != c) reject(str("unexpected `", op, "`"));
      brackets_.pop_back();
    }
    push(Kind::op, std::string(op));
    return advance(op.size());
  }
  reject(str("unexpected `", printable(rest().substr(0, 1)), "`"));
}

void Lexer::number() {
  size_t n = 0;
  const std::string_view all = rest();
  const auto digits = [&] {
    while (n < all.size() && is_digit(all[n])) ++n;
  };
  digits();
  Kind kind = Kind::integer;
  const bool member = !tokens_.empty() && tokens_.back().text == ".";
  if (!member && n + 1 < all.size() && all[n] == '.' && is_digit(all[n + 1])) {
    kind = Kind::real;
    ++n;
    digits();
  }
  if (n < all.size() && is_name_start(all[n]))
    fail_unsupported(name_, line_, std::string(all.substr(0, n + 1)) + "...");
  push(kind, std::string(all.substr(0, n)));
  advance(n);
}

void Lexer::string() {
  const std::string_view all = rest();
  size_t n = 1;
  while (n < all.size() && all[n] != all[0]) n += all[n] == '\\' ? 2 : 1;
  if (n >= all.size()) reject("a string has no end");
  push(Kind::text, unescaped(all.substr(1, n - 1)));
  advance(n + 1);
}

std::string Lexer::unescaped(std::string_view raw) const {
  static constexpr std::string_view kLetters = "ntrabfv\\'\"", kMeanings = "\n\t\r\a\b\f\v\\'\"";
  std::string out;
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] != '\\') {
      out += raw[i];
      continue;
    }
    const char c = raw[++i];
    const size_t letter = kLetters.find(c);
    if (letter != std::string_view::npos) {
      out += kMeanings[letter];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      code_point(raw, i, out);
    } else if (c == 'N' || is_digit(c)) {
      fail_unsupported(name_, line_, str("\\", c));
    } else if (c != '\n') {
      out += {'\\', c};
    }
  }
  return out;
}

void Lexer::code_point(std::string_view raw, size_t& i, std::string& out) const {
  const size_t digits = raw[i] == 'x' ? 2 : raw[i] == 'u' ? 4 : 8;
  uint32_t value = 0;
  for (size_t k = 1; k <= digits; ++k) {
    const char c = i + k < raw.size() ? raw[i + k] : ' ';
    const size_t digit = std::string_view("0123456789abcdefABCDEF").find(c);
    if (digit == std::string_view::npos) reject("a character's number in a string is cut off");
    value = value * 16 + static_cast<uint32_t>(digit < 16 ? digit : digit - 6);
  }
  if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
    reject("a string names a character that does not exist");
  append_utf8(out, value);
  i += digits;
}

}  // namespace

std::vector<Token> tokenize(std::string_view source, const std::string& name) {
  return Lexer(source, name).run();
}

}  // namespace mora::jinja
