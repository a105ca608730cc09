// Comma-separated values, read as Python's csv module reads them by default.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace mora::benchmarks {

using CsvRow = std::function<void(int64_t line, std::vector<std::string>& fields)>;

// Calls row() for each row that is not empty, with the number of the line where it begins. A quote
// counts only at the front of a field; within quotes "" is a quote and lines may end. Error(data)
// with file and line for a quoted field without end and for text that is not UTF-8 or holds NUL.
void read_csv(const std::filesystem::path& path, const CsvRow& row);

}  // namespace mora::benchmarks
