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

// Where a value was written: what errors say, and the folder that its relative paths start from.
struct Place {
  std::string text;  // "c.json:3" or "--set a.b"
  fs::path folder;
};

using Places = std::map<std::string, Place>;  // by JSON pointer

// What the files and the overrides say, and where each of it was said.
struct Document {
  std::string option = "--set ";  // how overrides are written; without a file: as options
  Json root;
  Places places;  // of "" always
  std::vector<std::string> problems;

  // The nearest place at or above the pointer that was written somewhere.
  const Place& place(std::string pointer) const {
    for (;; pointer.resize(pointer.rfind('/'))) {
      if (const auto found = places.find(pointer); found != places.end()) return found->second;
    }
  }

  // Forgets the places of the value at the pointer and of all in it.
  void forget(const std::string& pointer) {
    std::erase_if(places, [&](const auto& place) {
      return place.first == pointer || place.first.starts_with(pointer + "/");
    });
  }

  void problem(const std::string& pointer, std::string_view text) {
    problems.push_back(
        str(place(pointer).text, ": ", printable(pointer.empty() ? "/" : pointer), ": ", text));
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
      problem = read_value(field, *found, document_.place(pointer).folder);
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

// Adds `own` to what `document` has: objects key by key, everything else instead of it.
void merge(Document& document, Json& into, const Json& own, const std::string& pointer,
           const Places& places) {
  for (const auto& [key, value] : own.items()) {
    const std::string inner = json_pointer(pointer, key);
    const auto found = into.find(key);
    if (found != into.end() && found->is_object() && value.is_object()) {
      document.places[inner] = places.at(inner);
      merge(document, *found, value, inner, places);
      continue;
    }
    document.forget(inner);
    for (auto place = places.lower_bound(inner); place != places.end(); ++place) {
      if (!place->first.starts_with(inner)) break;
      if (place->first == inner || place->first[inner.size()] == '/')
        document.places.insert(*place);
    }
    into[key] = value;
  }
}

constexpr const char* kExtends = "extends";
constexpr int kDeepest = 16;  // files that extend each other; more are a circle

// A file and what it extends.
Document read_document(const fs::path& file, int depth = 0) {
  Document document;
  document.root = Json::object();
  if (file.empty()) {
    document.option = "--";
    document.places[""] = {"command line", fs::current_path()};
    return document;
  }
  const std::string name = printable(file.string(), 4096);
  const fs::path folder = fs::absolute(file).parent_path();
  std::string text;
  try {
    text = read_file(file, kMaxConfig);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::data) throw;
    fail(ErrorKind::usage, "configuration: ", error.what());
  }
  const JsonOptions options{.comments = JsonComments::allowed, .kind = ErrorKind::usage};
  JsonLines lines;
  Json own = parse_json(text, file.string(), options, &lines);
  if (!own.is_object()) fail(ErrorKind::usage, name, ": expected an object, got ", brief(own));
  Places places;
  for (const auto& [pointer, line] : lines) places[pointer] = {str(name, ":", line), folder};
  if (const auto base = own.find(kExtends); base != own.end()) {
    const std::string& place = places.at(json_pointer("", kExtends)).text;
    if (!base->is_string())
      fail(ErrorKind::usage, place, ": /extends: expected a file, got ", brief(*base));
    if (depth == kDeepest) {
      fail(ErrorKind::usage, place, ": /extends: more than ", kDeepest,
           " files extend each other, probably in a circle");
    }
    document = read_document((folder / base->get<std::string>()).lexically_normal(), depth + 1);
    own.erase(base);
  }
  document.places[""] = places.at("");
  merge(document, document.root, own, "", places);
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
  const Place place{document.option + printable(path), fs::current_path()};
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
    if (!object->contains(key)) document.places.emplace(pointer, place);
    object = &(*object)[key];
    if (object->is_null()) *object = Json::object();
    if (!object->is_object()) {
      document.problems.push_back(place.text + ": " + printable(pointer) + " is not a section");
      return;
    }
    begin = dot + 1;
  }
  const std::string key = path.substr(begin);
  pointer = json_pointer(pointer, key);
  document.forget(pointer);
  document.places[pointer] = place;
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
