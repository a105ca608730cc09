// Reading rows of JSON: one object a line (.jsonl), or one array of objects (.json); plain or gzip.
#pragma once

#include <filesystem>
#include <functional>

#include "io/json.hpp"

namespace mora {

using JsonRow = std::function<void(const JsonView& row)>;
using BadRow = std::function<void(const Error& problem)>;

// Runs read(); with `bad`, an Error(data) goes there.
void guard_row(const BadRow& bad, const std::function<void()>& read);

// Calls row(view) for each line that is not blank. Errors of the view's getters, and a line that is
// not a JSON object (Error(data)), name file, line and column. With `bad`, an Error(data) of a line
// or of row() goes there, and reading goes on.
void read_json_lines(const std::filesystem::path& path, const JsonRow& row,
                     const BadRow& bad = nullptr);

// The same for a file that is one array of objects; one that is not JSON is always an error.
void read_json_array(const std::filesystem::path& path, const JsonRow& row,
                     const BadRow& bad = nullptr);

// One of both, by the end of the name: .jsonl or .json, each also with .gz. Error(usage) for
// another.
void read_json_rows(const std::filesystem::path& path, const JsonRow& row,
                    const BadRow& bad = nullptr);

}  // namespace mora
