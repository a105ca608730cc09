// The authors' numbers (mora_type) for MoRA's operators and groupings as we name them.
#pragma once

#include <algorithm>
#include <string_view>

#include "mora/config/run_config.hpp"

namespace mora::adapters {

struct MoraType {
  int64_t number;
  std::string_view operation, grouping;
};
inline constexpr MoraType kMoraTypes[] = {{1, "sharing", "strided"},
                                          {2, "sharing", "contiguous"},
                                          {3, "sharing", "contiguous_strided"},
                                          {4, "sharing", "strided_contiguous"},
                                          {6, "rotation", ""}};

// 0: the authors' code has none.
inline int64_t mora_type_number(const AdapterConfig& c) {
  for (const MoraType& t : kMoraTypes) {
    if (t.operation == c.operation && (t.grouping.empty() || t.grouping == c.grouping))
      return t.number;
  }
  return 0;
}

}  // namespace mora::adapters
