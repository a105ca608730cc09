#include "benchmarks/files.hpp"

#include "mora/io/file.hpp"

namespace mora::benchmarks {

namespace {

constexpr size_t kMaxBytes = size_t{1} << 30;

}  // namespace

std::filesystem::path file_in(const std::filesystem::path& folder, const std::string& name) {
  for (const std::string& candidate : {name, name + ".gz"}) {
    if (std::filesystem::exists(folder / candidate)) return folder / candidate;
  }
  fail(ErrorKind::data, folder.string(), ": has no ", name, " and no ", name, ".gz");
}

std::string read_text(const std::filesystem::path& path) {
  std::string text;
  read_lines(path, [&](int64_t, std::string_view line) {
    if (text.size() + line.size() > kMaxBytes)
      fail(ErrorKind::data, path.string(), ": larger than 1 GiB");
    text.append(line).push_back('\n');
  });
  return text;
}

void read_document(const std::filesystem::path& path,
                   const std::function<void(const JsonView& document)>& read) {
  const std::string name = path.string(), text = read_text(path);
  const Json json = parse_json(text, name, {.max_bytes = text.size()});
  const JsonOrigin origin{text, name};
  read(JsonView(json, name, "", &origin));
}

}  // namespace mora::benchmarks
