// The strict JSON reader, over nlohmann's event parser: the library checks the grammar and UTF-8,
// this file the rest.
#include "io/json.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <unordered_set>

#include "mora/io/text.hpp"

namespace mora {

// An input iterator that leaves the parser's position in the JsonText.
class JsonCursor {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  JsonCursor(JsonText* text, const char* at) : text_(text), at_(at) {}
  reference operator*() const { return *at_; }
  JsonCursor& operator++() {
    text_->at_ = ++at_;
    return *this;
  }
  bool operator==(const JsonCursor& other) const { return at_ == other.at_; }
  bool operator!=(const JsonCursor& other) const { return at_ != other.at_; }

 private:
  JsonText* text_;
  const char* at_;
};

JsonText::JsonText(std::string_view text, std::string_view source, const JsonOptions& options)
    : text_(text),
      source_(printable(source, 4096)),
      options_(options),
      at_(text.data()),
      counted_(text.data()),
      line_(options.first_line) {
  if (text.size() > options.max_bytes) {
    fail(options.kind, source_, ": ", text.size(), " bytes of JSON; at most ", options.max_bytes,
         " are allowed");
  }
  // The library takes a NUL byte for the end of the text and would ignore what follows.
  const size_t nul = text.find('\0');
  if (nul != std::string_view::npos) {
    at_ = text.data() + nul + 1;
    reject("NUL byte in JSON text");
  }
}

void JsonText::reject(std::string_view problem) const {
  const auto consumed = static_cast<size_t>(at_ - text_.data());
  const std::string_view before = text_.substr(0, consumed == 0 ? 0 : consumed - 1);
  const auto newlines = std::count(before.begin(), before.end(), '\n');
  const size_t last = before.rfind('\n');
  const size_t column = last == std::string_view::npos ? before.size() + 1 : before.size() - last;
  fail(options_.kind, source_, ":", options_.first_line + newlines, ":", column, ": ",
       printable(problem, 1000));
}

int64_t JsonText::line() {
  // The parser reads one byte beyond a number; a newline there is not part of it.
  const char* end = at_ == text_.data() ? at_ : at_ - 1;
  if (end > counted_) {
    line_ += std::count(counted_, end, '\n');
    counted_ = end;
  }
  return line_;
}

bool JsonHandler::parse_error(size_t, const std::string&,
                              const nlohmann::detail::exception& error) {
  // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error while ..."
  std::string_view message = error.what();
  if (const size_t end = message.find("] "); end != std::string_view::npos) {
    message.remove_prefix(end + 2);
  }
  if (message.starts_with("parse error")) {
    if (const size_t end = message.find(": "); end != std::string_view::npos) {
      message.remove_prefix(end + 2);
    }
  }
  text_.reject(message);
}

void parse_json_events(JsonText& text, JsonHandler& handler) {
  const char* begin = text.text_.data();
  const bool done =
      Json::sax_parse(JsonCursor(&text, begin), JsonCursor(&text, begin + text.text_.size()),
                      &handler, nlohmann::detail::input_format_t::json, true,
                      text.options_.comments == JsonComments::allowed);
  ensure(done, "JSON handler stopped without an error");
}

namespace {

// Builds the tree; refuses duplicate keys and deep nesting while it does.
class TreeBuilder : public JsonHandler {
 public:
  TreeBuilder(JsonText& text, JsonLines* lines) : JsonHandler(text), lines_(lines) {}

  Json take() { return std::move(root_); }

  bool null() override { return value(nullptr); }
  bool boolean(bool v) override { return value(v); }
  bool number_integer(int64_t v) override { return value(v); }
  bool number_unsigned(uint64_t v) override { return value(v); }
  bool number_float(double v, const std::string&) override { return value(v); }
  bool string(std::string& v) override { return value(std::move(v)); }
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    Level& level = levels_.back();
    if (!level.keys.insert(name).second) text().reject(str("duplicate key \"", name, "\""));
    level.key = name;
    if (lines_ != nullptr) (*lines_)[json_pointer(level.pointer, name)] = text().line();
    return true;
  }

 private:
  struct Level {
    Json json;
    std::string pointer;
    std::string key;
    std::unordered_set<std::string> keys;
  };

  // Where the next value goes; only used when lines are wanted.
  std::string next_pointer() const {
    if (levels_.empty()) return "";
    const Level& level = levels_.back();
    return json_pointer(level.pointer,
                        level.json.is_array() ? std::to_string(level.json.size()) : level.key);
  }

  void note_line() {
    if (lines_ == nullptr || (!levels_.empty() && levels_.back().json.is_object())) return;
    (*lines_)[next_pointer()] = text().line();
  }

  bool value(Json v) {
    note_line();
    attach(std::move(v));
    return true;
  }

  bool open(Json container) {
    if (levels_.size() >= static_cast<size_t>(text().options().max_depth)) {
      text().reject(str("nested deeper than ", text().options().max_depth, " levels"));
    }
    note_line();
    std::string pointer = lines_ == nullptr ? "" : next_pointer();
    levels_.push_back({std::move(container), std::move(pointer), {}, {}});
    return true;
  }

  bool close() {
    Json done = std::move(levels_.back().json);
    levels_.pop_back();
    attach(std::move(done));
    return true;
  }

  void attach(Json v) {
    if (levels_.empty()) {
      root_ = std::move(v);
      return;
    }
    Level& level = levels_.back();
    if (level.json.is_array()) {
      level.json.push_back(std::move(v));
    } else {
      // Past the map's own insertion, which would look through all earlier keys again.
      Json::object_t& object = level.json.get_ref<Json::object_t&>();
      object.emplace_back(std::move(level.key), std::move(v));
    }
  }

  JsonLines* lines_;
  std::vector<Level> levels_;
  Json root_;
};

void ensure_finite(const Json& json) {
  if (json.is_number_float()) {
    ensure(std::isfinite(json.get<double>()), "a non-finite number would be written as null");
  }
  if (json.is_structured()) {
    for (const Json& item : json) ensure_finite(item);
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view source, const JsonOptions& options,
                JsonLines* lines) {
  JsonText document(text, source, options);
  TreeBuilder builder(document, lines);
  parse_json_events(document, builder);
  return builder.take();
}

bool to_int(const Json& json, int64_t& value) {
  constexpr double kExact =
      9007199254740992.0;  // 2^53: from here on a double may have been rounded
  if (json.is_number_unsigned()) {
    const auto v = json.get<uint64_t>();
    if (v > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return false;
    value = static_cast<int64_t>(v);
    return true;
  }
  if (json.is_number_float()) {
    const auto v = json.get<double>();
    if (!(std::abs(v) < kExact) || v != std::trunc(v)) return false;
    value = static_cast<int64_t>(v);
    return true;
  }
  if (!json.is_number_integer()) return false;
  value = json.get<int64_t>();
  return true;
}

bool to_double(const Json& json, double& value) {
  if (!json.is_number()) return false;
  const auto v = json.get<double>();
  if (!std::isfinite(v)) return false;
  value = v;
  return true;
}

Json json_number(double value) {
  if (std::isfinite(value)) return value;
  if (std::isnan(value)) return "NaN";
  return value > 0 ? "Infinity" : "-Infinity";
}

std::string dump_json(const Json& json, int indent) {
  ensure_finite(json);
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string json_pointer(std::string_view parent, std::string_view key) {
  std::string pointer(parent);
  pointer += '/';
  for (char c : key) {
    if (c == '~') {
      pointer += "~0";
    } else if (c == '/') {
      pointer += "~1";
    } else {
      pointer += c;
    }
  }
  return pointer;
}

std::string brief(const Json& json) {
  if (json.is_object()) return "an object";
  if (json.is_array()) return "an array";
  return printable(json.dump(-1, ' ', false, Json::error_handler_t::replace), 80);
}

bool JsonView::has(std::string_view key) const {
  const auto found = json_->find(std::string(key));
  return json_->is_object() && found != json_->end() && !found->is_null();
}

JsonView JsonView::at(std::string_view key) const {
  if (!json_->is_object()) wrong_type("an object");
  const auto found = json_->find(std::string(key));
  if (found == json_->end()) wrong(str("key \"", printable(key), "\" is missing"));
  return {*found, source_, json_pointer(pointer_, key), origin_};
}

std::vector<JsonView> JsonView::items() const {
  if (!json_->is_array()) wrong_type("an array");
  std::vector<JsonView> views;
  for (const Json& item : *json_) {
    views.emplace_back(item, source_, json_pointer(pointer_, std::to_string(views.size())),
                       origin_);
  }
  return views;
}

std::vector<std::pair<std::string, JsonView>> JsonView::members() const {
  if (!json_->is_object()) wrong_type("an object");
  std::vector<std::pair<std::string, JsonView>> views;
  for (const auto& [key, item] : json_->items()) {
    views.emplace_back(key, JsonView(item, source_, json_pointer(pointer_, key), origin_));
  }
  return views;
}

int64_t JsonView::integer() const {
  int64_t value = 0;
  if (!to_int(*json_, value)) wrong_type("an integer");
  return value;
}

double JsonView::number() const {
  double value = 0;
  if (!to_double(*json_, value)) wrong_type("a number");
  return value;
}

double JsonView::any_number() const {
  if (!json_->is_string()) return number();
  const auto& text = json_->get_ref<const std::string&>();
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (text == "Infinity") return std::numeric_limits<double>::infinity();
  if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
  wrong_type("a number, \"NaN\", \"Infinity\" or \"-Infinity\"");
}

bool JsonView::boolean() const {
  if (!json_->is_boolean()) wrong_type("true or false");
  return json_->get<bool>();
}

std::string JsonView::string() const {
  if (!json_->is_string()) wrong_type("a string");
  return json_->get<std::string>();
}

void JsonView::wrong(std::string_view problem) const {
  fail(ErrorKind::data, printable(place(), 4096), ": ",
       pointer_.empty() ? "" : printable(pointer_) + ": ", problem);
}

void JsonView::wrong_type(std::string_view expected) const {
  wrong(str("expected ", expected, ", got ", brief(*json_)));
}

}  // namespace mora
