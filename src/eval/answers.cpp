#include "mora/eval/answers.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <vector>

#include "text/template_strings.hpp"

namespace mora {

namespace {

constexpr std::string_view kMark = "The answer is: ";

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

size_t end_of_digits(std::string_view text, size_t at) {
  while (at < text.size() && is_digit(text[at])) ++at;
  return at;
}

std::string without(std::string_view text, char unwanted) {
  std::string out;
  std::ranges::copy_if(text, std::back_inserter(out), [&](char c) { return c != unwanted; });
  return out;
}

// The first match of [\-+]?\d*[\.,/]?\d+.
std::string_view find_number(std::string_view text) {
  for (size_t begin = 0; begin < text.size(); ++begin) {
    const size_t digits = begin + (text[begin] == '-' || text[begin] == '+' ? 1 : 0);
    const size_t end = end_of_digits(text, digits);
    if (end < text.size() && std::string_view(".,/").find(text[end]) != std::string_view::npos) {
      const size_t last = end_of_digits(text, end + 1);
      if (last > end + 1) return text.substr(begin, last - begin);
    }
    if (end > digits) return text.substr(begin, end - begin);
  }
  return {};
}

// A number as Python's float() reads it; infinite where it is too large.
double to_double(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc::result_out_of_range ? std::numeric_limits<double>::infinity() : value;
}

std::string_view strip(std::string_view text) {
  return jinja::strip(text, jinja::Side::both);
}

// What stands behind the last mark.
std::optional<std::string_view> behind_last(std::string_view text, std::string_view mark) {
  const size_t at = text.rfind(mark);
  if (at == text.npos) return std::nullopt;
  return text.substr(at + mark.size());
}

}  // namespace

std::optional<double> metamath_number(std::string_view completion) {
  const auto answer = behind_last(completion, kMark);
  if (!answer) return std::nullopt;
  const std::string_view found = find_number(*answer);
  if (found.empty()) return std::nullopt;
  const size_t slash = found.find('/');
  double value = 0;
  if (slash == found.npos) {
    value = to_double(without(found, ','));
  } else {
    const std::string_view numerator = found.substr(0, slash),
                           denominator = found.substr(slash + 1);
    if (end_of_digits(numerator, 0) == 0 && find_number(numerator).empty()) return std::nullopt;
    value = to_double(numerator);
    if (denominator != "0") value /= to_double(denominator);
  }
  if (!std::isfinite(value)) return std::nullopt;
  return std::nearbyint(value);
}

std::optional<double> gsm8k_number(std::string_view answer) {
  const auto result = behind_last(answer, "#### ");
  if (!result) return std::nullopt;
  const std::string digits = without(strip(*result), ',');
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return static_cast<double>(value);
}

std::optional<std::string> metamath_answer(std::string_view completion) {
  const auto found = behind_last(completion, kMark);
  if (!found) return std::nullopt;
  std::string_view answer = strip(found->substr(0, found->find(".\n")));
  if (answer.ends_with('.')) answer.remove_suffix(1);
  return std::string(strip(answer));
}

namespace {

constexpr std::string_view kInvalid = "[invalid]";

}  // namespace

std::string harness_strict(std::string_view completion) {
  constexpr std::string_view kResult = "#### ";
  for (size_t at = completion.find(kResult); at != completion.npos;
       at = completion.find(kResult, at + 1)) {
    const size_t begin = at + kResult.size();
    size_t end = begin + (completion.substr(begin).starts_with('-') ? 1 : 0);
    const size_t digits = end;
    while (end < completion.size() &&
           (is_digit(completion[end]) || completion[end] == '.' || completion[end] == ','))
      ++end;
    if (end > digits) return std::string(completion.substr(begin, end - begin));
  }
  return std::string(kInvalid);
}

std::string harness_flexible(std::string_view completion) {
  const auto in_first = [&](size_t i) {
    return i < completion.size() && (is_digit(completion[i]) || completion[i] == '$' ||
                                     completion[i] == '.' || completion[i] == ',');
  };
  std::string_view last = kInvalid;
  for (size_t at = 0; at < completion.size();) {
    const size_t body = at + (completion[at] == '-' ? 1 : 0);
    size_t end = body;
    while (in_first(end)) ++end;
    if (end < body + 2) end = end_of_digits(completion, body);  // the second alternative
    if (end == body) {
      ++at;
      continue;
    }
    last = completion.substr(at, end - at);
    at = end;
  }
  return std::string(last);
}

namespace {

std::string for_comparison(std::string_view text) {
  std::string out = without(without(text, ','), '$');
  const size_t mark = out.rfind("#### ");
  if (mark != out.npos) out.erase(0, mark + 5);
  const bool line_end = out.ends_with('\n');
  const size_t stop = out.size() - (line_end ? 1 : 0);
  if (stop > 0 && out[stop - 1] == '.') out.erase(stop - 1, 1);
  std::ranges::transform(out, out.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return out;
}

}  // namespace

bool harness_equal(std::string_view prediction, std::string_view reference) {
  return for_comparison(prediction) == for_comparison(reference);
}

// Hendrycks' normalisation, step by step as in his strip_string.
namespace {

std::string replaced(const std::string& text, std::string_view from, std::string_view to) {
  return jinja::replace(text, from, to, -1, std::string::npos);
}

std::vector<std::string> parts(const std::string& text, const std::string& separator) {
  return jinja::split(text, &separator, -1);
}

// The bytes of the first character.
size_t first_character(std::string_view text) {
  size_t n = 1;
  while (n < text.size() && (static_cast<unsigned char>(text[n]) & 0xC0) == 0x80) ++n;
  return n;
}

using Step = std::optional<std::string>;  // nothing: an exception

Step remove_units(const std::string& text) {
  const auto split = parts(text, "\\text{ ");
  if (split.size() > 2) return std::nullopt;
  return split.front();
}

Step fix_square_roots(const std::string& text) {
  const auto split = parts(text, "\\sqrt");
  std::string out = split.front();
  for (size_t i = 1; i < split.size(); ++i) {
    const std::string& rest = split[i];
    if (rest.empty()) return std::nullopt;
    if (rest.front() == '{') {
      out += "\\sqrt" + rest;
      continue;
    }
    const size_t n = first_character(rest);
    out += "\\sqrt{" + rest.substr(0, n) + "}" + rest.substr(n);
  }
  return out;
}

Step fix_fractions(const std::string& text) {
  const auto split = parts(text, "\\frac");
  std::string out = split.front();
  for (size_t i = 1; i < split.size(); ++i) {
    const std::string& rest = split[i];
    if (rest.empty()) return std::nullopt;
    out += "\\frac";
    if (rest.front() == '{') {
      out += rest;
      continue;
    }
    const size_t a = first_character(rest);
    if (a == rest.size()) return text;
    const size_t b = first_character(std::string_view(rest).substr(a));
    const std::string below = rest.substr(a, b), after = rest.substr(a + b);
    out += "{" + rest.substr(0, a) + "}" + (below == "{" ? below : "{" + below + "}") + after;
  }
  return out;
}

// What Python's int() reads: nothing where it raises, else the number as str() writes it.
Step python_integer(std::string_view text) {
  text = strip(text);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty() || !is_digit(text.front()) || !is_digit(text.back())) return std::nullopt;
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool joint = text[i] == '_' && is_digit(text[i + 1]);
    if (!joint && !is_digit(text[i])) return std::nullopt;
    if (!joint) digits += text[i];
  }
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size() - 1));
  return negative && digits != "0" ? "-" + digits : digits;
}

Step fix_slash(const std::string& text) {
  const auto split = parts(text, "/");
  if (split.size() != 2) return text;
  const Step a = python_integer(split[0]), b = python_integer(split[1]);
  if (!a || !b) return std::nullopt;
  if (text != *a + "/" + *b) return text;
  return "\\frac{" + *a + "}{" + *b + "}";
}

}  // namespace

std::optional<std::string> normalise_math(std::string_view answer) {
  std::string text(answer);
  for (const auto& [from, to] :
       std::initializer_list<std::pair<const char*, const char*>>{{"\n", ""},
                                                                  {"\\!", ""},
                                                                  {"\\\\", "\\"},
                                                                  {"tfrac", "frac"},
                                                                  {"dfrac", "frac"},
                                                                  {"\\left", ""},
                                                                  {"\\right", ""},
                                                                  {"^{\\circ}", ""},
                                                                  {"^\\circ", ""},
                                                                  {"\\$", ""}})
    text = replaced(text, from, to);
  Step step = remove_units(text);
  if (!step) return std::nullopt;
  text = replaced(*step, "\\%", "");
  text = replaced(replaced(text, " .", " 0."), "{.", "{0.");
  if (text.empty()) return text;
  if (text.front() == '.') text.insert(0, "0");
  const auto sides = parts(text, "=");
  if (sides.size() == 2 && jinja::count_characters(sides.front()) <= 2) text = sides.back();
  step = fix_square_roots(text);
  if (step) step = fix_fractions(without(*step, ' '));
  if (!step) return std::nullopt;
  return fix_slash(*step == "0.5" ? "\\frac{1}{2}" : *step);
}

bool math_equivalent(std::string_view a, std::string_view b) {
  const auto x = normalise_math(a), y = normalise_math(b);
  return x && y ? *x == *y : a == b;
}

}  // namespace mora
