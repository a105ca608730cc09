// Recursive descent over the tokens, with Jinja 2's precedences. Nesting is bounded in the source
// and in the trees, so that whoever walks a tree may recurse.
#include "text/template_parser.hpp"

#include <algorithm>
#include <charconv>

#include "mora/io/text.hpp"

namespace mora::jinja {

namespace {

using Kind = Expression::Kind;

constexpr int kMaxNesting = 60;     // of brackets, operators without end, statements
constexpr int kMaxTreeDepth = 250;  // also of chains such as a + b + c

}  // namespace

void Parser::reject(std::string_view problem) const {
  fail(ErrorKind::data, name_, ": line ", now().line, ": ", problem);
}

void Parser::unexpected() const {
  switch (now().kind) {
    case Token::Kind::end:
      reject("the template ends too early");
    case Token::Kind::end_block:
    case Token::Kind::end_value:
      reject("the tag ends too early");
    default:
      reject(str("unexpected `", printable(now().text, 60), "`"));
  }
}

bool Parser::is(Token::Kind kind, std::string_view text) const {
  return now().kind == kind && now().text == text;
}

bool Parser::skip_if(Token::Kind kind, std::string_view text) {
  if (!is(kind, text)) return false;
  next();
  return true;
}

void Parser::expect_op(std::string_view op) {
  if (!skip_if(Token::Kind::op, op)) unexpected();
}

std::string Parser::expect_name() {
  if (now().kind != Token::Kind::name) unexpected();
  return next().text;
}

Expression Parser::make(Kind kind, std::string text, std::vector<Expression> parts) {
  Expression e{
      .kind = kind, .line = now().line, .text = std::move(text), .parts = std::move(parts)};
  return measured(std::move(e));
}

Expression Parser::measured(Expression e) {
  int deepest = 0;
  for (const Expression& p : e.parts) deepest = std::max(deepest, p.depth);
  for (const auto& n : e.named) deepest = std::max(deepest, n.second.depth);
  e.depth = deepest + 1;
  if (e.depth > kMaxTreeDepth) reject("an expression is nested too deep");
  return e;
}

Parser::Level::Level(Parser& parser) : parser_(parser) {
  if (++parser_.nesting_ > kMaxNesting) parser_.reject("the template is nested too deep");
}

Expression Parser::expression() {
  const Level level(*this);
  Expression e = disjunction();
  while (skip_name("if")) {
    std::vector<Expression> parts;
    parts.push_back(std::move(e));
    parts.push_back(disjunction());
    if (skip_name("else")) {
      parts.push_back(expression());
    } else {
      parts.push_back(Expression{
          .kind = Kind::constant, .line = now().line, .constant = Undefined{"the missing else"}});
    }
    e = make(Kind::condition, "", std::move(parts));
  }
  return e;
}

Expression Parser::pair(std::string op, Expression left, Expression right) {
  std::vector<Expression> parts;
  parts.push_back(std::move(left));
  parts.push_back(std::move(right));
  return make(Kind::binary, std::move(op), std::move(parts));
}

Expression Parser::disjunction() {
  Expression left = conjunction();
  while (skip_name("or")) left = pair("or", std::move(left), conjunction());
  return left;
}

Expression Parser::conjunction() {
  Expression left = negation();
  while (skip_name("and")) left = pair("and", std::move(left), negation());
  return left;
}

Expression Parser::one(Kind kind, std::string text, Expression part) {
  std::vector<Expression> parts;
  parts.push_back(std::move(part));
  return make(kind, std::move(text), std::move(parts));
}

Expression Parser::negation() {
  const Level level(*this);
  if (skip_name("not")) return one(Kind::unary, "not", negation());
  return comparison();
}

Expression Parser::comparison() {
  static constexpr std::array<std::string_view, 6> kOperators = {"==", "!=", ">", ">=", "<", "<="};
  std::vector<Expression> parts;
  std::vector<std::string> operators;
  parts.push_back(sum());
  for (;;) {
    if (now().kind == Token::Kind::op &&
        std::ranges::find(kOperators, now().text) != kOperators.end()) {
      operators.push_back(next().text);
    } else if (skip_name("in")) {
      operators.emplace_back("in");
    } else if (is(Token::Kind::name, "not") && ahead().kind == Token::Kind::name &&
               ahead().text == "in") {
      next(), next();
      operators.emplace_back("not in");
    } else {
      break;
    }
    parts.push_back(sum());
  }
  if (operators.empty()) return std::move(parts[0]);
  Expression e = make(Kind::compare, "", std::move(parts));
  e.operators = std::move(operators);
  return e;
}

Expression Parser::sum() {
  Expression left = concatenation();
  while (is(Token::Kind::op, "+") || is(Token::Kind::op, "-")) {
    std::string op = next().text;
    left = pair(std::move(op), std::move(left), concatenation());
  }
  return left;
}

Expression Parser::concatenation() {
  Expression left = product();
  while (skip_if(Token::Kind::op, "~")) left = pair("~", std::move(left), product());
  return left;
}

Expression Parser::product() {
  Expression left = unary(Filters::yes);
  for (;;) {
    if (is(Token::Kind::op, "**")) unsupported("**");
    if (!is(Token::Kind::op, "*") && !is(Token::Kind::op, "/") && !is(Token::Kind::op, "//") &&
        !is(Token::Kind::op, "%"))
      return left;
    std::string op = next().text;
    left = pair(std::move(op), std::move(left), unary(Filters::yes));
  }
}

Expression Parser::unary(Filters filters) {
  const Level level(*this);
  Expression e = [&] {
    if (is(Token::Kind::op, "-") || is(Token::Kind::op, "+")) {
      std::string op = next().text;
      return one(Kind::unary, std::move(op), unary(Filters::no));
    }
    return primary();
  }();
  e = with_postfixes(std::move(e));
  return filters == Filters::yes ? with_filters(std::move(e)) : std::move(e);
}

Expression Parser::constant(Value value) {
  return {.kind = Kind::constant, .line = now().line, .constant = std::move(value)};
}

Expression Parser::number() {
  const std::string& text = now().text;
  const char *begin = text.data(), *end = begin + text.size();
  int64_t integer = 0;
  double real = 0;
  if (now().kind == Token::Kind::integer) {
    if (std::from_chars(begin, end, integer).ec != std::errc()) reject("a number is too large");
  } else {
    std::from_chars(begin, end, real);
  }
  Expression e = now().kind == Token::Kind::integer ? constant(integer) : constant(real);
  next();
  return e;
}

Expression Parser::primary() {
  switch (now().kind) {
    case Token::Kind::name: {
      const std::string name = next().text;
      if (name == "true" || name == "True") return constant(true);
      if (name == "false" || name == "False") return constant(false);
      if (name == "none" || name == "None") return constant(Value());
      return make(Kind::name, name, {});
    }
    case Token::Kind::text: {
      std::string text;
      while (now().kind == Token::Kind::text) text += next().text;
      return constant(std::move(text));
    }
    case Token::Kind::integer:
    case Token::Kind::real:
      return number();
    default:
      break;
  }
  if (skip_if(Token::Kind::op, "(")) {
    Expression e = is(Token::Kind::op, ")") ? make(Kind::tuple, "", {}) : tuple();
    expect_op(")");
    return e;
  }
  if (skip_if(Token::Kind::op, "[")) return make(Kind::list, "", items("]"));
  if (skip_if(Token::Kind::op, "{")) return dictionary();
  unexpected();
}

Expression Parser::tuple() {
  std::vector<Expression> parts;
  parts.push_back(expression());
  if (!is(Token::Kind::op, ",")) return std::move(parts[0]);
  while (skip_if(Token::Kind::op, ",")) {
    if (is(Token::Kind::op, ")") || now().kind == Token::Kind::end_block ||
        now().kind == Token::Kind::end_value)
      break;
    parts.push_back(expression());
  }
  return make(Kind::tuple, "", std::move(parts));
}

std::vector<Expression> Parser::items(std::string_view end) {
  std::vector<Expression> parts;
  while (!skip_if(Token::Kind::op, end)) {
    if (!parts.empty()) {
      expect_op(",");
      if (skip_if(Token::Kind::op, end)) break;
    }
    parts.push_back(expression());
  }
  return parts;
}

Expression Parser::dictionary() {
  std::vector<Expression> parts;
  while (!skip_if(Token::Kind::op, "}")) {
    if (!parts.empty()) {
      expect_op(",");
      if (skip_if(Token::Kind::op, "}")) break;
    }
    parts.push_back(expression());
    expect_op(":");
    parts.push_back(expression());
  }
  return make(Kind::dict, "", std::move(parts));
}

Expression Parser::with_postfixes(Expression e) {
  for (;;) {
    if (skip_if(Token::Kind::op, ".")) {
      if (now().kind == Token::Kind::integer) {
        std::vector<Expression> parts;
        parts.push_back(std::move(e));
        parts.push_back(number());
        e = make(Kind::item, "", std::move(parts));
      } else {
        std::string name = expect_name();
        e = one(Kind::attribute, std::move(name), std::move(e));
      }
    } else if (skip_if(Token::Kind::op, "[")) {
      e = subscript(std::move(e));
    } else if (skip_if(Token::Kind::op, "(")) {
      e = with_arguments(one(Kind::call, "", std::move(e)));
    } else {
      return e;
    }
  }
}

Expression Parser::subscript(Expression e) {
  std::vector<Expression> parts;
  parts.push_back(std::move(e));
  bool slice = false;
  for (bool expect_part = true; !skip_if(Token::Kind::op, "]");) {
    if (skip_if(Token::Kind::op, ":")) {
      if (expect_part) parts.push_back(constant(Value()));
      slice = expect_part = true;
    } else if (expect_part) {
      parts.push_back(expression());
      expect_part = false;
    } else {
      unexpected();
    }
  }
  if (!slice && parts.size() != 2) unexpected();
  if (!slice) return make(Kind::item, "", std::move(parts));
  while (parts.size() < 4) parts.push_back(constant(Value()));
  if (parts.size() > 4) unexpected();
  return make(Kind::slice, "", std::move(parts));
}

// After "(": arguments up to ")".
Expression Parser::with_arguments(Expression e) {
  bool first = true;
  while (!skip_if(Token::Kind::op, ")")) {
    if (!first) {
      expect_op(",");
      if (skip_if(Token::Kind::op, ")")) break;
    }
    first = false;
    if (is(Token::Kind::op, "*") || is(Token::Kind::op, "**"))
      unsupported(now().text + "arguments");
    if (now().kind == Token::Kind::name && ahead().kind == Token::Kind::op && ahead().text == "=") {
      std::string name = next().text;
      next();
      e.named.emplace_back(std::move(name), expression());
    } else {
      if (!e.named.empty()) reject("an argument without a name follows one with a name");
      e.parts.push_back(expression());
    }
  }
  return measured(std::move(e));
}

Expression Parser::with_filters(Expression e) {
  for (;;) {
    if (skip_if(Token::Kind::op, "|")) {
      std::string name = expect_name();
      e = one(Kind::filter, std::move(name), std::move(e));
      if (skip_if(Token::Kind::op, "(")) e = with_arguments(std::move(e));
    } else if (skip_name("is")) {
      e = test(std::move(e));
    } else if (skip_if(Token::Kind::op, "(")) {
      e = with_arguments(one(Kind::call, "", std::move(e)));
    } else {
      return e;
    }
  }
}

Expression Parser::test(Expression e) {
  const bool negated = skip_name("not");
  std::string name = expect_name();
  e = one(Kind::test, std::move(name), std::move(e));
  const bool keyword = is(Token::Kind::name, "else") || is(Token::Kind::name, "or") ||
                       is(Token::Kind::name, "and") || is(Token::Kind::name, "if") ||
                       is(Token::Kind::name, "is") || is(Token::Kind::name, "in") ||
                       is(Token::Kind::name, "not");
  if (skip_if(Token::Kind::op, "(")) {
    e = with_arguments(std::move(e));
  } else if (!keyword && (now().kind == Token::Kind::name || now().kind == Token::Kind::text ||
                          now().kind == Token::Kind::integer || now().kind == Token::Kind::real ||
                          is(Token::Kind::op, "[") || is(Token::Kind::op, "{"))) {
    e.parts.push_back(with_postfixes(primary()));
    e = measured(std::move(e));
  }
  return negated ? one(Kind::unary, "not", std::move(e)) : std::move(e);
}

}  // namespace mora::jinja
