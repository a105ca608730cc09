// The tables of filters, tests and methods.
#include "text/template_functions.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "mora/io/text.hpp"
#include "text/template_strings.hpp"

namespace mora::jinja {

const Value* Arguments::take(std::string_view parameter) {
  if (taken_ < positional_.size()) return &positional_[taken_++];
  for (auto& [name, value] : named_) {
    if (name != parameter) continue;
    name.clear();
    return &value;
  }
  return nullptr;
}

const Value& Arguments::need(std::string_view parameter) {
  const Value* v = take(parameter);
  if (!v) run_.reject(str(callee_, " needs the argument ", parameter));
  return *v;
}

std::string Arguments::text(std::string_view parameter) {
  const Value& v = need(parameter);
  if (!v.text()) run_.reject(str(callee_, ": ", parameter, " is not a string"));
  return to_text(run_, v);
}

int64_t Arguments::integer(std::string_view parameter, int64_t otherwise) {
  const Value* v = take(parameter);
  if (v && !v->integer(otherwise)) run_.reject(str(callee_, ": ", parameter, " is not an integer"));
  return otherwise;
}

void Arguments::done() const {
  if (taken_ < positional_.size()) run_.unsupported(callee_ + " with so many arguments");
  for (const auto& named : named_) {
    if (!named.first.empty()) run_.unsupported(callee_ + " with " + named.first);
  }
}

namespace {

Value cased(Run& run, const std::string& text, Case to) {
  std::string result;
  if (!change_case(text, to, result)) run.unsupported("case of other than ASCII letters");
  return make_text(run, std::move(result));
}

Value stripped(Run& run, const std::string& text, Side side, Arguments& a) {
  const Value* chars = a.take("chars");
  const bool given = chars && !chars->is_none();
  if (given && !chars->text()) run.reject("strip: chars is not a string");
  const size_t set = given ? chars->text()->size() : 1;
  run.spend(1 + text.size() / 64 * (1 + set / 8));
  return make_text(run, std::string(strip(text, side, given ? chars->text() : nullptr)));
}

Value replaced(Run& run, const std::string& text, Arguments& a) {
  const std::string from = to_text(run, a.need("old")), to = to_text(run, a.need("new"));
  const Value* count = a.take("count");
  int64_t most = -1;
  if (count && !count->is_none() && !count->integer(most))
    run.reject("replace: count is no integer");
  run.spend(text.size() / 16);
  return make_text(run, replace(text, from, to, most, kMaxText));
}

Value joined(Run& run, const Value& v, const std::string& separator) {
  std::string text;
  bool first = true;
  for (const Value& item : iterate(run, v)) {
    if (!first) text += separator;
    first = false;
    text += to_text(run, item);
    if (text.size() > kMaxText) break;
  }
  return make_text(run, std::move(text));
}

// ---- filters

Value filter_case(Run& run, const Value& v, Case to) {
  return cased(run, to_text(run, v), to);
}

Value filter_default(Run& run, const Value& v, Arguments& a) {
  const Value* otherwise = a.take("default_value");
  const Value* boolean = a.take("boolean");
  const bool use = v.is_undefined() || (boolean && truthy(*boolean) && !truthy(v));
  run.spend(1);
  return !use ? v : otherwise ? *otherwise : Value("");
}

Value filter_int(Run& run, const Value& v, Arguments& a) {
  const int64_t otherwise = a.integer("default", 0);
  int64_t result = 0;
  double real = 0;
  if (v.integer(result)) return result;
  if (const std::string* text = v.text()) {
    const std::string_view s = strip(*text, Side::both);
    const auto end = s.data() + s.size();
    const auto begin = s.data() + (s.starts_with("+") && s.size() > 1 && s[1] != '-');
    if (s.empty()) return otherwise;
    const auto whole = std::from_chars(begin, end, result);
    if (whole.ec == std::errc() && whole.ptr == end) return result;
    const auto part = std::from_chars(begin, end, real);
    if (part.ec != std::errc() || part.ptr != end) return otherwise;
  } else if (!v.number(real)) {
    return otherwise;
  }
  if (!std::isfinite(real)) return otherwise;
  if (std::fabs(real) >= 9e18) run.reject("a number is too large");
  return static_cast<int64_t>(real);
}

Value filter_ends(Run& run, const Value& v, const std::string& name) {
  if (name == "last" && !v.list() && !v.text() && !v.dict())
    run.reject(str("a ", type_name(v), " has no last item"));
  const std::vector<Value> items = iterate(run, v);
  if (items.empty()) return Undefined{name + " item"};
  return name == "first" ? items.front() : items.back();
}

// The parameters are transformers' tojson's, not Jinja's.
Value filter_json(Run& run, const Value& v, Arguments& a) {
  const Value* ascii = a.take("ensure_ascii");
  const Value* indent = a.take("indent");
  const Value* separators = a.take("separators");
  const Value* sorted = a.take("sort_keys");
  int64_t spaces = -1;
  if (ascii && truthy(*ascii)) run.unsupported("tojson with ensure_ascii");
  if (separators && !separators->is_none()) run.unsupported("tojson with separators");
  if (sorted && truthy(*sorted)) run.unsupported("tojson with sort_keys");
  if (indent && !indent->is_none() && (!indent->integer(spaces) || spaces < 0 || spaces > 16))
    run.reject("tojson: indent is not an integer from 0 to 16");
  return make_text(run, to_json(run, v, static_cast<int>(spaces)));
}

Value path(Run& run, Value v, const std::string& names) {
  const std::string dot = ".";
  run.spend(names.size() / 64);
  for (const std::string& name : split(names, &dot, -1)) v = get_item(run, v, name);
  return v;
}

// select, reject, and with "attr" by an attribute: selectattr("a.b", "test", argument).
Value filter_some(Run& run, const Value& v, const std::string& name, Arguments& a) {
  const bool by_attribute = name.ends_with("attr");
  const std::string attribute = by_attribute ? a.text("attribute") : "";
  const Value* test = a.take("test");
  const Value* argument = a.take("argument");
  const std::string how = test ? to_text(run, *test) : "";
  std::vector<Value> kept;
  for (const Value& item : iterate(run, v)) {
    const Value part = by_attribute ? path(run, item, attribute) : item;
    std::vector<Value> given;
    if (argument) given.push_back(*argument);
    Arguments inner(run, "test " + how, std::move(given), {});
    const bool holds = test ? apply_test(run, how, part, inner) : truthy(part);
    if (holds == name.starts_with("select")) kept.push_back(item);
  }
  return make_list(run, std::move(kept));
}

Value filter_map(Run& run, const Value& v, Arguments& a) {
  std::vector<Value> results;
  const Value* attribute = a.take("attribute");
  if (!attribute || !attribute->text()) run.unsupported("map without attribute");
  for (const Value& item : iterate(run, v)) results.push_back(path(run, item, *attribute->text()));
  return make_list(run, std::move(results));
}

Value filter_items(Run& run, const Value& v) {
  std::vector<Value> pairs;
  if (v.is_undefined()) return make_list(run, {});
  if (!v.dict()) run.reject(str("a ", type_name(v), " has no items"));
  for (const auto& [key, value] : v.dict()->entries)
    pairs.push_back(make_list(run, {Value(key), value}, Sequence::tuple));
  return make_list(run, std::move(pairs));
}

constexpr std::string_view kFilters =
    " trim length count upper lower capitalize title default d tojson list first last join replace "
    "string int select reject selectattr rejectattr map items ";
constexpr std::string_view kTests =
    " defined undefined none string mapping iterable sequence number integer float boolean true "
    "false equalto eq ne in odd even divisibleby ";

bool listed(std::string_view all, std::string_view name) {
  return all.find(str(" ", name, " ")) != all.npos;
}

int64_t need_integer(Run& run, const Value& v) {
  int64_t value = 0;
  if (!v.integer(value)) run.reject(str("a ", type_name(v), " is not an integer"));
  return value;
}

Value text_method(Run& run, const std::string& text, const std::string& name, Arguments& a) {
  if (name == "strip") return stripped(run, text, Side::both, a);
  if (name == "lstrip") return stripped(run, text, Side::left, a);
  if (name == "rstrip") return stripped(run, text, Side::right, a);
  if (name == "upper") return cased(run, text, Case::upper);
  if (name == "lower") return cased(run, text, Case::lower);
  if (name == "title") return cased(run, text, Case::title);
  if (name == "capitalize") return cased(run, text, Case::capitalize);
  if (name == "replace") return replaced(run, text, a);
  if (name == "join") return joined(run, a.need("iterable"), text);
  if (name == "split") {
    const Value* separator = a.take("sep");
    const int64_t most = a.integer("maxsplit", -1);
    const bool given = separator && !separator->is_none();
    if (given && (!separator->text() || separator->text()->empty()))
      run.reject("split: the separator is not a string or empty");
    run.allot(text.size());
    std::vector<Value> parts;
    for (std::string& part : split(text, given ? separator->text() : nullptr, most))
      parts.emplace_back(std::move(part));
    return make_list(run, std::move(parts));
  }
  if (name == "find") {
    run.spend(1 + text.size() / 16);
    const size_t at = find_part(text, a.text("sub"));
    return at == std::string::npos
               ? int64_t{-1}
               : static_cast<int64_t>(count_characters(std::string_view(text).substr(0, at)));
  }
  const bool front = name == "startswith" || name == "removeprefix";
  const Value part = a.need("prefix");
  const auto fits = [&](const Value& v) {
    if (!v.text()) run.reject(str(name, ": not a string"));
    run.spend(v.text()->size() / 64);
    return front ? text.starts_with(*v.text()) : text.ends_with(*v.text());
  };
  if (name == "startswith" || name == "endswith") {
    if (const List* any = part.list(); any && any->kind == Sequence::tuple)
      return std::ranges::any_of(any->items, fits);
    return fits(part);
  }
  if (!fits(part)) return make_text(run, text);
  const size_t n = part.text()->size();
  return make_text(run, front ? text.substr(n) : text.substr(0, text.size() - n));
}

Value dict_method(Run& run, const Value& v, const std::string& name, Arguments& a) {
  if (name == "items") return filter_items(run, v);
  if (name == "get") {
    const Value& key = a.need("key");
    const Value* otherwise = a.take("default");
    const Value* found = key.text() ? v.dict()->find(run, *key.text()) : nullptr;
    return found ? *found : otherwise ? *otherwise : Value();
  }
  std::vector<Value> parts;
  for (const auto& [key, value] : v.dict()->entries)
    parts.push_back(name == "keys" ? Value(key) : value);
  return make_list(run, std::move(parts));
}

Value filter(Run& run, const std::string& name, const Value& v, Arguments& a) {
  if (name == "trim") return stripped(run, to_text(run, v), Side::both, a);
  if (name == "length" || name == "count") return length(run, v);
  if (name == "upper") return filter_case(run, v, Case::upper);
  if (name == "lower") return filter_case(run, v, Case::lower);
  if (name == "capitalize") return filter_case(run, v, Case::capitalize);
  if (name == "title") return filter_case(run, v, Case::words);
  if (name == "default" || name == "d") return filter_default(run, v, a);
  if (name == "tojson") return filter_json(run, v, a);
  if (name == "list") return make_list(run, iterate(run, v));
  if (name == "first" || name == "last") return filter_ends(run, v, name);
  if (name == "replace") return replaced(run, to_text(run, v), a);
  if (name == "string") return make_text(run, to_text(run, v));
  if (name == "int") return filter_int(run, v, a);
  if (name == "map") return filter_map(run, v, a);
  if (name == "items") return filter_items(run, v);
  if (name == "join") {
    const Value* separator = a.take("d");
    return joined(run, v, separator ? to_text(run, *separator) : "");
  }
  return filter_some(run, v, name, a);
}

bool test(Run& run, const std::string& name, const Value& v, Arguments& a) {
  if (name == "defined") return !v.is_undefined();
  if (name == "undefined") return v.is_undefined();
  if (name == "none") return v.is_none();
  if (name == "string") return v.text() != nullptr;
  if (name == "mapping") return v.dict() != nullptr;
  if (name == "sequence") return v.text() || v.list() || v.dict() || v.is_undefined();
  if (name == "iterable") return v.text() || v.list() || v.dict() || v.is_undefined();
  if (name == "boolean") return v.as<bool>() != nullptr;
  if (name == "true") return v.as<bool>() && *v.as<bool>();
  if (name == "false") return v.as<bool>() && !*v.as<bool>();
  if (name == "integer") return v.as<int64_t>() != nullptr;
  if (name == "float") return v.as<double>() != nullptr;
  if (name == "number") return v.as<bool>() || v.as<int64_t>() || v.as<double>();
  if (name == "in") return contains(run, a.need("seq"), v);
  if (name == "odd" || name == "even") return (need_integer(run, v) % 2 != 0) == (name == "odd");
  if (name == "divisibleby") {
    const int64_t by = need_integer(run, a.need("num"));
    if (by == 0) run.reject("division by zero");
    return by == -1 || need_integer(run, v) % by == 0;
  }
  return equal(run, v, a.need("other")) == (name != "ne");
}

}  // namespace

Value apply_filter(Run& run, const std::string& name, const Value& v, Arguments& arguments) {
  if (!listed(kFilters, name)) run.unsupported("filter " + name);
  Value result = filter(run, name, v, arguments);
  arguments.done();
  return result;
}

bool apply_test(Run& run, const std::string& name, const Value& v, Arguments& arguments) {
  if (!listed(kTests, name)) run.unsupported("test " + name);
  const bool result = test(run, name, v, arguments);
  arguments.done();
  return result;
}

Value call_method(Run& run, const Method& method, Arguments& arguments) {
  Value result = method.self->text()
                     ? text_method(run, *method.self->text(), method.name, arguments)
                     : dict_method(run, *method.self, method.name, arguments);
  arguments.done();
  return result;
}

}  // namespace mora::jinja
