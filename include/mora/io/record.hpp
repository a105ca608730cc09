// Records: what is written down of a step, a sample or a run, for programs to read.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace mora {

// Named numbers and texts, in order.
using MetricValue = std::variant<int64_t, double, std::string, std::vector<double>>;
using Record = std::vector<std::pair<std::string, MetricValue>>;

// One line of JSON, numbers in full precision; NaN and infinities as the strings "NaN", "Infinity",
// "-Infinity".
std::string to_json_line(const Record& record);

}  // namespace mora
