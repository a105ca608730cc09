// Walks the trees. Scopes are Jinja's: a loop's body, a macro and a generation block have their
// own, and what is assigned in them ends with them; namespaces are the way out.
#include "text/template_renderer.hpp"

#include <array>

#include "mora/io/text.hpp"

namespace mora::jinja {

namespace {

constexpr int kMaxDepth = 1000;

}  // namespace

Renderer::Depth::Depth(Renderer& renderer) : renderer_(renderer) {
  if (++renderer_.depth_ > kMaxDepth) {
    --renderer_.depth_;
    renderer_.run_.reject("macros call each other too deep");
  }
}

Renderer::Renderer(std::string name, Scope variables, const std::tm& now)
    : run_(std::move(name)), now_(now) {
  for (const char* function : {"raise_exception", "strftime_now", "namespace", "range", "dict"})
    variables.emplace(function, Value(Function{function}));
  scopes_.push_back(std::move(variables));
}

Rendered Renderer::render(const std::vector<Statement>& statements) {
  execute(statements);
  return {std::move(out_), std::move(generated_)};
}

Renderer::Flow Renderer::execute(const std::vector<Statement>& statements) {
  const Depth depth(*this);
  for (const Statement& s : statements) {
    run_.line = s.line;
    run_.spend(1);
    const Flow flow = execute(s);
    if (flow != Flow::go_on) return flow;
  }
  return Flow::go_on;
}

Renderer::Flow Renderer::execute(const Statement& s) {
  using Kind = Statement::Kind;
  switch (s.kind) {
    case Kind::data:
      write(s.text);
      break;
    case Kind::output:
      write(to_text(run_, evaluate(s.expressions[0])));
      break;
    case Kind::branch:
      return execute(truthy(evaluate(s.expressions[0])) ? s.body : s.otherwise);
    case Kind::loop:
      return loop(s);
    case Kind::assign:
      assign(s);
      break;
    case Kind::capture: {
      scopes_.emplace_back();
      std::string text = captured(s.body);
      scopes_.pop_back();
      scopes_.back()[s.targets[0]] = make_text(run_, std::move(text));
      break;
    }
    case Kind::macro:
      macros_.push_back({&s});
      scopes_.back()[s.text] = Value(&macros_.back());
      break;
    case Kind::generation: {
      const size_t begin = out_.size();
      scopes_.emplace_back();
      execute(s.body);
      scopes_.pop_back();
      generated_.emplace_back(begin, out_.size());
      break;
    }
    case Kind::stop:
      return Flow::stop;
    case Kind::next:
      return Flow::next;
  }
  return Flow::go_on;
}

std::vector<Value> Renderer::loop_items(const Statement& s) {
  std::vector<Value> items = iterate(run_, evaluate(s.expressions[0]));
  if (s.expressions.size() < 2) return items;
  std::vector<Value> kept;
  for (Value& item : items) {
    scopes_.emplace_back();
    bind(s.targets, item);
    if (truthy(evaluate(s.expressions[1]))) kept.push_back(std::move(item));
    scopes_.pop_back();
  }
  return kept;
}

Renderer::Flow Renderer::loop(const Statement& s) {
  const std::vector<Value> items = loop_items(s);
  if (items.empty()) {
    scopes_.emplace_back();
    const Flow flow = execute(s.otherwise);
    scopes_.pop_back();
    return flow;
  }
  for (size_t i = 0; i < items.size(); ++i) {
    loops_.push_back({&items, i});
    scopes_.emplace_back();
    bind(s.targets, items[i]);
    const Flow flow = execute(s.body);
    scopes_.pop_back();
    loops_.pop_back();
    if (flow == Flow::stop) break;
  }
  return Flow::go_on;
}

void Renderer::assign(const Statement& s) {
  Value v = evaluate(s.expressions[0]);
  if (s.text.empty()) return bind(s.targets, std::move(v));
  const Value* target = lookup(s.text);
  Namespace* const* space = target ? target->as<Namespace*>() : nullptr;
  if (!space) run_.reject(str("`", printable(s.text, 60), "` is not a namespace"));
  if (s.targets[0].starts_with("_"))
    run_.reject("a namespace takes no name that begins with an underscore");
  (**space)[s.targets[0]] = std::move(v);
}

void Renderer::bind(const std::vector<std::string>& targets, Value v) {
  if (targets.size() == 1) {
    scopes_.back()[targets[0]] = std::move(v);
    return;
  }
  std::vector<Value> parts = iterate(run_, v);
  if (parts.size() != targets.size())
    run_.reject(str(parts.size(), " values for ", targets.size(), " names"));
  for (size_t i = 0; i < targets.size(); ++i) scopes_.back()[targets[i]] = std::move(parts[i]);
}

void Renderer::write(std::string_view text) {
  run_.allot(text.size());
  if (out_.size() + text.size() > kMaxText)
    run_.reject(str("makes a text of more than ", kMaxText, " bytes"));
  out_ += text;
}

std::string Renderer::captured(const std::vector<Statement>& body) {
  std::string outer = std::exchange(out_, {});
  execute(body);
  std::swap(outer, out_);
  return outer;
}

const Value* Renderer::lookup(std::string_view name) const {
  for (size_t i = scopes_.size(); i-- > 0;) {
    const auto at = scopes_[i].find(name);
    if (at != scopes_[i].end()) return &at->second;
  }
  return nullptr;
}

bool Renderer::is_loop(const Expression& e) const {
  return e.kind == Expression::Kind::name && e.text == "loop" && !loops_.empty();
}

Value Renderer::loop_part(const std::string& part) {
  const Loop& l = loops_.back();
  const std::vector<Value>& items = *l.items;
  const auto index = static_cast<int64_t>(l.at), n = static_cast<int64_t>(items.size());
  if (part == "index") return index + 1;
  if (part == "index0") return index;
  if (part == "revindex") return n - index;
  if (part == "revindex0") return n - index - 1;
  if (part == "first") return index == 0;
  if (part == "last") return index + 1 == n;
  if (part == "length") return n;
  if (part == "previtem") return index > 0 ? items[l.at - 1] : Value(Undefined{"loop.previtem"});
  if (part == "nextitem")
    return index + 1 < n ? items[l.at + 1] : Value(Undefined{"loop.nextitem"});
  run_.unsupported("loop." + part);
}

Value Renderer::name(const Expression& e) {
  if (is_loop(e)) run_.unsupported("loop as a value");
  const Value* v = lookup(e.text);
  return v ? *v : Value(Undefined{e.text});
}

Value Renderer::evaluate(const Expression& e) {
  using Kind = Expression::Kind;
  const Depth depth(*this);
  run_.spend(1);
  switch (e.kind) {
    case Kind::constant:
      return e.constant;
    case Kind::name:
      return name(e);
    case Kind::list:
      return make_list(run_, values(e.parts, 0));
    case Kind::tuple:
      return make_list(run_, values(e.parts, 0), Sequence::tuple);
    case Kind::dict:
      return dictionary(e);
    case Kind::attribute:
      if (is_loop(e.parts[0])) return loop_part(e.text);
      return get_attribute(run_, evaluate(e.parts[0]), e.text);
    case Kind::item:
      if (is_loop(e.parts[0])) return loop_part(to_text(run_, evaluate(e.parts[1])));
      return get_item(run_, evaluate(e.parts[0]), evaluate(e.parts[1]));
    case Kind::slice: {
      const std::vector<Value> v = values(e.parts, 0);
      return get_slice(run_, v[0], v[1], v[2], v[3]);
    }
    case Kind::call:
      return call(e);
    case Kind::filter: {
      const Value v = evaluate(e.parts[0]);
      Arguments a = arguments(e, e.text);
      return apply_filter(run_, e.text, v, a);
    }
    case Kind::test: {
      if (is_loop(e.parts[0]) && e.text == "defined") return true;
      const Value v = evaluate(e.parts[0]);
      Arguments a = arguments(e, "test " + e.text);
      return apply_test(run_, e.text, v, a);
    }
    case Kind::unary:
      return unary(e);
    case Kind::binary:
      return binary(e);
    case Kind::compare:
      return compare(e);
    case Kind::condition:
      return evaluate(truthy(evaluate(e.parts[1])) ? e.parts[0] : e.parts[2]);
  }
  return {};
}

std::vector<Value> Renderer::values(const std::vector<Expression>& parts, size_t first) {
  std::vector<Value> result;
  for (size_t i = first; i < parts.size(); ++i) result.push_back(evaluate(parts[i]));
  return result;
}

Value Renderer::dictionary(const Expression& e) {
  std::vector<std::pair<std::string, Value>> entries;
  for (size_t i = 0; i < e.parts.size(); i += 2) {
    const Value key = evaluate(e.parts[i]);
    if (!key.text()) run_.unsupported("a dictionary key other than a string");
    entries.emplace_back(*key.text(), evaluate(e.parts[i + 1]));
  }
  return make_dict(run_, std::move(entries));
}

Value Renderer::unary(const Expression& e) {
  const Value v = evaluate(e.parts[0]);
  if (e.text == "not") return !truthy(v);
  double real = 0;
  if (!v.number(real))
    run_.reject(v.is_undefined()
                    ? str("`", printable(v.as<Undefined>()->name, 60), "` is undefined")
                    : str("`", e.text, "` does not take ", type_name(v)));
  if (v.as<double>()) return e.text == "-" ? -real : real;
  return arithmetic(run_, e.text, int64_t{0}, v);
}

Value Renderer::binary(const Expression& e) {
  const Value left = evaluate(e.parts[0]);
  if (e.text == "and") return truthy(left) ? evaluate(e.parts[1]) : left;
  if (e.text == "or") return truthy(left) ? left : evaluate(e.parts[1]);
  return arithmetic(run_, e.text, left, evaluate(e.parts[1]));
}

bool Renderer::compare(const Expression& e) {
  Value left = evaluate(e.parts[0]);
  for (size_t i = 0; i < e.operators.size(); ++i) {
    const Value right = evaluate(e.parts[i + 1]);
    const std::string& op = e.operators[i];
    bool holds = false;
    if (op == "==" || op == "!=") {
      holds = equal(run_, left, right) == (op == "==");
    } else if (op == "in" || op == "not in") {
      holds = contains(run_, right, left) == (op == "in");
    } else {
      const int order = mora::jinja::compare(run_, left, right);
      holds = op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
    }
    if (!holds) return false;
    left = right;
  }
  return true;
}

Arguments Renderer::arguments(const Expression& e, std::string callee) {
  std::vector<std::pair<std::string, Value>> named;
  std::vector<Value> positional = values(e.parts, 1);
  for (const auto& [parameter, part] : e.named) named.emplace_back(parameter, evaluate(part));
  return {run_, std::move(callee), std::move(positional), std::move(named)};
}

}  // namespace mora::jinja
