// The syntax of chat templates: tokens, and the trees of expressions and statements.
//
// The grammar is Jinja 2's. Statements that the renderer cannot do are refused here already, by name
// and line; filters, tests and functions when they are used, because templates for tools have them
// in branches that no conversation without tools enters.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template_value.hpp"

namespace mora::jinja {

struct Token {
  enum class Kind : uint8_t {
    data,
    begin_block,
    end_block,
    begin_value,
    end_value,
    name,
    text,
    integer,
    real,
    op,
    end
  } kind;
  int line;
  std::string text;  // of data and strings: their value
};

// The tokens of a template, with white space trimmed as trim_blocks, lstrip_blocks and the signs at
// the tags say. The last one is Kind::end.
std::vector<Token> tokenize(std::string_view source, const std::string& name);

struct Expression {
  enum class Kind : uint8_t {
    constant,
    name,
    list,
    tuple,
    dict,       // parts: key, value, key, value ...
    attribute,  // parts[0].text
    item,       // parts[0][parts[1]]
    slice,      // parts[0][parts[1]:parts[2]:parts[3]], none where left out
    call,       // parts[0](parts[1], ..., named)
    filter,     // parts[0] | text(parts[1], ..., named)
    test,       // parts[0] is text(parts[1], ...)
    unary,      // text: "-", "+", "not"
    binary,     // text: "+", "and", "~" ...
    compare,    // parts[0] operators[0] parts[1] operators[1] parts[2] ...
    condition   // parts[0] if parts[1] else parts[2]
  } kind;
  int line;
  std::string text = {};
  Value constant = {};
  std::vector<Expression> parts = {};
  std::vector<std::pair<std::string, Expression>> named = {};
  std::vector<std::string> operators = {};
  int depth = 1;
};

struct Statement {
  enum class Kind : uint8_t {
    data,        // text
    output,      // expressions[0]
    branch,      // if expressions[0]: body, else: otherwise
    loop,        // for targets in expressions[0] (if expressions[1]): body, else: otherwise
    assign,      // targets = expressions[0]; or target text.targets[0] when text is not empty
    capture,     // targets[0] = what body renders
    macro,       // text(targets): body; expressions are the last targets' default values
    generation,  // body is what the assistant says
    stop,        // break
    next         // continue
  } kind;
  int line;
  std::string text = {};
  std::vector<std::string> targets = {};
  std::vector<Expression> expressions = {};
  std::vector<Statement> body = {}, otherwise = {};
};

struct Macro {
  const Statement* statement;
};

std::vector<Statement> parse(std::string_view source, const std::string& name);

}  // namespace mora::jinja
