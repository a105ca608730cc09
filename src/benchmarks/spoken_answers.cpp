#include "benchmarks/spoken_answers.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "text/template_strings.hpp"

namespace mora::benchmarks {

namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

// The text of one match of [-+]?[.]?[\d]+(?:,\d\d\d)*[\.]?\d*(?:[eE][-+]?\d+)?[%]*, taken apart.
struct WrittenNumber {
  size_t end = 0;      // in the text that was searched
  std::string digits;  // without sign, commas and percent signs
  bool negative = false;
  size_t percents = 0;
};

class NumberScanner {
 public:
  explicit NumberScanner(std::string_view text) : text_(text) {}

  std::optional<WrittenNumber> next() {
    for (; at_ < text_.size(); ++at_) {
      if (auto found = match(at_)) {
        at_ = found->end;
        return found;
      }
    }
    return std::nullopt;
  }

 private:
  bool digit(size_t i) const { return i < text_.size() && text_[i] >= '0' && text_[i] <= '9'; }
  bool is(size_t i, char c) const { return i < text_.size() && text_[i] == c; }

  size_t take(size_t from, size_t to, std::string& into) const {
    into += text_.substr(from, to - from);
    return to;
  }
  size_t take_digits(size_t i, std::string& into) const {
    const size_t begin = i;
    while (digit(i)) ++i;
    return take(begin, i, into);
  }

  std::optional<WrittenNumber> match(size_t begin) const {
    WrittenNumber n;
    size_t i = begin;
    if (is(i, '-') || is(i, '+')) n.negative = text_[i++] == '-';
    if (is(i, '.')) i = take(i, i + 1, n.digits);
    if (!digit(i)) return std::nullopt;
    i = take_digits(i, n.digits);
    while (is(i, ',') && digit(i + 1) && digit(i + 2) && digit(i + 3))
      i = take(i + 1, i + 4, n.digits);
    if (is(i, '.')) i = take(i, i + 1, n.digits);
    i = take_digits(i, n.digits);
    const size_t sign = i + 1 + (is(i + 1, '-') || is(i + 1, '+') ? 1 : 0);
    if ((is(i, 'e') || is(i, 'E')) && digit(sign)) {
      i = take(i, sign, n.digits);
      i = take_digits(i, n.digits);
    }
    while (is(i, '%')) ++i, ++n.percents;
    n.end = i;
    return n;
  }

  std::string_view text_;
  size_t at_ = 0;
};

// As Python's eval() reads it: a decimal integer does not begin with 0, one point at most.
double value_of(const WrittenNumber& n) {
  const std::string& digits = n.digits;
  const bool integer = digits.find_first_of(".eE") == digits.npos;
  if (integer && digits.front() == '0' && digits.find_first_not_of('0') != digits.npos)
    return kInfinite;
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (end != digits.data() + digits.size()) return kInfinite;
  if (error == std::errc::result_out_of_range) {
    const size_t exponent = digits.find_first_of("eE");
    value = exponent != digits.npos && digits[exponent + 1] == '-' ? 0 : kInfinite;
  }
  if (n.negative) value = -value;
  for (size_t i = 0; i < n.percents; ++i) value /= 100;
  return value;
}

bool close(double a, double b) {
  constexpr double kAbsolute = 1e-2, kRelative = 1e-9;  // math.isclose(a, b, abs_tol=1e-2)
  if (a == b) return true;
  if (std::isinf(a) || std::isinf(b)) return false;
  return std::fabs(a - b) <= std::max(kRelative * std::max(std::fabs(a), std::fabs(b)), kAbsolute);
}

}  // namespace

std::vector<double> numbers_in(std::string_view answer) {
  NumberScanner scanner(jinja::strip(answer.substr(0, answer.find('\n')), jinja::Side::both));
  std::vector<double> numbers;
  while (const auto number = scanner.next()) numbers.push_back(value_of(*number));
  return numbers;
}

bool numbers_agree(std::string_view answer, std::string_view reference) {
  const std::vector<double> expected = numbers_in(reference);
  return !expected.empty() && std::ranges::any_of(numbers_in(answer), [&](double number) {
    return close(number, expected.front());
  });
}

namespace {

size_t end_of_word(std::string_view text, size_t at) {
  while (at < text.size() && jinja::leading_space(text.substr(at)) == 0) ++at;
  return at;
}

size_t end_of_space(std::string_view text, size_t at) {
  while (const size_t n = jinja::leading_space(text.substr(at))) at += n;
  return at;
}

}  // namespace

std::vector<Entity> entities_in(std::string_view answer) {
  std::vector<Entity> entities;
  size_t at = end_of_space(answer, 0);
  while (at < answer.size()) {
    const size_t space = end_of_word(answer, at), next = end_of_space(answer, space);
    const size_t end = end_of_word(answer, next);
    const size_t close = answer.substr(0, end).rfind(')');
    const bool found = next > space && answer.substr(next).starts_with('(') &&
                       close != answer.npos && close > next + 1;
    if (!found) {
      at = next;
      continue;
    }
    // The reference takes one character of white space from the name.
    const size_t last = jinja::trailing_space(answer.substr(0, next));
    Entity entity{std::string(answer.substr(at, next - last - at)),
                  std::string(answer.substr(next + 1, close - next - 1))};
    if (std::ranges::find(entities, entity) == entities.end())
      entities.push_back(std::move(entity));
    at = end_of_space(answer, close + 1);
  }
  return entities;
}

double entity_f1(const std::vector<Entity>& gold, const std::vector<Entity>& predicted) {
  size_t correct = 0;
  for (const Entity& x : gold) {
    for (const Entity& y : predicted) {
      const bool name = x.name == y.name, type = x.type == y.type;
      correct += (name ? 1u : 0u) + (type ? 1u : 0u);
      if (name || type) break;
    }
  }
  if (correct == 0) return 0;
  const double precision = static_cast<double>(correct) / static_cast<double>(2 * predicted.size());
  const double recall = static_cast<double>(correct) / static_cast<double>(2 * gold.size());
  return 2 * (precision * recall) / (precision + recall);
}

}  // namespace mora::benchmarks
