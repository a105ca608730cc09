// Blocks of a chat template. What cannot be rendered exactly is refused by name.
#include <algorithm>

#include "mora/io/text.hpp"
#include "text/template_parser.hpp"

namespace mora::jinja {

namespace {

using Kind = Statement::Kind;

}  // namespace

void Parser::end_block() {
  if (now().kind != Token::Kind::end_block) unexpected();
  next();
}

std::vector<Statement> Parser::statements() {
  std::string end;
  return body({}, end);
}

std::vector<Statement> Parser::body(std::span<const std::string_view> ends, std::string& end) {
  const Level level(*this);
  std::vector<Statement> result;
  for (;;) {
    const int line = now().line;
    switch (now().kind) {
      case Token::Kind::data:
        result.push_back({.kind = Kind::data, .line = line, .text = next().text});
        break;
      case Token::Kind::begin_value: {
        next();
        Statement output{.kind = Kind::output, .line = line};
        output.expressions.push_back(tuple());
        if (now().kind != Token::Kind::end_value) unexpected();
        next();
        result.push_back(std::move(output));
        break;
      }
      case Token::Kind::begin_block: {
        next();
        const std::string name = expect_name();
        if (std::ranges::find(ends, name) != ends.end()) {
          end = name;
          return result;
        }
        result.push_back(block(name));
        break;
      }
      default:
        if (now().kind != Token::Kind::end || !ends.empty()) unexpected();
        return result;
    }
  }
}

Statement Parser::block(const std::string& name) {
  if (name == "if") return branch();
  if (name == "for") return loop();
  if (name == "set") return assignment();
  if (name == "macro") return macro();
  if (name == "generation") return generation();
  if (name == "break" || name == "continue") {
    if (loops_ == 0) reject(str("`", name, "` outside a loop"));
    Statement s{.kind = name == "break" ? Kind::stop : Kind::next, .line = now().line};
    end_block();
    return s;
  }
  if (name.starts_with("end") || name == "else" || name == "elif")
    reject(str("unexpected `", printable(name, 60), "`"));
  unsupported(name);
}

// After "if" or "elif".
Statement Parser::branch() {
  static constexpr std::array<std::string_view, 3> kEnds = {"elif", "else", "endif"};
  const Level level(*this);
  Statement s{.kind = Kind::branch, .line = now().line};
  s.expressions.push_back(tuple());
  end_block();
  std::string end;
  s.body = body(kEnds, end);
  if (end == "elif") {
    s.otherwise.push_back(branch());
    return s;
  }
  end_block();
  if (end == "else") {
    s.otherwise = body(std::span(kEnds).last(1), end);
    end_block();
  }
  return s;
}

std::string Parser::target() {
  std::string name = expect_name();
  if (name == "loop" || name == "true" || name == "false" || name == "none")
    reject(str("`", name, "` cannot be assigned"));
  return name;
}

std::vector<std::string> Parser::targets() {
  const bool bracket = skip_if(Token::Kind::op, "(");
  std::vector<std::string> names = {target()};
  while (skip_if(Token::Kind::op, ",")) names.push_back(target());
  if (bracket) expect_op(")");
  return names;
}

Statement Parser::loop() {
  static constexpr std::array<std::string_view, 2> kEnds = {"else", "endfor"};
  Statement s{.kind = Kind::loop, .line = now().line};
  s.targets = targets();
  if (!skip_name("in")) unexpected();
  s.expressions.push_back(disjunction());
  if (is(Token::Kind::op, ",")) unsupported("a tuple without brackets in for");
  if (skip_name("if")) s.expressions.push_back(expression());
  if (is(Token::Kind::name, "recursive")) unsupported("recursive");
  end_block();
  std::string end;
  ++loops_;
  s.body = body(kEnds, end);
  --loops_;
  end_block();
  if (end == "else") {
    s.otherwise = body(std::span(kEnds).last(1), end);
    end_block();
  }
  return s;
}

Statement Parser::assignment() {
  static constexpr std::array<std::string_view, 1> kEnds = {"endset"};
  Statement s{.kind = Kind::assign, .line = now().line};
  if (now().kind == Token::Kind::name && ahead().kind == Token::Kind::op && ahead().text == ".") {
    s.text = next().text;
    next();
    s.targets = {expect_name()};
  } else {
    s.targets = targets();
  }
  if (skip_if(Token::Kind::op, "=")) {
    s.expressions.push_back(tuple());
    end_block();
    return s;
  }
  if (is(Token::Kind::op, "|")) unsupported("set with a filter");
  if (!s.text.empty() || s.targets.size() != 1) unexpected();
  s.kind = Kind::capture;
  end_block();
  std::string end;
  ++closed_;
  s.body = body(kEnds, end);
  --closed_;
  end_block();
  return s;
}

Statement Parser::macro() {
  static constexpr std::array<std::string_view, 1> kEnds = {"endmacro"};
  if (loops_ > 0 || closed_ > 0) unsupported("macro inside another block");
  Statement s{.kind = Kind::macro, .line = now().line, .text = target()};
  expect_op("(");
  while (!skip_if(Token::Kind::op, ")")) {
    if (!s.targets.empty()) expect_op(",");
    s.targets.push_back(target());
    if (skip_if(Token::Kind::op, "=")) {
      s.expressions.push_back(expression());
    } else if (!s.expressions.empty()) {
      reject("a parameter without a default value follows one with one");
    }
  }
  end_block();
  std::string end;
  ++closed_;
  s.body = body(kEnds, end);
  --closed_;
  end_block();
  return s;
}

Statement Parser::generation() {
  static constexpr std::array<std::string_view, 1> kEnds = {"endgeneration"};
  if (closed_ > 0) unsupported("generation inside macro or set");
  Statement s{.kind = Kind::generation, .line = now().line};
  end_block();
  std::string end;
  ++closed_;
  const int loops = std::exchange(loops_, 0);
  s.body = body(kEnds, end);
  loops_ = loops;
  --closed_;
  end_block();
  return s;
}

std::vector<Statement> parse(std::string_view source, const std::string& name) {
  return Parser(source, name).statements();
}

}  // namespace mora::jinja
