// Reading rows of JSON. A line is parsed by the strict parser, whose size limit is that of a line.
#include "data/json_lines.hpp"

#include "mora/io/file.hpp"

namespace mora {

namespace {

constexpr size_t kMaxArrayBytes = size_t{1} << 30;

void check_row(const JsonView& view, const JsonRow& row) {
  if (!view.json().is_object()) view.wrong("an object");
  row(view);
}

}  // namespace

void guard_row(const BadRow& bad, const std::function<void()>& read) {
  if (!bad) return read();
  try {
    read();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::data) throw;
    bad(error);
  }
}

void read_json_lines(const std::filesystem::path& path, const JsonRow& row, const BadRow& bad) {
  const std::string name = path.string();
  read_lines(path, [&](int64_t number, std::string_view text) {
    if (text.find_first_not_of(" \t") == std::string_view::npos) return;
    guard_row(bad, [&] {
      const JsonOptions options{.max_bytes = text.size(), .first_line = number};
      const Json json = parse_json(text, name, options);
      const JsonOrigin origin{text, name, number};
      check_row(JsonView(json, name, "", &origin), row);
    });
  });
}

void read_json_array(const std::filesystem::path& path, const JsonRow& row, const BadRow& bad) {
  const std::string name = path.string();
  std::string text;
  read_lines(path, [&](int64_t, std::string_view line) {
    if (text.size() + line.size() > kMaxArrayBytes)
      fail(ErrorKind::data, name, ": larger than 1 GiB; write one object a line (.jsonl)");
    text.append(line).push_back('\n');
  });
  const Json json = parse_json(text, name, {.max_bytes = text.size()});
  const JsonOrigin whole{text, name};
  if (!json.is_array()) JsonView(json, name, "", &whole).wrong_type("an array of objects");
  const std::vector<JsonOrigin> origins = json_items(whole);
  ensure(origins.size() == json.size(), name, ": ", origins.size(), " of ", json.size(), " items");
  for (size_t i = 0; i < json.size(); ++i)
    guard_row(bad, [&] { check_row(JsonView(json[i], name, "", &origins[i]), row); });
}

void read_json_rows(const std::filesystem::path& path, const JsonRow& row, const BadRow& bad) {
  const std::string name = path.string();
  if (name.ends_with(".jsonl") || name.ends_with(".jsonl.gz"))
    return read_json_lines(path, row, bad);
  if (name.ends_with(".json") || name.ends_with(".json.gz")) return read_json_array(path, row, bad);
  fail(ErrorKind::usage, name,
       ": not rows of JSON by its name; expected .jsonl or .json, or .gz of these");
}

}  // namespace mora
