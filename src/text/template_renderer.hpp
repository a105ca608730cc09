// Renders a parsed chat template.
#pragma once

#include <ctime>
#include <deque>

#include "text/template_functions.hpp"
#include "text/template_syntax.hpp"

namespace mora::jinja {

struct Rendered {
  std::string text;
  std::vector<std::pair<size_t, size_t>> generated;  // [begin, end) of {% generation %} blocks
};

class Renderer {
 public:
  using Scope = std::map<std::string, Value, std::less<>>;

  // `now` is what strftime_now() writes.
  Renderer(std::string name, Scope variables, const std::tm& now);

  Run& run() { return run_; }
  void set(const std::string& name, Value v) { scopes_[0][name] = std::move(v); }
  Rendered render(const std::vector<Statement>& statements);

 private:
  enum class Flow : uint8_t { go_on, stop, next };
  struct Loop {
    const std::vector<Value>* items;
    size_t at;
  };
  class Depth {
   public:
    explicit Depth(Renderer& renderer);
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;
    ~Depth() { --renderer_.depth_; }

   private:
    Renderer& renderer_;
  };

  Flow execute(const std::vector<Statement>& statements);
  Flow execute(const Statement& s);
  Flow loop(const Statement& s);
  std::vector<Value> loop_items(const Statement& s);
  void assign(const Statement& s);
  void bind(const std::vector<std::string>& targets, Value v);
  void write(std::string_view text);
  std::string captured(const std::vector<Statement>& body);

  Value evaluate(const Expression& e);
  Value name(const Expression& e);
  const Value* lookup(std::string_view name) const;
  bool is_loop(const Expression& e) const;
  Value loop_part(const std::string& part);
  Value dictionary(const Expression& e);
  Value binary(const Expression& e);
  Value unary(const Expression& e);
  bool compare(const Expression& e);
  std::vector<Value> values(const std::vector<Expression>& parts, size_t first);
  Arguments arguments(const Expression& e, std::string callee);
  Value call(const Expression& e);
  Value call_function(const std::string& name, Arguments& a, const Expression& e);
  Value call_macro(const Statement& macro, Arguments& a);
  Value make_namespace(const Expression& e);
  std::string date(const std::string& format);

  Run run_;
  std::tm now_;
  std::vector<Scope> scopes_;
  std::vector<Loop> loops_;
  std::deque<Namespace> namespaces_;
  std::deque<Macro> macros_;
  std::string out_;
  std::vector<std::pair<size_t, size_t>> generated_;
  int depth_ = 0;
};

}  // namespace mora::jinja
