// Tables for people.
#pragma once

#include <string>
#include <vector>

namespace mora {

// Rows of as many cells each, the first being the titles, with columns aligned: "| a | b |".
std::string aligned(const std::vector<std::vector<std::string>>& rows);

std::string number(double value, const char* format);  // as printf has it

}  // namespace mora
