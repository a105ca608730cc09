// System calls with their errors checked: shared by the sources of this module only.
#pragma once

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "mora/core/error.hpp"
#include "mora/io/file.hpp"

namespace mora {

// The path as it may be shown.
std::string shown(const std::filesystem::path& path);

// Throws "cannot <operation> <path>: <reason of errno>".
[[noreturn]] void fail_system(ErrorKind kind, std::string_view operation,
                              const std::filesystem::path& path, int error = errno);

// Creates a file that did not exist, for writing.
FileHandle create_exclusively(const std::filesystem::path& path);

// Reads until `buffer` is full or the input ends; returns the bytes read.
size_t read_full(const FileHandle& file, const std::filesystem::path& path,
                 std::span<std::byte> buffer);

}  // namespace mora
