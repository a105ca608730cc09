// Which of MMLU's 57 subjects are in which of its four categories, as lm-evaluation-harness has
// them.
#pragma once

#include <span>
#include <string_view>

namespace mora::benchmarks {

struct MmluCategory {
  std::string_view name;
  std::span<const std::string_view> subjects;
};

std::span<const MmluCategory> mmlu_categories();

}  // namespace mora::benchmarks
