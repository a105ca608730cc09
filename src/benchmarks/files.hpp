// Reading the official files of benchmarks.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "io/json.hpp"

namespace mora::benchmarks {

// The file of that name in the folder, or the same with .gz. Error(data) when it has neither.
std::filesystem::path file_in(const std::filesystem::path& folder, const std::string& name);

// The whole text, plain or .gz, lines ended by "\n" alone. Error(data) above 1 GiB.
std::string read_text(const std::filesystem::path& path);

// Calls read(view) with the file's one JSON document; errors of the view's getters name file, line
// and column.
void read_document(const std::filesystem::path& path,
                   const std::function<void(const JsonView& document)>& read);

}  // namespace mora::benchmarks
