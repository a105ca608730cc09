// What the token cache keeps of the reading of files, beside the tokens.
#pragma once

#include <filesystem>
#include <span>

#include "io/json.hpp"
#include "mora/data/row_layouts.hpp"

namespace mora {

// A problem's message begins with its file's name. It is kept as the place in `files`, because the
// files may be called otherwise when it is told again.
Json rows_note(const RowCounts& rows, std::span<const std::filesystem::path> files);
RowCounts noted_rows(const JsonView& note, std::span<const std::filesystem::path> files);

}  // namespace mora
