// Finding a value's place in the text of a JSON document that the parser has accepted. Nothing is
// noted while reading: who needs a place has found an error, and looks once.
#include <algorithm>

#include "io/json.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace {

// Goes through a document that is known to be correct.
class Walker {
 public:
  explicit Walker(std::string_view text, size_t at = 0) : text_(text), at_(at) {}

  size_t at() const { return at_; }
  char peek() {
    at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size());
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }

  std::string_view string() {
    const size_t begin = at_;
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) at_ += text_[at_] == '\\' ? 1 : 0;
    at_ = std::min(at_ + 1, text_.size());
    return text_.substr(begin, at_ - begin);
  }

  void skip_value() {
    size_t depth = 0;
    do {
      const char c = peek();
      if (c == '"') {
        string();
      } else if (c == '{' || c == '[') {
        ++depth;
        ++at_;
      } else if (c == '}' || c == ']') {
        --depth;
        ++at_;
      } else if (c == ',' || c == ':') {
        ++at_;
      } else {
        at_ = std::min(text_.find_first_of(" \t\r\n,:]}", at_), text_.size());
      }
    } while (depth > 0 && at_ < text_.size());
  }

  // To the value of this key, or of this place in an array; false where there is none.
  bool enter(std::string_view key) {
    if (take('[')) {
      for (size_t i = 0; peek() != ']' && at_ < text_.size(); ++i) {
        if (str(i) == key) return true;
        skip_value();
        take(',');
      }
      return false;
    }
    if (!take('{')) return false;
    while (peek() == '"') {
      const std::string name = parse_json(string(), "a key").get<std::string>();
      take(':');
      peek();
      if (json_pointer("", name).substr(1) == key) return true;
      skip_value();
      take(',');
    }
    return false;
  }

 private:
  std::string_view text_;
  size_t at_;
};

}  // namespace

JsonOrigin JsonOrigin::later(size_t offset) const {
  const std::string_view before = text.substr(0, offset);
  const size_t last = before.rfind('\n');
  JsonOrigin origin{text.substr(offset), name, line, column};
  origin.line += std::count(before.begin(), before.end(), '\n');
  origin.column = last == before.npos ? column + static_cast<int64_t>(offset)
                                      : static_cast<int64_t>(offset - last);
  return origin;
}

std::string JsonOrigin::place(std::string_view pointer) const {
  Walker walker(text);
  walker.peek();
  for (size_t begin = 1; begin <= pointer.size();) {
    const size_t end = std::min(pointer.find('/', begin), pointer.size());
    if (!walker.enter(pointer.substr(begin, end - begin))) break;
    walker.peek();
    begin = end + 1;
  }
  const JsonOrigin found = later(walker.at());
  return str(printable(name, 4096), ":", found.line, ":", found.column);
}

std::vector<JsonOrigin> json_items(const JsonOrigin& array) {
  std::vector<JsonOrigin> items;
  Walker walker(array.text);
  JsonOrigin before = array;
  size_t begin = 0;  // of `before`
  if (!walker.take('[')) return items;
  while (walker.peek() != ']' && walker.at() < array.text.size()) {
    before = before.later(walker.at() - begin);
    begin = walker.at();
    items.push_back(before);
    walker.skip_value();
    items.back().text = array.text.substr(begin, walker.at() - begin);
    walker.take(',');
  }
  return items;
}

}  // namespace mora
