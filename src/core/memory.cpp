// Memory as Linux reports it: /proc/meminfo, and the limits of control groups, version 2 or 1. A
// limit binds with all groups above it, so every group up to the root is asked.
#include "core/memory.hpp"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "mora/core/error.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

// The number behind `key` in a file of "key number" lines; SIZE_MAX when there is none.
size_t number_after(const fs::path& file, const std::string& key) {
  std::ifstream in(file);
  for (std::string word; in >> word;) {
    size_t value = 0;
    if (word == key && in >> value) return value;
  }
  return SIZE_MAX;
}

// "max", and what cannot be read, count as no limit.
size_t number_in(const fs::path& file) {
  size_t value = 0;
  return std::ifstream(file) >> value ? value : SIZE_MAX;
}

struct Names {
  const char *limit, *usage, *reclaimable;
};
constexpr Names kVersion2{"memory.max", "memory.current", "inactive_file"};
constexpr Names kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};

size_t left_in_group(const fs::path& folder, const Names& names) {
  const size_t limit = number_in(folder / names.limit);
  const size_t usage = number_in(folder / names.usage);
  if (limit == SIZE_MAX || usage == SIZE_MAX) return SIZE_MAX;
  // Pages of files that the system would drop first are counted as used.
  const size_t cached = number_after(folder / "memory.stat", names.reclaimable);
  const size_t held = cached == SIZE_MAX ? usage : usage - std::min(usage, cached);
  return limit - std::min(limit, held);
}

// Asks the group and all above it. Inside a container the path may not exist, but the root does.
size_t left_in_groups(const fs::path& root, fs::path group, const Names& names) {
  size_t left = SIZE_MAX;
  for (;; group = group.parent_path()) {
    left = std::min(left, left_in_group(root / group.relative_path(), names));
    if (!group.has_relative_path()) return left;
  }
}

// Lines are "0::/path" for version 2 and "4:memory:/path" for version 1.
size_t left_by_control_groups() {
  size_t left = SIZE_MAX;
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = str(",", line.substr(first + 1, second - first - 1), ",");
    const fs::path group = fs::path("/") / line.substr(second + 1);
    if (controllers == ",,") {
      left = std::min(left, left_in_groups("/sys/fs/cgroup", group, kVersion2));
    } else if (controllers.find(",memory,") != std::string::npos) {
      left = std::min(left, left_in_groups("/sys/fs/cgroup/memory", group, kVersion1));
    }
  }
  return left;
}

}  // namespace

size_t available_memory() {
  const size_t kibibytes = number_after("/proc/meminfo", "MemAvailable:");
  const size_t system = kibibytes > SIZE_MAX / 1024 ? SIZE_MAX : kibibytes * 1024;
  return std::min(system, left_by_control_groups());
}

size_t resident_memory() {
  const size_t kibibytes = number_after("/proc/self/status", "VmRSS:");
  return kibibytes == SIZE_MAX ? 0 : kibibytes * 1024;
}

}  // namespace mora
