// A scan from left to right that copies what both engines read alike and rewrites or refuses the
// rest. It knows no more of the grammar than that needs; PCRE2 finds the syntax errors.
#include "text/regex_syntax.hpp"

#include <algorithm>
#include <cctype>

#include "mora/core/error.hpp"
#include "text/unicode.hpp"

namespace mora {
namespace {

// White space: PCRE2's \s also has U+180E, which Unicode no longer has.
constexpr std::string_view kSpace = R"(\p{Z}\t-\r\x{85})";
// Oniguruma's \w: Unicode's word characters and the fractions and superscripts of Latin-1.
constexpr std::string_view kWord =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string translated() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape();
      } else if (c == '[') {
        out_ += '[';
        ++at_;
        if (peek() == '^') copy(1);
        class_body();
        out_ += ']';
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        interval();
      } else {
        copy(1);
      }
    }
    return out_;
  }

 private:
  char peek(size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }

  void copy(size_t bytes) {
    out_ += in_.substr(at_, bytes);
    at_ += bytes;
  }

  [[noreturn]] void refuse(std::string_view what) const {
    fail(ErrorKind::data, "byte ", at_, ": ", what, " is not supported");
  }

  // `name` of \p{name}; `at_` is behind the escape's letter. Categories have one or two letters,
  // and any other name is a script's: PCRE2 refuses what is none.
  void property(char letter) {
    const size_t end = in_.find('}', at_);
    if (peek() != '{' || end == std::string_view::npos) refuse("\\p without {name}");
    const std::string_view name = in_.substr(at_ + 1, end - at_ - 1);
    if (name.empty() || !std::all_of(name.begin(), name.end(), is_letter)) {
      refuse("a property other than a general category or a script");
    }
    out_ += str('\\', letter, '{', name.size() <= 2 ? "" : "sc:", name, '}');
    at_ = end + 1;
  }

  // \xHH below 0x80, \x{H...} and \uHHHH, which are single characters.
  void code_point(char letter) {
    std::string_view digits;
    if (letter == 'x' && peek() == '{') {
      const size_t end = in_.find('}', at_);
      if (end == std::string_view::npos) refuse("\\x{ without }");
      digits = in_.substr(at_ + 1, end - at_ - 1);
      at_ = end + 1;
    } else {
      digits = in_.substr(at_, letter == 'x' ? 2 : 4);
      if (letter == 'x' && (digits.size() != 2 || digits[0] > '7')) refuse("\\x of a single byte");
      at_ += digits.size();
    }
    const auto is_hex = [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; };
    if (digits.empty() || !std::all_of(digits.begin(), digits.end(), is_hex)) {
      refuse("a character code that is not hexadecimal");
    }
    out_ += str("\\x{", digits, '}');
  }

  // An escape that means one character in both places; `at_` is behind the backslash.
  bool character_escape() {
    const char c = peek();
    if (c == 'x' || c == 'u') {
      ++at_;
      code_point(c);
    } else if (c == 'v') {
      ++at_;
      out_ += "\\x0b";
    } else if (c == 'n' || c == 'r' || c == 't' || c == 'f' || c == 'a' || c == 'e') {
      out_ += '\\';
      copy(1);
    } else if (c != '\0' && !is_letter(c) && !is_digit(c) && (c & 0x80) == 0) {
      out_ += '\\';
      copy(1);
    } else {
      return false;
    }
    return true;
  }

  void escape() {
    ++at_;
    if (character_escape()) return;
    const char c = peek();
    ++at_;
    switch (c) {
      case 's':
        out_ += str('[', kSpace, ']');
        return;
      case 'S':
        out_ += str("[^", kSpace, ']');
        return;
      case 'w':
        out_ += str('[', kWord, ']');
        return;
      case 'W':
        out_ += str("[^", kWord, ']');
        return;
      case 'd':
        out_ += "\\p{Nd}";
        return;
      case 'D':
        out_ += "\\P{Nd}";
        return;
      case 'h':
        out_ += "[0-9a-fA-F]";
        return;
      case 'H':
        out_ += "[^0-9a-fA-F]";
        return;
      case 'p':
      case 'P':
        property(c);
        return;
      case 'A':
      case 'z':
      case 'Z':
        out_ += str('\\', c);
        return;
      default:
        --at_;
        refuse(str("the escape \\", c == '\0' ? ' ' : c));
    }
  }

  // An escape that is a set, within a class.
  void class_escape() {
    const char c = peek();
    ++at_;
    switch (c) {
      case 's':
        out_ += kSpace;
        break;
      case 'S':
        out_ += "\\S\\x{180e}";
        break;
      case 'w':
        out_ += kWord;
        break;
      case 'd':
        out_ += "\\p{Nd}";
        break;
      case 'D':
        out_ += "\\P{Nd}";
        break;
      case 'h':
        out_ += "0-9a-fA-F";
        break;
      case 'p':
      case 'P':
        property(c);
        break;
      default:
        --at_;
        refuse(str("the escape \\", c == '\0' ? ' ' : c, " in a character class"));
    }
  }

  // What a hyphen in a character class stands behind: the class's beginning, a character that can
  // begin a range, such a range without its end yet, or what is whole: a range or a set.
  enum class Behind { nothing, character, open_range, whole };

  // Oniguruma takes a hyphen for a range between two characters only; any other one is escaped,
  // since it may stand elsewhere in PCRE2's class. Where a class ends the range, Oniguruma drops
  // the hyphen and the character before it.
  Behind hyphen(Behind behind) {
    const bool before_set =
        peek(1) == '\\' && std::string_view("sSwWdDhHpP").find(peek(2)) != std::string_view::npos;
    const bool makes_range = behind == Behind::character && peek(1) != ']' && !before_set;
    if (makes_range && peek(1) == '[') refuse("a range that ends in a character class");
    out_ += makes_range ? "-" : "\\-";
    ++at_;
    if (makes_range) return Behind::open_range;
    return behind == Behind::open_range ? Behind::whole : Behind::character;
  }

  // Anything else in a character class. A class within a class is its union with the outer one, so
  // its brackets are dropped.
  Behind class_item(Behind behind) {
    if (peek() == '[') {
      if (peek(1) == ':') refuse("a POSIX bracket");
      if (peek(1) == '^') refuse("a negated character class inside a character class");
      ++at_;
      class_body();
      return Behind::whole;
    }
    if (peek() == '&' && peek(1) == '&') refuse("an intersection of character classes");
    if (peek() == '\\') {
      ++at_;
      if (!character_escape()) {
        class_escape();
        return Behind::whole;
      }
    } else {
      copy(code_point_bytes(in_, at_));
    }
    return behind == Behind::open_range ? Behind::whole : Behind::character;
  }

  // The inside of a character class up to and with its "]".
  void class_body() {
    const int depth_limit = 20;
    if (++depth_ > depth_limit) refuse("a character class nested so deeply");
    if (peek() == ']') refuse("an empty character class");
    Behind behind = Behind::nothing;
    while (peek() != ']') {
      if (at_ >= in_.size()) refuse("a character class without an end");
      behind = peek() == '-' ? hyphen(behind) : class_item(behind);
    }
    ++at_;
    --depth_;
  }

  void group() {
    if (peek(1) == '*') refuse("(*");  // verbs exist in PCRE2 only
    if (peek(1) != '?') return copy(1);
    for (const std::string_view start :
         {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?-i:"}) {
      if (in_.substr(at_).starts_with(start)) return copy(start.size());
    }
    // In the middle of a group Ruby lets it reach over the following alternatives as one group.
    if (at_ == 0 && in_.starts_with("(?i)")) return copy(4);
    refuse(in_.substr(at_, 3));
  }

  // {n}, {n,}, {n,m} and {,m}; any other brace is a brace.
  void interval() {
    size_t end = at_ + 1;
    const auto number = [&] {
      const size_t begin = end;
      while (end < in_.size() && is_digit(in_[end])) ++end;
      return in_.substr(begin, end - begin);
    };
    const std::string_view low = number();
    const bool comma = end < in_.size() && in_[end] == ',';
    if (comma) ++end;
    const std::string_view high = comma ? number() : low;
    if (end >= in_.size() || in_[end] != '}' || (low.empty() && high.empty())) {
      out_ += "\\{";
      ++at_;
      return;
    }
    at_ = end + 1;
    out_ += str('{', low.empty() ? "0" : low, comma ? "," : "", comma ? high : "", '}');
    if (peek() == '+') refuse("a quantifier + behind {n,m}");
    if (peek() == '?' && !comma) refuse("a quantifier ? behind {n}");
  }

  std::string_view in_;
  size_t at_ = 0;
  int depth_ = 0;
  std::string out_;
};

}  // namespace

std::string to_pcre2_syntax(std::string_view pattern) {
  return Translator(pattern).translated();
}

}  // namespace mora
