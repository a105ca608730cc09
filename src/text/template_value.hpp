// Values of a chat template: Python's, as far as the supported Jinja subset can make them.
//
// Values are immutable and shared, except namespaces, which belong to the rendering. Whatever walks
// or makes values pays for it: a template is hostile until it has been rendered.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "mora/core/error.hpp"

namespace mora::jinja {

inline constexpr size_t kMaxText = size_t{16} << 20;  // bytes of any one text or list

// What one rendering may use and where it is. Every refusal goes through here: Error(data) that
// names the template and the line.
class Run {
 public:
  explicit Run(std::string name) : name_(std::move(name)) {}

  int line = 1;

  void spend(size_t steps);  // one step is about one small operation
  void allot(size_t bytes);  // bytes of strings and lists that come into being
  [[noreturn]] void reject(std::string_view problem) const;
  [[noreturn]] void unsupported(std::string_view what) const;

 private:
  std::string name_;
  size_t steps_ = 0, bytes_ = 0;
};

// "name: line N: `what` is not supported; choose ..."
[[noreturn]] void fail_unsupported(const std::string& name, int line, std::string_view what);

class Value;
struct Macro;

struct Undefined {
  std::string name;  // for messages
};
struct None {};
struct Function {
  std::string name;  // of a global function
};
struct Method {
  std::shared_ptr<const Value> self;
  std::string name;
};

enum class Sequence : uint8_t { list, tuple };

struct List {
  std::vector<Value> items;
  Sequence kind = Sequence::list;
  int depth = 1;
};
struct Dict {
  std::vector<std::pair<std::string, Value>> entries;
  int depth = 1;

  const Value* find(Run& run, std::string_view key) const;
};
using Namespace = std::map<std::string, Value, std::less<>>;

class Value {
 public:
  using Text = std::shared_ptr<const std::string>;

  Value() : data_(None{}) {}
  Value(Undefined v) : data_(std::move(v)) {}
  Value(bool v) : data_(v) {}
  Value(int64_t v) : data_(v) {}
  Value(double v) : data_(v) {}
  Value(std::string v) : data_(std::make_shared<const std::string>(std::move(v))) {}
  Value(const char* v) : Value(std::string(v)) {}
  Value(Namespace* v) : data_(v) {}
  Value(Function v) : data_(std::move(v)) {}
  Value(Method v) : data_(std::move(v)) {}
  Value(const Macro* v) : data_(v) {}

  template <class T>
  const T* as() const {
    return std::get_if<T>(&data_);
  }
  bool is_undefined() const { return as<Undefined>() != nullptr; }
  bool is_none() const { return as<None>() != nullptr; }
  const std::string* text() const { return as<Text>() ? as<Text>()->get() : nullptr; }
  const List* list() const {
    const auto* v = as<std::shared_ptr<const List>>();
    return v ? v->get() : nullptr;
  }
  const Dict* dict() const {
    const auto* v = as<std::shared_ptr<const Dict>>();
    return v ? v->get() : nullptr;
  }
  // An integer or a boolean, as Python counts.
  bool integer(int64_t& value) const;
  bool number(double& value) const;  // an integer, a boolean or a float

 private:
  friend Value make_list(Run&, std::vector<Value>, Sequence);
  friend Value make_dict(Run&, std::vector<std::pair<std::string, Value>>);

  std::variant<Undefined, None, bool, int64_t, double, Text, std::shared_ptr<const List>,
               std::shared_ptr<const Dict>, Namespace*, Function, Method, const Macro*>
      data_;
};

// The only ways to lists, dictionaries (a later entry of a key wins) and new strings. Nesting and
// size are bounded.
Value make_list(Run& run, std::vector<Value> items, Sequence kind = Sequence::list);
Value make_dict(Run& run, std::vector<std::pair<std::string, Value>> entries);
Value make_text(Run& run, std::string text);

std::string_view type_name(const Value& v);  // as Python calls it
bool truthy(const Value& v);
std::string to_text(Run& run, const Value& v);  // Python's str(), "" for an undefined value
std::string to_repr(Run& run, const Value& v);
bool equal(Run& run, const Value& a, const Value& b);
int compare(Run& run, const Value& a, const Value& b);  // of two numbers, strings or lists
bool contains(Run& run, const Value& container, const Value& item);
int64_t length(Run& run, const Value& v);
// What a loop visits: items, keys, characters, nothing of an undefined value.
std::vector<Value> iterate(Run& run, const Value& v);

// json.dumps(value, ensure_ascii=False, indent=indent); indent < 0: none.
std::string to_json(Run& run, const Value& v, int indent);

}  // namespace mora::jinja
