// Fields: a configuration struct declares each of its fields once, in fields(Fields&); that one
// declaration parses, validates, prints and documents.
//
// A visitor sees the fields in the order of their declaration, so that a field may decide which
// later ones exist.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace mora {

// Allowed integers, both ends included.
struct IntRange {
  int64_t min = std::numeric_limits<int64_t>::min();
  int64_t max = std::numeric_limits<int64_t>::max();
};

enum class Bound { closed, open };

// Allowed numbers; an infinite end is no limit.
struct RealRange {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  Bound min_bound = Bound::closed;
  Bound max_bound = Bound::closed;
};

enum class Presence { optional, required };

// One declaration as a visitor sees it.
struct Field {
  using Value = std::variant<int64_t*, double*, bool*, std::string*, std::filesystem::path*,
                             std::vector<int64_t>*, std::vector<std::string>*,
                             std::vector<std::filesystem::path>*>;
  std::string_view name;
  Value value;
  std::string_view doc;
  Presence presence = Presence::optional;
  IntRange ints{};                     // of an integer, or of each in a list
  RealRange reals{};                   // of a double
  std::vector<std::string> choices{};  // of a choice; empty for free text
};

class Fields {
 public:
  using Visit = std::function<void(Fields&)>;

  // The items of an array of sections, whatever their type.
  struct Items {
    std::function<size_t()> size;
    std::function<void(size_t)> resize;  // to so many with their defaults
    std::function<void(size_t, Fields&)> visit;
    Visit example;  // of one with its defaults
  };

  virtual ~Fields() = default;

  void field(std::string_view name, int64_t& value, IntRange range, std::string_view doc);
  void field(std::string_view name, double& value, RealRange range, std::string_view doc);
  void field(std::string_view name, bool& value, std::string_view doc);
  void field(std::string_view name, std::string& value, std::string_view doc,
             Presence presence = Presence::optional);
  void field(std::string_view name, std::filesystem::path& value, std::string_view doc,
             Presence presence = Presence::optional);
  void field(std::string_view name, std::vector<int64_t>& value, IntRange range,
             std::string_view doc);
  void field(std::string_view name, std::vector<std::string>& value, std::string_view doc,
             Presence presence = Presence::optional);
  void field(std::string_view name, std::vector<std::filesystem::path>& value, std::string_view doc,
             Presence presence = Presence::optional);
  void choice(std::string_view name, std::string& value, std::initializer_list<std::string> allowed,
              std::string_view doc, Presence presence = Presence::optional);

  // A JSON object of its own.
  virtual void section(std::string_view name, std::string_view doc, const Visit& visit) = 0;

  // A JSON array of objects, one for each of `items`, whose fields item.fields(Fields&) declares.
  template <class Item>
  void sections(std::string_view name, std::vector<Item>& items, std::string_view doc) {
    Item example;
    list(name, doc,
         {.size = [&] { return items.size(); },
          .resize = [&](size_t count) { items.assign(count, Item()); },
          .visit = [&](size_t i, Fields& f) { items[i].fields(f); },
          .example = [&](Fields& f) { example.fields(f); }});
  }

  // Fields that exist only while the choice `selector`, declared before, has one of `values`.
  virtual void when(std::string_view selector, const std::string& current,
                    std::initializer_list<std::string> values, const Visit& visit) = 0;

  // A rule over several fields of this section; `problem` says what is wrong when it does not hold.
  virtual void check(bool holds, std::string_view problem) = 0;

 protected:
  virtual void visit(const Field& field) = 0;
  virtual void list(std::string_view name, std::string_view doc, const Items& items) = 0;
};

// Reads a JSON file (`//` comments allowed) into the fields that `visit` declares, then `overrides`
// of the form "a.b=value" (JSON if it parses, else a string). Relative paths in the file are
// resolved against the file's folder, those in overrides against the current folder. Without a file
// the overrides are all there is: options of a command line. All problems, one a line, are thrown
// as one Error(usage).
void parse_fields(const std::filesystem::path& file, std::span<const std::string> overrides,
                  const Fields::Visit& visit);

// The fields that exist, with their values, as JSON that parses to the same values; paths are
// absolute.
std::string print_fields(const Fields::Visit& visit);

// A Markdown table of all fields, those under `when` included: key, type, default (the present
// value), range, text.
std::string document_fields(const Fields::Visit& visit);

}  // namespace mora
