#include "report/table.hpp"

#include <algorithm>
#include <cstdio>

namespace mora {

std::string number(double value, const char* format) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string text;
  auto line = [&](const std::vector<std::string>& row) {
    for (size_t c = 0; c < row.size(); ++c) {
      text += (c == 0 ? "| " : " | ") + row[c] + std::string(widths[c] - row[c].size(), ' ');
    }
    text += " |\n";
  };
  line(rows[0]);
  std::vector<std::string> rule;
  rule.reserve(widths.size());
  for (size_t width : widths) rule.emplace_back(width, '-');
  line(rule);
  for (size_t r = 1; r < rows.size(); ++r) line(rows[r]);
  return text;
}

}  // namespace mora
