// Filters, tests, methods and operators of chat templates, each as Jinja 2 and Python have it.
#pragma once

#include "text/template_value.hpp"

namespace mora::jinja {

// The arguments of one call. Whoever is called takes them in the order of its parameters and then
// calls done(): an argument that nobody took is refused by name.
class Arguments {
 public:
  Arguments(Run& run, std::string callee, std::vector<Value> positional,
            std::vector<std::pair<std::string, Value>> named)
      : run_(run),
        callee_(std::move(callee)),
        positional_(std::move(positional)),
        named_(std::move(named)) {}

  const Value* take(std::string_view parameter);  // nullptr: not given
  const Value& need(std::string_view parameter);
  std::string text(std::string_view parameter);  // must be given and a string
  int64_t integer(std::string_view parameter, int64_t otherwise);
  void done() const;

 private:
  Run& run_;
  std::string callee_;
  std::vector<Value> positional_;
  std::vector<std::pair<std::string, Value>> named_;
  size_t taken_ = 0;
};

Value apply_filter(Run& run, const std::string& name, const Value& v, Arguments& arguments);
bool apply_test(Run& run, const std::string& name, const Value& v, Arguments& arguments);
Value call_method(Run& run, const Method& method, Arguments& arguments);

// v.name and v[key]; an undefined value where there is none.
Value get_attribute(Run& run, const Value& v, const std::string& name);
Value get_item(Run& run, const Value& v, const Value& key);
Value get_slice(Run& run, const Value& v, const Value& begin, const Value& end, const Value& step);

Value arithmetic(Run& run, std::string_view op, const Value& a, const Value& b);

}  // namespace mora::jinja
