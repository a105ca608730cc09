#include "data/notes.hpp"

namespace mora {

Json rows_note(const RowCounts& rows, std::span<const std::filesystem::path> files) {
  int64_t file = -1;
  std::string problem = rows.first_problem;
  for (size_t i = 0; i < files.size() && file < 0; ++i) {
    const std::string name = files[i].string() + ":";
    if (!problem.starts_with(name)) continue;
    file = static_cast<int64_t>(i);
    problem.erase(0, name.size());
  }
  return {{"read", rows.read},
          {"skipped", rows.skipped},
          {"problem_file", file},
          {"first_problem", problem}};
}

RowCounts noted_rows(const JsonView& note, std::span<const std::filesystem::path> files) {
  const int64_t file = note.at("problem_file").integer();
  if (file >= static_cast<int64_t>(files.size())) note.wrong("a problem in no file");
  const std::string name = file < 0 ? "" : files[static_cast<size_t>(file)].string() + ":";
  return {.read = note.at("read").integer(),
          .skipped = note.at("skipped").integer(),
          .first_problem = name + note.at("first_problem").string()};
}

}  // namespace mora
