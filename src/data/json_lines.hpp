// Reading JSON Lines: one object a line, plain or gzip.
#pragma once

#include <filesystem>
#include <functional>

#include "io/json.hpp"

namespace mora {

// Calls row(view) for each line that is not blank. Errors of the view's getters, and a line that is
// not a JSON object (Error(data)), name file and line.
void read_json_lines(const std::filesystem::path& path,
                     const std::function<void(const JsonView& row)>& row);

}  // namespace mora
