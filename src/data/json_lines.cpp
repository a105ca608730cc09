// Reading JSON Lines. A line is parsed by the strict parser, whose size limit is that of a line.
#include "data/json_lines.hpp"

#include "mora/io/file.hpp"

namespace mora {

void read_json_lines(const std::filesystem::path& path,
                     const std::function<void(const JsonView& row)>& row) {
  const std::string name = path.string();
  read_lines(path, [&](int64_t number, std::string_view text) {
    if (text.find_first_not_of(" \t") == std::string_view::npos) return;
    const JsonOptions options{.max_bytes = text.size(), .first_line = number};
    const Json json = parse_json(text, name, options);
    const JsonView view(json, str(name, ":", number));
    if (!json.is_object()) view.wrong("an object");
    row(view);
  });
}

}  // namespace mora
