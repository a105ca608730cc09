// Calls in chat templates: methods, the global functions, and the template's own macros.
#include <algorithm>

#include "mora/io/text.hpp"
#include "text/template_renderer.hpp"

namespace mora::jinja {

namespace {

constexpr size_t kMaxNamespaces = 10000;
constexpr int64_t kMaxRange = 100000;

}  // namespace

Value Renderer::call(const Expression& e) {
  const Value callee = evaluate(e.parts[0]);
  if (const Method* method = callee.as<Method>()) {
    Arguments a = arguments(e, method->name);
    return call_method(run_, *method, a);
  }
  if (const Macro* const* macro = callee.as<const Macro*>()) {
    Arguments a = arguments(e, (*macro)->statement->text);
    return call_macro(*(*macro)->statement, a);
  }
  if (const Function* function = callee.as<Function>()) {
    if (function->name == "namespace") return make_namespace(e);
    Arguments a = arguments(e, function->name);
    Value result = call_function(function->name, a, e);
    a.done();
    return result;
  }
  if (const Undefined* unknown = callee.as<Undefined>()) run_.unsupported(unknown->name + "()");
  run_.reject(str("a ", type_name(callee), " cannot be called"));
}

Value Renderer::call_function(const std::string& function, Arguments& a, const Expression& e) {
  if (function == "raise_exception") run_.reject(printable(to_text(run_, a.need("message")), 1000));
  if (function == "strftime_now") return make_text(run_, date(a.text("format")));
  if (function == "dict") {
    std::vector<std::pair<std::string, Value>> entries;
    for (const auto& entry : e.named) {
      if (const Value* v = a.take(entry.first)) entries.emplace_back(entry.first, *v);
    }
    return make_dict(run_, std::move(entries));
  }
  int64_t begin = 0, end = a.integer("stop", 0);
  if (const Value* v = a.take("end")) {
    begin = end;
    if (!v->integer(end)) run_.reject("range: not an integer");
  }
  const int64_t step = a.integer("step", 1);
  if (step == 0) run_.reject("range: the step is 0");
  std::vector<Value> items;
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (static_cast<int64_t>(items.size()) == kMaxRange) run_.reject("range: too long");
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return make_list(run_, std::move(items));
}

Value Renderer::make_namespace(const Expression& e) {
  if (namespaces_.size() == kMaxNamespaces) run_.reject("makes too many namespaces");
  Namespace space;
  for (const Value& v : values(e.parts, 1)) {
    if (!v.dict()) run_.reject("namespace: not a dictionary");
    for (const auto& [key, value] : v.dict()->entries) space[key] = value;
  }
  for (const auto& [key, part] : e.named) space[key] = evaluate(part);
  if (std::ranges::any_of(space, [](const auto& entry) { return entry.first.starts_with("_"); }))
    run_.reject("a namespace takes no name that begins with an underscore");
  return &namespaces_.emplace_back(std::move(space));
}

// A macro sees the template's variables and its own parameters, not the caller's loops.
Value Renderer::call_macro(const Statement& macro, Arguments& a) {
  std::vector<const Value*> given;
  for (const std::string& parameter : macro.targets) given.push_back(a.take(parameter));
  std::vector<Scope> outer(std::make_move_iterator(scopes_.begin() + 1),
                           std::make_move_iterator(scopes_.end()));
  scopes_.resize(1);
  std::vector<Loop> loops = std::exchange(loops_, {});
  scopes_.emplace_back();
  const size_t plain = macro.targets.size() - macro.expressions.size();
  for (size_t i = 0; i < macro.targets.size(); ++i) {
    Value v = given[i]     ? *given[i]
              : i >= plain ? evaluate(macro.expressions[i - plain])
                           : Value(Undefined{macro.targets[i]});
    scopes_.back()[macro.targets[i]] = std::move(v);
  }
  a.done();
  const int line = run_.line;
  std::string text = captured(macro.body);
  run_.line = line;
  scopes_.resize(1);
  std::ranges::move(outer, std::back_inserter(scopes_));
  loops_ = std::move(loops);
  return make_text(run_, std::move(text));
}

std::string Renderer::date(const std::string& format) {
  std::string text;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      text += format[i];
      continue;
    }
    const char c = ++i < format.size() ? format[i] : ' ';
    if (std::string_view("aAbBdHIjmMpSyY%").find(c) == std::string_view::npos)
      run_.unsupported(str("strftime_now with %", c));
    const char part[] = {'%', c, '\0'};
    char buffer[64];
    text.append(buffer, std::strftime(buffer, sizeof buffer, part, &now_));
  }
  return text;
}

}  // namespace mora::jinja
