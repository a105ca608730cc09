// Equality, order, truth and text of values follow Python, for what the subset has.
#include "text/template_value.hpp"

#include <algorithm>

#include "mora/io/text.hpp"
#include "mora/text/chat_template.hpp"
#include "text/template_strings.hpp"

namespace mora::jinja {

namespace {

constexpr size_t kMaxSteps = 10'000'000;
constexpr size_t kMaxBytes = size_t{512} << 20;  // made in one rendering, not at one time
constexpr int kMaxDepth = 48;

int depth_of(const Value& v) {
  if (const List* list = v.list()) return list->depth;
  if (const Dict* dict = v.dict()) return dict->depth;
  return 0;
}

int checked_depth(const Run& run, int deepest) {
  if (deepest >= kMaxDepth) run.reject(str("values are nested more than ", kMaxDepth, " deep"));
  return deepest + 1;
}

std::string list_repr(Run& run, const List& list) {
  const bool tuple = list.kind == Sequence::tuple;
  std::string out = tuple ? "(" : "[";
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out += ", ";
    out += to_repr(run, list.items[i]);
  }
  if (tuple && list.items.size() == 1) out += ",";
  return out + (tuple ? ")" : "]");
}

std::string dict_repr(Run& run, const Dict& dict) {
  std::string out = "{";
  for (const auto& [key, value] : dict.entries) {
    if (out.size() > 1) out += ", ";
    out += to_repr(run, key) + ": " + to_repr(run, value);
  }
  return out + "}";
}

bool equal_lists(Run& run, const List& a, const List& b) {
  if (a.kind != b.kind || a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!equal(run, a.items[i], b.items[i])) return false;
  }
  return true;
}

bool equal_dicts(Run& run, const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = b.find(run, key);
    if (other == nullptr || !equal(run, value, *other)) return false;
  }
  return true;
}

}  // namespace

void fail_unsupported(const std::string& name, int line, std::string_view what) {
  std::string names;
  for (const std::string_view n : built_in_chat_templates()) {
    names += (names.empty() ? "" : ", ") + std::string(n);
  }
  fail(ErrorKind::data, name, ": line ", line, ": `", printable(what, 60),
       "` is not supported; choose one of the built-in templates with --chat-template: ", names);
}

void Run::spend(size_t steps) {
  steps_ += steps;
  if (steps_ > kMaxSteps) reject(str("takes more than ", kMaxSteps, " steps"));
}

void Run::allot(size_t bytes) {
  if (bytes > kMaxText) reject(str("makes a text of more than ", kMaxText, " bytes"));
  bytes_ += bytes;
  if (bytes_ > kMaxBytes) reject(str("takes more than ", kMaxBytes, " bytes of memory"));
  spend(bytes / 64);
}

void Run::reject(std::string_view problem) const {
  fail(ErrorKind::data, name_, ": line ", line, ": ", problem);
}

void Run::unsupported(std::string_view what) const {
  fail_unsupported(name_, line, what);
}

const Value* Dict::find(Run& run, std::string_view key) const {
  run.spend(1 + (1 + entries.size()) * (1 + key.size() / 64) / 8);
  for (const auto& [k, value] : entries) {
    if (k == key) return &value;
  }
  return nullptr;
}

bool Value::integer(int64_t& value) const {
  if (const bool* b = as<bool>()) return value = *b ? 1 : 0, true;
  if (const int64_t* i = as<int64_t>()) return value = *i, true;
  return false;
}

bool Value::number(double& value) const {
  int64_t i = 0;
  if (integer(i)) return value = static_cast<double>(i), true;
  if (const double* d = as<double>()) return value = *d, true;
  return false;
}

Value make_list(Run& run, std::vector<Value> items, Sequence kind) {
  int deepest = 0;
  for (const Value& v : items) deepest = std::max(deepest, depth_of(v));
  run.allot(items.size() * sizeof(Value));
  Value result;
  result.data_ =
      std::make_shared<const List>(List{std::move(items), kind, checked_depth(run, deepest)});
  return result;
}

Value make_dict(Run& run, std::vector<std::pair<std::string, Value>> entries) {
  Dict dict;
  int deepest = 0;
  std::map<std::string, size_t> place;
  for (auto& [key, value] : entries) {
    run.allot(key.size() + sizeof(Value));
    deepest = std::max(deepest, depth_of(value));
    const auto [at, is_new] = place.emplace(key, dict.entries.size());
    if (is_new) {
      dict.entries.emplace_back(key, std::move(value));
    } else {
      dict.entries[at->second].second = std::move(value);
    }
  }
  dict.depth = checked_depth(run, deepest);
  Value result;
  result.data_ = std::make_shared<const Dict>(std::move(dict));
  return result;
}

Value make_text(Run& run, std::string text) {
  run.allot(text.size());
  return {std::move(text)};
}

std::string_view type_name(const Value& v) {
  if (v.is_undefined()) return "undefined";
  if (v.is_none()) return "none";
  if (v.as<bool>()) return "bool";
  if (v.as<int64_t>()) return "int";
  if (v.as<double>()) return "float";
  if (v.text()) return "str";
  if (const List* list = v.list()) return list->kind == Sequence::tuple ? "tuple" : "list";
  if (v.dict()) return "dict";
  return v.as<Namespace*>() ? "namespace" : "function";
}

bool truthy(const Value& v) {
  if (v.is_undefined() || v.is_none()) return false;
  double number = 0;
  if (v.number(number)) return number != 0;
  if (const std::string* text = v.text()) return !text->empty();
  if (const List* list = v.list()) return !list->items.empty();
  if (const Dict* dict = v.dict()) return !dict->entries.empty();
  return true;
}

std::string to_text(Run& run, const Value& v) {
  if (const std::string* text = v.text()) {
    run.spend(text->size() / 64);
    return *text;
  }
  return v.is_undefined() ? "" : to_repr(run, v);
}

std::string to_repr(Run& run, const Value& v) {
  run.spend(1);
  if (v.is_none()) return "None";
  if (const bool* b = v.as<bool>()) return *b ? "True" : "False";
  if (const int64_t* i = v.as<int64_t>()) return std::to_string(*i);
  if (const double* d = v.as<double>()) return python_float(*d);
  std::string text;
  if (const std::string* t = v.text()) {
    if (!python_repr(*t, text)) run.unsupported("a list with other than ASCII text as text");
  } else if (const List* list = v.list()) {
    text = list_repr(run, *list);
  } else if (const Dict* dict = v.dict()) {
    text = dict_repr(run, *dict);
  } else {
    run.reject(str("a value of type ", type_name(v), " has no text"));
  }
  run.allot(text.size());
  return text;
}

bool equal(Run& run, const Value& a, const Value& b) {
  run.spend(1);
  double x = 0, y = 0;
  int64_t i = 0, j = 0;
  if (a.integer(i) && b.integer(j)) return i == j;
  if (a.number(x) && b.number(y)) return x == y;
  if (a.text() && b.text()) {
    run.spend(a.text()->size() / 64);
    return *a.text() == *b.text();
  }
  if (a.list() && b.list()) return equal_lists(run, *a.list(), *b.list());
  if (a.dict() && b.dict()) return equal_dicts(run, *a.dict(), *b.dict());
  if (a.as<Namespace*>() && b.as<Namespace*>()) return *a.as<Namespace*>() == *b.as<Namespace*>();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

int compare(Run& run, const Value& a, const Value& b) {
  run.spend(1);
  double x = 0, y = 0;
  int64_t i = 0, j = 0;
  if (a.integer(i) && b.integer(j)) return i < j ? -1 : i > j;
  if (a.number(x) && b.number(y)) return x < y ? -1 : x > y;
  if (a.text() && b.text()) {
    run.spend(a.text()->size() / 64);
    const int order = a.text()->compare(*b.text());
    return order < 0 ? -1 : order > 0;
  }
  const List *first = a.list(), *second = b.list();
  if (first && second && first->kind == second->kind) {
    const size_t shared = std::min(first->items.size(), second->items.size());
    for (size_t k = 0; k < shared; ++k) {
      if (!equal(run, first->items[k], second->items[k]))
        return compare(run, first->items[k], second->items[k]);
    }
    return first->items.size() < second->items.size() ? -1
                                                      : first->items.size() > second->items.size();
  }
  run.reject(str("cannot order ", type_name(a), " and ", type_name(b)));
}

bool contains(Run& run, const Value& container, const Value& item) {
  if (const std::string* text = container.text()) {
    if (!item.text()) run.reject(str("a ", type_name(item), " cannot be in a string"));
    run.spend(1 + text->size() / 16);
    return find_part(*text, *item.text()) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) {
    return item.text() && dict->find(run, *item.text());
  }
  if (const List* list = container.list()) {
    return std::ranges::any_of(list->items, [&](const Value& v) { return equal(run, v, item); });
  }
  if (container.is_undefined()) return false;
  run.reject(str("nothing can be in a ", type_name(container)));
}

int64_t length(Run& run, const Value& v) {
  if (const std::string* text = v.text()) {
    run.spend(1 + text->size() / 16);
    return static_cast<int64_t>(count_characters(*text));
  }
  if (const List* list = v.list()) return static_cast<int64_t>(list->items.size());
  if (const Dict* dict = v.dict()) return static_cast<int64_t>(dict->entries.size());
  if (v.is_undefined()) return 0;
  run.reject(str("a ", type_name(v), " has no length"));
}

std::vector<Value> iterate(Run& run, const Value& v) {
  std::vector<Value> items;
  if (const List* list = v.list()) {
    items = list->items;
  } else if (const Dict* dict = v.dict()) {
    for (const auto& entry : dict->entries) items.emplace_back(entry.first);
  } else if (const std::string* text = v.text()) {
    run.allot(text->size() * sizeof(Value));
    for (const std::string_view c : characters(*text)) items.emplace_back(std::string(c));
  } else if (!v.is_undefined()) {
    run.reject(str("a ", type_name(v), " is not iterable"));
  }
  run.allot(items.size() * sizeof(Value));
  return items;
}

namespace {

class JsonText {
 public:
  JsonText(Run& run, int indent) : run_(run), indent_(indent) {}

  void value(const Value& v) {
    run_.spend(1);
    if (v.is_none()) {
      out_ += "null";
    } else if (const bool* b = v.as<bool>()) {
      out_ += *b ? "true" : "false";
    } else if (v.as<int64_t>() || v.as<double>()) {
      out_ += to_repr(run_, v);
    } else if (const std::string* text = v.text()) {
      out_ += json_string(*text);
    } else if (const List* list = v.list()) {
      out_ += '[';
      for (size_t i = 0; i < list->items.size(); ++i) {
        item(i == 0);
        value(list->items[i]);
      }
      end(list->items.empty(), ']');
    } else if (const Dict* dict = v.dict()) {
      out_ += '{';
      for (size_t i = 0; i < dict->entries.size(); ++i) {
        item(i == 0);
        out_ += json_string(dict->entries[i].first) + ": ";
        value(dict->entries[i].second);
      }
      end(dict->entries.empty(), '}');
    } else {
      run_.reject(str("a value of type ", type_name(v), " cannot be written as JSON"));
    }
    if (out_.size() - paid_ > 4096) pay();
  }

  std::string take() {
    pay();
    return std::move(out_);
  }

 private:
  void item(bool first) {
    if (!first) out_ += indent_ < 0 ? ", " : ",";
    level_ += first;
    new_line();
  }
  void end(bool empty, char bracket) {
    if (!empty) {
      --level_;
      new_line();
    }
    out_ += bracket;
  }
  void new_line() {
    if (indent_ >= 0) out_ += '\n' + std::string(static_cast<size_t>(level_ * indent_), ' ');
  }
  void pay() {
    run_.allot(out_.size() - paid_);
    paid_ = out_.size();
  }

  Run& run_;
  int indent_, level_ = 0;
  std::string out_;
  size_t paid_ = 0;
};

}  // namespace

std::string to_json(Run& run, const Value& v, int indent) {
  JsonText text(run, indent);
  text.value(v);
  return text.take();
}

}  // namespace mora::jinja
