// Printing and documenting fields: the same declarations, seen by visitors that only look.
#include <algorithm>

#include "config/values.hpp"
#include "mora/config/field.hpp"

namespace mora {

namespace {

bool among(std::initializer_list<std::string> values, const std::string& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

class Printer : public Fields {
 public:
  explicit Printer(Json& object) : object_(object) {}

  void section(std::string_view name, std::string_view, const Visit& visit) override {
    Json inner = Json::object();
    Printer printer(inner);
    visit(printer);
    object_[std::string(name)] = std::move(inner);
  }
  void when(std::string_view, const std::string& current, std::initializer_list<std::string> values,
            const Visit& visit) override {
    if (among(values, current)) visit(*this);
  }
  void check(bool, std::string_view) override {}

 protected:
  void visit(const Field& field) override {
    Json value = value_of(field);
    if (std::holds_alternative<std::filesystem::path*>(field.value)) make_absolute(value);
    if (std::holds_alternative<std::vector<std::filesystem::path>*>(field.value)) {
      for (Json& item : value) make_absolute(item);
    }
    object_[std::string(field.name)] = std::move(value);
  }

  void list(std::string_view name, std::string_view, const Items& items) override {
    Json array = Json::array();
    for (size_t i = 0; i < items.size(); ++i) {
      Json item = Json::object();
      Printer printer(item);
      items.visit(i, printer);
      array.push_back(std::move(item));
    }
    object_[std::string(name)] = std::move(array);
  }

 private:
  static void make_absolute(Json& path) {
    const auto text = path.get<std::string>();
    if (!text.empty()) path = std::filesystem::absolute(text).lexically_normal().string();
  }

  Json& object_;
};

class Documenter : public Fields {
 public:
  std::string take() { return std::move(text_); }

  void section(std::string_view name, std::string_view doc, const Visit& visit) override {
    const std::string outer = prefix_;
    prefix_ += str(name, ".");
    row(str("`", prefix_, "`"), "section", "", "", doc);
    visit(*this);
    prefix_ = outer;
  }
  void when(std::string_view selector, const std::string&,
            std::initializer_list<std::string> values, const Visit& visit) override {
    const std::string outer = condition_;
    condition_ += str(outer.empty() ? "only with " : " and ", selector, " ",
                      alternatives({values.begin(), values.size()}));
    visit(*this);
    condition_ = outer;
  }
  void check(bool, std::string_view) override {}

 protected:
  void visit(const Field& field) override {
    const bool required = field.presence == Presence::required;
    const std::string value = required ? "required" : str("`", dump_json(value_of(field)), "`");
    const std::string condition = condition_.empty() ? "" : str(" (", condition_, ")");
    row(str("`", prefix_, field.name, "`"), type_of(field), value, range_of(field),
        str(field.doc, condition));
  }

  void list(std::string_view name, std::string_view doc, const Items& items) override {
    const std::string outer = prefix_;
    prefix_ += str(name, "[].");
    row(str("`", outer, name, "`"), "list of sections", "`[]`", "", doc);
    items.example(*this);
    prefix_ = outer;
  }

 private:
  void row(std::string_view key, std::string_view type, std::string_view value,
           std::string_view range, std::string_view doc) {
    for (std::string_view cell : {key, type, value, range, doc}) {
      text_ += "| ";
      for (char c : cell) text_ += c == '|' ? "\\|" : std::string(1, c);
      text_ += cell.empty() ? "" : " ";
    }
    text_ += "|\n";
  }

  std::string text_ =
      "| key | type | default | range | description |\n| --- | --- | --- | --- | --- |\n";
  std::string prefix_;
  std::string condition_;
};

}  // namespace

std::string print_fields(const Fields::Visit& visit) {
  Json object = Json::object();
  Printer printer(object);
  visit(printer);
  return dump_json(object, 2) + "\n";
}

std::string document_fields(const Fields::Visit& visit) {
  Documenter documenter;
  visit(documenter);
  return documenter.take();
}

}  // namespace mora
