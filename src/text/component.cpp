// Errors here name the file, the place in it and what is supported.
#include "text/component.hpp"

#include <algorithm>

#include "mora/io/text.hpp"
#include "text/unicode.hpp"

namespace mora {

std::string component_type(const JsonView& json) {
  return json.at("type").string();
}

void check_keys(const JsonView& json, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : json.members()) {
    if (key != "type" && std::find(known.begin(), known.end(), key) == known.end()) {
      value.wrong("this key is not known here, so the file may need what is not supported");
    }
  }
}

void refuse_type(const JsonView& json, std::string_view what, std::string_view supported) {
  json.wrong(str("the ", what, " \"", printable(component_type(json)),
                 "\" is not supported; supported are ", supported));
}

char32_t read_character(const JsonView& json) {
  const std::string text = json.string();
  if (text.empty() || code_point_bytes(text, 0) != text.size()) json.wrong_type("one character");
  size_t at = 0;
  return next_code_point(text, at);
}

bool boolean_or(const JsonView& json, std::string_view key, bool otherwise) {
  return json.has(key) ? json.at(key).boolean() : otherwise;
}

Regex read_regex(const JsonView& json) {
  try {
    return Regex(json.string());
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::data || !json.json().is_string()) throw;
    json.wrong(error.what());
  }
}

namespace {

void flatten(const JsonView& json, std::string_view list_key, std::vector<JsonView>& out) {
  if (component_type(json) != "Sequence") {
    out.push_back(json);
    if (out.size() > kMaxSteps) json.wrong(str("more than ", kMaxSteps, " steps"));
    return;
  }
  check_keys(json, {list_key});
  for (const JsonView& item : json.at(list_key).items()) flatten(item, list_key, out);
}

}  // namespace

std::vector<JsonView> flattened(const JsonView& json, std::string_view list_key) {
  std::vector<JsonView> components;
  flatten(json, list_key, components);
  return components;
}

}  // namespace mora
