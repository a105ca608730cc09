// Operators and access to parts of values. Integers are 64 bits: what overflows is refused.
#include <algorithm>
#include <array>
#include <cmath>

#include "mora/io/text.hpp"
#include "text/template_functions.hpp"
#include "text/template_strings.hpp"

namespace mora::jinja {

namespace {

// What Python's types have as methods; those that call_method() knows come first, up to "|".
constexpr std::string_view kTextMethods =
    " strip lstrip rstrip startswith endswith split upper lower title capitalize replace join find "
    "removeprefix removesuffix | casefold center count encode expandtabs format format_map index "
    "isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace "
    "istitle isupper ljust maketrans partition rfind rindex rjust rpartition rsplit splitlines "
    "swapcase translate zfill ";
constexpr std::string_view kDictMethods =
    " items keys values get | clear copy fromkeys pop popitem setdefault update ";
constexpr std::string_view kListMethods =
    " | append clear copy count extend index insert pop remove reverse sort ";

// The method of this name, or an undefined value; one that Python has and we do not is refused.
Value method(Run& run, const Value& v, const std::string& name) {
  const std::string_view all = v.text()   ? kTextMethods
                               : v.dict() ? kDictMethods
                               : v.list() ? kListMethods
                                          : std::string_view(" | ");
  run.spend(name.size() / 64);
  const size_t at = name.find(' ') == std::string::npos ? all.find(" " + name + " ") : all.npos;
  if (name.starts_with("__") || (at != all.npos && at > all.find('|')))
    run.unsupported(str(type_name(v), ".", name));
  if (at == all.npos) return Undefined{name};
  return Method{std::make_shared<const Value>(v), name};
}

void check_defined(const Run& run, const Value& v) {
  if (v.is_undefined())
    run.reject(str("`", printable(v.as<Undefined>()->name, 60), "` is undefined"));
}

Value repeated(Run& run, const Value& v, int64_t count) {
  const auto n = static_cast<size_t>(std::max<int64_t>(count, 0));
  const size_t unit = v.text() ? v.text()->size() : v.list()->items.size() * sizeof(Value);
  if (unit > 0 && n > kMaxText / unit) run.reject("a repetition is too long");
  run.spend(unit > 0 ? n : 0);
  if (v.text()) {
    std::string text;
    for (size_t i = 0; unit > 0 && i < n; ++i) text += *v.text();
    return make_text(run, std::move(text));
  }
  std::vector<Value> items;
  for (size_t i = 0; unit > 0 && i < n; ++i)
    items.insert(items.end(), v.list()->items.begin(), v.list()->items.end());
  return make_list(run, std::move(items), v.list()->kind);
}

Value integer_arithmetic(Run& run, std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (b == 0) {
    run.reject("division by zero");
  } else if (op == "/") {
    return static_cast<double>(a) / static_cast<double>(b);
  } else if (b == -1) {
    overflow = op == "//" && __builtin_sub_overflow(int64_t{0}, a, &result);
  } else {
    const bool uneven = a % b != 0 && (a < 0) != (b < 0);  // Python rounds down
    result = op == "//" ? a / b - uneven : a % b + (uneven ? b : 0);
  }
  if (overflow) run.reject("a number is too large");
  return result;
}

Value real_arithmetic(Run& run, std::string_view op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (b == 0) run.reject("division by zero");
  if (op == "/") return a / b;
  const double rest = std::fmod(a, b) + (std::fmod(a, b) != 0 && (a < 0) != (b < 0) ? b : 0);
  return op == "//" ? std::round((a - rest) / b) : rest;
}

struct Range {
  int64_t begin, end, step;
};

// Python's slice.indices.
Range slice_range(Run& run, const Value& begin, const Value& end, const Value& step, int64_t n) {
  const auto part = [&](const Value& v, int64_t otherwise) {
    int64_t value = otherwise;
    if (!v.is_none() && !v.integer(value)) run.reject("a slice's limit is not an integer");
    return value;
  };
  Range r{0, 0, part(step, 1)};
  if (r.step == 0) run.reject("a slice's step is 0");
  const int64_t low = r.step < 0 ? -1 : 0, high = r.step < 0 ? n - 1 : n;
  const auto limit = [&](const Value& v, int64_t otherwise) {
    if (v.is_none()) return otherwise;
    const int64_t value = std::clamp<int64_t>(part(v, 0), -n - 1, n + 1);
    return std::clamp(value < 0 ? value + n : value, low, high);
  };
  r.begin = limit(begin, r.step < 0 ? high : low);
  r.end = limit(end, r.step < 0 ? low : high);
  r.step = std::clamp<int64_t>(r.step, -n - 1, n + 1);
  return r;
}

template <class T>
std::vector<T> sliced(const std::vector<T>& all, const Range& r) {
  std::vector<T> result;
  for (int64_t i = r.begin; r.step > 0 ? i < r.end : i > r.end; i += r.step)
    result.push_back(all[static_cast<size_t>(i)]);
  return result;
}

}  // namespace

Value get_attribute(Run& run, const Value& v, const std::string& name) {
  check_defined(run, v);
  if (Namespace* const* space = v.as<Namespace*>()) {
    const auto at = (*space)->find(name);
    return at == (*space)->end() ? Value(Undefined{name}) : at->second;
  }
  Value found = method(run, v, name);
  if (!found.is_undefined() || !v.dict()) return found;
  const Value* entry = v.dict()->find(run, name);
  return entry ? *entry : found;
}

Value get_item(Run& run, const Value& v, const Value& key) {
  check_defined(run, v);
  int64_t index = 0;
  if (const std::string* name = key.text()) {
    if (v.dict()) {
      if (const Value* entry = v.dict()->find(run, *name)) return *entry;
    }
    return v.as<Namespace*>() ? get_attribute(run, v, *name) : method(run, v, *name);
  }
  if (!key.integer(index) || (!v.list() && !v.text())) return Undefined{"item"};
  const int64_t n = length(run, v);
  if (index < 0) index += n;
  if (index < 0 || index >= n) return Undefined{str("item ", index)};
  const auto at = static_cast<size_t>(index);
  if (v.list()) return v.list()->items[at];
  run.spend(1 + at / 16);
  return {std::string(characters(*v.text())[at])};
}

Value get_slice(Run& run, const Value& v, const Value& begin, const Value& end, const Value& step) {
  check_defined(run, v);
  if (!v.list() && !v.text()) run.reject(str("a ", type_name(v), " cannot be sliced"));
  const Range r = slice_range(run, begin, end, step, length(run, v));
  if (v.list()) return make_list(run, sliced(v.list()->items, r), v.list()->kind);
  std::string text;
  for (const std::string_view c : sliced(characters(*v.text()), r)) text += c;
  return make_text(run, std::move(text));
}

Value arithmetic(Run& run, std::string_view op, const Value& a, const Value& b) {
  if (op == "~") return make_text(run, to_text(run, a) + to_text(run, b));
  check_defined(run, a);
  check_defined(run, b);
  int64_t i = 0, j = 0;
  double x = 0, y = 0;
  if (a.integer(i) && b.integer(j)) return integer_arithmetic(run, op, i, j);
  if (a.number(x) && b.number(y)) return real_arithmetic(run, op, x, y);
  if (op == "+" && a.text() && b.text()) {
    run.allot(a.text()->size() + b.text()->size());
    return {*a.text() + *b.text()};
  }
  if (op == "+" && a.list() && b.list() && a.list()->kind == b.list()->kind) {
    std::vector<Value> items = a.list()->items;
    items.insert(items.end(), b.list()->items.begin(), b.list()->items.end());
    return make_list(run, std::move(items), a.list()->kind);
  }
  if (op == "*" && (a.text() || a.list()) && b.integer(j)) return repeated(run, a, j);
  if (op == "*" && (b.text() || b.list()) && a.integer(i)) return repeated(run, b, i);
  if (op == "%" && a.text()) run.unsupported("% on a string");
  run.reject(str("`", op, "` does not take ", type_name(a), " and ", type_name(b)));
}

}  // namespace mora::jinja
