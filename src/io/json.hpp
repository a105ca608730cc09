// Strict JSON: what is read was written exactly so. Duplicate keys, deep nesting, oversized input,
// NUL bytes and numbers that do not fit are errors that name source, line and column; non-finite
// numbers never turn into null.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mora/core/error.hpp"

namespace mora {

using Json = nlohmann::ordered_json;  // keys keep their order; finding one is linear

enum class JsonComments { refused, allowed };  // as in C++: `//` and `/* */`

struct JsonOptions {
  size_t max_bytes = size_t{16} << 20;
  int max_depth = 64;
  JsonComments comments = JsonComments::refused;
  int64_t first_line = 1;  // number of the text's first line, for a line of a JSON Lines file
  ErrorKind kind = ErrorKind::data;
};

using JsonLines = std::map<std::string, int64_t>;  // JSON pointer -> line of its key (or of itself)

// Errors read "source:line:column: ..." and are of options.kind. `lines`, if given, receives every
// value's line.
Json parse_json(std::string_view text, std::string_view source, const JsonOptions& options = {},
                JsonLines* lines = nullptr);

// The text of one document and how far a parser has come in it.
class JsonText {
 public:
  // Refuses what is too large or holds a NUL byte.
  JsonText(std::string_view text, std::string_view source, const JsonOptions& options);

  [[noreturn]] void reject(std::string_view problem) const;  // at the present position
  int64_t line();                                            // of the present token
  const JsonOptions& options() const { return options_; }

 private:
  friend class JsonCursor;
  friend void parse_json_events(JsonText&, class JsonHandler&);

  std::string_view text_;
  std::string source_;
  JsonOptions options_;
  const char* at_;       // one past the last byte that was consumed
  const char* counted_;  // line_ is right for this place
  int64_t line_;
};

// Events of a document, for readers that need no tree; limits on depth and duplicate keys are
// theirs. To stop with an error, throw through text().reject().
class JsonHandler : public nlohmann::json_sax<Json> {
 public:
  explicit JsonHandler(JsonText& text) : text_(text) {}

  bool binary(binary_t&) final { return true; }  // never sent for text
  bool parse_error(size_t position, const std::string& token,
                   const nlohmann::detail::exception& error) final;

 protected:
  JsonText& text() { return text_; }

 private:
  JsonText& text_;
};

void parse_json_events(JsonText& text, JsonHandler& handler);

// Lossless conversions; false, and `value` as it was, where the JSON value is something else.
// to_int takes integers and integral doubles below 2^53; neither takes booleans or strings.
bool to_int(const Json& json, int64_t& value);
bool to_double(const Json& json, double& value);

// A finite number as a number, else "NaN", "Infinity" or "-Infinity".
Json json_number(double value);

// The text of a JSON value. A non-finite number in it is an internal error; bytes in strings that
// are not UTF-8 become U+FFFD.
std::string dump_json(const Json& json, int indent = -1);

// ("/a", "b/c") -> "/a/b~1c".
std::string json_pointer(std::string_view parent, std::string_view key);

// The text of a document that parse_json() has accepted, and where in a file it begins.
struct JsonOrigin {
  std::string_view text;
  std::string_view name;  // of the file
  int64_t line = 1, column = 1;

  JsonOrigin later(size_t offset) const;              // the text from there on
  std::string place(std::string_view pointer) const;  // "name:line:column" of a value
};

// The items of an array, in order.
std::vector<JsonOrigin> json_items(const JsonOrigin& array);

// A value of a parsed document that knows where it came from. Every getter throws Error(data) with
// source (line and column, where an origin is given), pointer, what was expected and what was
// found. Document and origin must outlive it.
class JsonView {
 public:
  JsonView(const Json& json, std::string source, std::string pointer = "",
           const JsonOrigin* origin = nullptr)
      : json_(&json), source_(std::move(source)), pointer_(std::move(pointer)), origin_(origin) {}

  const Json& json() const { return *json_; }
  std::string place() const { return origin_ == nullptr ? source_ : origin_->place(pointer_); }
  bool has(std::string_view key) const;     // an object with that key and a value other than null
  JsonView at(std::string_view key) const;  // the key must exist
  std::vector<JsonView> items() const;      // of an array
  std::vector<std::pair<std::string, JsonView>> members() const;  // of an object

  int64_t integer() const;    // lossless
  double number() const;      // a JSON number
  double any_number() const;  // a JSON number or one of json_number's three strings
  bool boolean() const;
  std::string string() const;

  [[noreturn]] void wrong(std::string_view problem) const;  // "source: /pointer: problem"
  [[noreturn]] void wrong_type(std::string_view expected) const;

 private:
  const Json* json_;
  std::string source_;
  std::string pointer_;
  const JsonOrigin* origin_;
};

// A short form of a value for messages.
std::string brief(const Json& json);

}  // namespace mora
