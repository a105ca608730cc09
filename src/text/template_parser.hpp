// The parser's state; expressions are in template_parser.cpp, statements in
// template_statements.cpp.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "text/template_syntax.hpp"

namespace mora::jinja {

class Parser {
 public:
  Parser(std::string_view source, const std::string& name)
      : name_(name), tokens_(tokenize(source, name)) {}

  std::vector<Statement> statements();  // the whole template

 private:
  enum class Filters : uint8_t { no, yes };

  // Counts how deep the parser is in brackets, operators and statements.
  class Level {
   public:
    explicit Level(Parser& parser);
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --parser_.nesting_; }

   private:
    Parser& parser_;
  };

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& next() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }
  bool is(Token::Kind kind, std::string_view text) const;
  bool skip_if(Token::Kind kind, std::string_view text);
  bool skip_name(std::string_view name) { return skip_if(Token::Kind::name, name); }
  void expect_op(std::string_view op);
  std::string expect_name();
  void end_block();
  [[noreturn]] void reject(std::string_view problem) const;
  [[noreturn]] void unexpected() const;
  [[noreturn]] void unsupported(std::string_view what) const {
    fail_unsupported(name_, now().line, what);
  }

  Expression make(Expression::Kind kind, std::string text, std::vector<Expression> parts);
  Expression one(Expression::Kind kind, std::string text, Expression part);
  Expression pair(std::string op, Expression left, Expression right);
  Expression constant(Value value);
  Expression measured(Expression e);

  Expression expression();
  Expression disjunction();
  Expression conjunction();
  Expression negation();
  Expression comparison();
  Expression sum();
  Expression concatenation();
  Expression product();
  Expression unary(Filters filters);
  Expression primary();
  Expression number();
  Expression tuple();
  Expression dictionary();
  std::vector<Expression> items(std::string_view end);
  Expression with_postfixes(Expression e);
  Expression subscript(Expression e);
  Expression with_arguments(Expression e);
  Expression with_filters(Expression e);
  Expression test(Expression e);

  // Statements up to a block whose first name is one of `ends`; that name is consumed.
  std::vector<Statement> body(std::span<const std::string_view> ends, std::string& end);
  Statement block(const std::string& name);
  Statement branch();
  Statement loop();
  Statement assignment();
  Statement macro();
  Statement generation();
  std::vector<std::string> targets();
  std::string target();

  const std::string& name_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0, loops_ = 0, closed_ = 0;  // closed_: macros and captures around
};

}  // namespace mora::jinja
