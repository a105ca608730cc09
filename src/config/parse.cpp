// Parsing configurations: the declarations are walked once, every problem is kept, and all are
// reported together.
#include <algorithm>
#include <map>
#include <set>

#include "config/values.hpp"
#include "mora/config/field.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

constexpr size_t kMaxConfig = size_t{16} << 20;

bool among(std::initializer_list<std::string> values, const std::string& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

// What the file and the overrides say, and where each of it was said.
struct Document {
  std::string name;  // of the file; empty: there is only a command line
  fs::path folder;
  Json root;
  JsonLines lines;
  std::map<std::string, std::string> overrides;  // JSON pointer -> "--set a.b"
  std::vector<std::string> problems;

  // The nearest place at or above the pointer that was written somewhere.
  std::string place(std::string pointer) const {
    while (true) {
      if (const auto set = overrides.find(pointer); set != overrides.end()) return set->second;
      if (const auto line = lines.find(pointer); line != lines.end()) {
        return str(name, ":", line->second);
      }
      if (pointer.empty()) return name.empty() ? "command line" : name;
      pointer.resize(pointer.rfind('/'));
    }
  }

  // Whether the value came by an override, its own or one of a section around it.
  bool is_overridden(std::string pointer) const {
    while (!overrides.contains(pointer) && !lines.contains(pointer)) {
      if (pointer.empty()) return false;
      pointer.resize(pointer.rfind('/'));
    }
    return overrides.contains(pointer);
  }

  void problem(const std::string& pointer, std::string_view text) {
    problems.push_back(
        str(place(pointer), ": ", printable(pointer.empty() ? "/" : pointer), ": ", text));
  }
};

// Notes names without touching values: of fields that exist under another choice only.
class NameCollector : public Fields {
 public:
  std::vector<std::string> names;

  void section(std::string_view name, std::string_view, const Visit&) override {
    names.emplace_back(name);
  }
  void when(std::string_view, const std::string&, std::initializer_list<std::string>,
            const Visit& visit) override {
    visit(*this);
  }
  void check(bool, std::string_view) override {}

 protected:
  void visit(const Field& field) override { names.emplace_back(field.name); }
  void list(std::string_view name, std::string_view, const Items&) override {
    names.emplace_back(name);
  }
};

// Reads one JSON object into the fields of one section.
class Parser : public Fields {
 public:
  Parser(Document& document, const Json& object, std::string pointer)
      : document_(document), object_(object), pointer_(std::move(pointer)) {}

  void section(std::string_view name, std::string_view, const Visit& visit) override {
    known_.emplace(name);
    const auto found = object_.find(std::string(name));
    read_section(found == object_.end() ? nullptr : &*found, json_pointer(pointer_, name), visit);
  }

  void when(std::string_view selector, const std::string& current,
            std::initializer_list<std::string> values, const Visit& visit) override {
    if (among(values, current)) return visit(*this);
    NameCollector collector;
    visit(collector);
    for (std::string& name : collector.names) {
      // Without a valid choice it cannot be said which fields exist; the choice has been reported.
      const std::string problem =
          current.empty()
              ? ""
              : str("unknown key for ", selector, " \"", current, "\" (\"", name, "\" belongs to ",
                    selector, " ", alternatives({values.begin(), values.size()}), ")");
      inactive_.emplace(std::move(name), problem);
    }
  }

  void check(bool holds, std::string_view problem) override {
    if (!holds && !silent_) document_.problem(pointer_, problem);
  }

  void report_unknown_keys() {
    for (const auto& [key, value] : object_.items()) {
      if (known_.contains(key)) continue;
      const auto inactive = inactive_.find(key);
      if (inactive == inactive_.end()) {
        document_.problem(json_pointer(pointer_, key), "unknown key" + suggestion(key));
      } else if (!inactive->second.empty()) {
        document_.problem(json_pointer(pointer_, key), inactive->second);
      }
    }
  }

 protected:
  void visit(const Field& field) override {
    const std::string pointer = json_pointer(pointer_, field.name);
    known_.emplace(field.name);
    const auto found = object_.find(std::string(field.name));
    std::string problem;
    if (found != object_.end()) {
      const bool overridden = document_.is_overridden(pointer);
      problem = read_value(field, *found, overridden ? fs::current_path() : document_.folder);
    } else if (field.presence == Presence::required) {
      problem = str("required, but missing (", field.doc, ")");
    }
    if (problem.empty()) return;
    if (!silent_) document_.problem(pointer, problem);
    // An invalid choice selects nothing, see when().
    if (!field.choices.empty()) std::get<std::string*>(field.value)->clear();
  }

  void list(std::string_view name, std::string_view, const Items& items) override {
    const std::string pointer = json_pointer(pointer_, name);
    known_.emplace(name);
    const auto found = object_.find(std::string(name));
    if (found == object_.end()) return;
    if (!found->is_array())
      return document_.problem(pointer, "expected an array of objects, got " + brief(*found));
    items.resize(found->size());
    for (size_t i = 0; i < found->size(); ++i) {
      read_section(&(*found)[i], json_pointer(pointer, std::to_string(i)),
                   [&](Fields& f) { items.visit(i, f); });
    }
  }

 private:
  // `json`: what the document has there; null: nothing.
  void read_section(const Json* json, const std::string& pointer, const Visit& visit) {
    static const Json kNothing = Json::object();
    const bool usable = json == nullptr || json->is_object();
    if (!usable) document_.problem(pointer, "expected an object, got " + brief(*json));
    Parser parser(document_, json != nullptr && usable ? *json : kNothing, pointer);
    parser.silent_ = silent_ || !usable;
    visit(parser);
    parser.report_unknown_keys();
  }

  std::string suggestion(const std::string& key) const {
    size_t best = std::max<size_t>(2, key.size() / 3) + 1;
    std::string nearest;
    for (const std::string& name : known_) {
      const size_t distance = key.size() > 100 ? best : edit_distance(key, name);
      if (distance < best) {
        best = distance;
        nearest = name;
      }
    }
    return nearest.empty() ? "" : str("; did you mean \"", nearest, "\"?");
  }

  Document& document_;
  const Json& object_;
  std::string pointer_;
  bool silent_ = false;  // the object itself has been reported: its fields are not missing too
  std::set<std::string> known_;
  std::map<std::string, std::string> inactive_;  // name -> what to say if it is used
};

Document read_document(const fs::path& file) {
  Document document;
  document.root = Json::object();
  if (file.empty()) return document;
  document.name = printable(file.string(), 4096);
  document.folder = fs::absolute(file).parent_path();
  std::string text;
  try {
    text = read_file(file, kMaxConfig);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::data) throw;
    fail(ErrorKind::usage, "configuration: ", error.what());
  }
  const JsonOptions options{.comments = JsonComments::allowed, .kind = ErrorKind::usage};
  document.root = parse_json(text, file.string(), options, &document.lines);
  if (!document.root.is_object()) {
    fail(ErrorKind::usage, document.name, ": expected an object, got ", brief(document.root));
  }
  return document;
}

Json override_value(const std::string& text) {
  try {
    return parse_json(text, "--set");
  } catch (const Error&) {
    return text;  // not JSON: the string itself
  }
}

void apply_override(Document& document, const std::string& text) {
  const size_t equals = text.find('=');
  const std::string path = text.substr(0, equals);
  const std::string place = (document.name.empty() ? "--" : "--set ") + printable(path);
  if (equals == std::string::npos || path.empty()) {
    document.problems.push_back("--set " + printable(text) + ": expected key=value");
    return;
  }
  Json* object = &document.root;
  std::string pointer;
  size_t begin = 0;
  for (size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', begin)) {
    const std::string key = path.substr(begin, dot - begin);
    pointer = json_pointer(pointer, key);
    // A section that only overrides mention has no place in the file.
    if (!object->contains(key)) document.overrides.emplace(pointer, place);
    object = &(*object)[key];
    if (object->is_null()) *object = Json::object();
    if (!object->is_object()) {
      document.problems.push_back(place + ": " + printable(pointer) + " is not a section");
      return;
    }
    begin = dot + 1;
  }
  const std::string key = path.substr(begin);
  pointer = json_pointer(pointer, key);
  std::erase_if(document.lines, [&](const auto& line) {
    return line.first == pointer || line.first.starts_with(pointer + "/");
  });
  document.overrides[pointer] = place;
  (*object)[key] = override_value(text.substr(equals + 1));
}

}  // namespace

void parse_fields(const fs::path& file, std::span<const std::string> overrides,
                  const Fields::Visit& visit) {
  Document document = read_document(file);
  for (const std::string& text : overrides) apply_override(document, text);
  Parser parser(document, document.root, "");
  visit(parser);
  parser.report_unknown_keys();
  if (document.problems.empty()) return;
  std::string message;
  for (const std::string& problem : document.problems) {
    message += (message.empty() ? "" : "\n") + problem;
  }
  throw Error(ErrorKind::usage, message);
}

}  // namespace mora
