// Conversions are lossless or refused: nothing is rounded, wrapped or guessed on the way into a
// field.
#include "config/values.hpp"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "mora/io/text.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

std::string number_text(double value) {
  return dump_json(json_number(value));
}

std::string interval(const IntRange& range) {
  const IntRange all;
  if (range.min == all.min && range.max == all.max) return "";
  if (range.max == all.max) return str(">= ", range.min);
  if (range.min == all.min) return str("<= ", range.max);
  return str("[", range.min, ", ", range.max, "]");
}

std::string interval(const RealRange& range) {
  const bool low = std::isfinite(range.min);
  const bool high = std::isfinite(range.max);
  const bool low_open = range.min_bound == Bound::open;
  const bool high_open = range.max_bound == Bound::open;
  if (!low && !high) return "";
  if (!high) return (low_open ? "> " : ">= ") + number_text(range.min);
  if (!low) return (high_open ? "< " : "<= ") + number_text(range.max);
  return str(low_open ? '(' : '[', number_text(range.min), ", ", number_text(range.max),
             high_open ? ')' : ']');
}

bool within(const IntRange& range, int64_t value) {
  return value >= range.min && value <= range.max;
}

bool within(const RealRange& range, double value) {
  const bool low = range.min_bound == Bound::open ? value > range.min : value >= range.min;
  const bool high = range.max_bound == Bound::open ? value < range.max : value <= range.max;
  return low && high;
}

std::string expected(std::string_view what, const Json& json) {
  return str("expected ", what, ", got ", brief(json));
}

std::string outside(const Json& json, const std::string& range) {
  return str(brief(json), " is outside the range ", range);
}

// Fields by type: each stores the value or returns the problem.
class Reader {
 public:
  Reader(const Field& field, const fs::path& base) : field_(field), base_(base) {}

  std::string operator()(const Json& json, int64_t& value) const {
    if (!to_int(json, value)) return expected("an integer", json);
    return within(field_.ints, value) ? "" : outside(json, interval(field_.ints));
  }
  std::string operator()(const Json& json, double& value) const {
    if (!to_double(json, value)) return expected("a number", json);
    return within(field_.reals, value) ? "" : outside(json, interval(field_.reals));
  }
  std::string operator()(const Json& json, bool& value) const {
    if (!json.is_boolean()) return expected("true or false", json);
    value = json.get<bool>();
    return "";
  }
  std::string operator()(const Json& json, std::string& value) const {
    if (!json.is_string())
      return expected(is_choice() ? alternatives(field_.choices) : "a string", json);
    value = json.get<std::string>();
    if (is_choice() && std::ranges::find(field_.choices, value) == field_.choices.end()) {
      return expected(alternatives(field_.choices), json);
    }
    return missing(value.empty()) ? "must not be empty" : "";
  }
  std::string operator()(const Json& json, fs::path& value) const {
    if (!json.is_string()) return expected("a path (a string)", json);
    const auto& text = json.get_ref<const std::string&>();
    if (text.find('\0') != std::string::npos) return "a path cannot hold a NUL byte";
    value = text.empty() ? fs::path() : (base_ / text).lexically_normal();
    // "out/" and "out" are one folder; the first has no file name to build others from.
    if (!value.has_filename() && value.has_relative_path()) value = value.parent_path();
    return missing(value.empty()) ? "must not be empty" : "";
  }
  template <class T>
  std::string operator()(const Json& json, std::vector<T>& values) const {
    if (!json.is_array()) return expected("a list", json);
    values.clear();
    for (const Json& item : json) {
      const std::string problem = (*this)(item, values.emplace_back());
      if (!problem.empty()) return str("element ", values.size() - 1, ": ", problem);
      if constexpr (!std::is_same_v<T, int64_t>) {
        if (values.back().empty()) return str("element ", values.size() - 1, " is empty");
      }
    }
    return missing(values.empty()) ? "must not be empty" : "";
  }

 private:
  bool is_choice() const { return !field_.choices.empty(); }
  bool missing(bool empty) const { return empty && field_.presence == Presence::required; }

  const Field& field_;
  const fs::path& base_;
};

Json json_of(double value) {
  return json_number(value);
}
Json json_of(const fs::path& value) {
  return value.string();
}
template <class T>
Json json_of(const T& value) {
  return value;
}
template <class T>
Json json_of(const std::vector<T>& values) {
  Json list = Json::array();
  for (const T& value : values) list.push_back(json_of(value));
  return list;
}

std::string type_name(int64_t) {
  return "integer";
}
std::string type_name(double) {
  return "number";
}
std::string type_name(bool) {
  return "boolean";
}
std::string type_name(const std::string&) {
  return "string";
}
std::string type_name(const fs::path&) {
  return "path";
}
template <class T>
std::string type_name(const std::vector<T>&) {
  return "list of " + type_name(T{}) + "s";
}

}  // namespace

std::string read_value(const Field& field, const Json& json, const fs::path& base) {
  const Reader reader(field, base);
  return std::visit([&](auto* value) { return reader(json, *value); }, field.value);
}

Json value_of(const Field& field) {
  return std::visit([](auto* value) { return json_of(*value); }, field.value);
}

std::string type_of(const Field& field) {
  if (!field.choices.empty()) return "choice";
  return std::visit([](auto* value) { return type_name(*value); }, field.value);
}

std::string range_of(const Field& field) {
  std::string list;
  for (const std::string& choice : field.choices) {
    list += (list.empty() ? "\"" : ", \"") + choice + '"';
  }
  if (!list.empty()) return list;
  return std::holds_alternative<double*>(field.value) ? interval(field.reals)
                                                      : interval(field.ints);
}

std::string alternatives(std::span<const std::string> values) {
  std::string text;
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) text += i + 1 == values.size() ? " or " : ", ";
    text += '"' + values[i] + '"';
  }
  return text;
}

}  // namespace mora
