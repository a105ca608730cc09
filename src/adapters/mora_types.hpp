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

// Null: the authors' code does not have this operator with this grouping.
inline const MoraType* authors_type(const AdapterConfig& c) {
  const auto* type = std::ranges::find_if(kMoraTypes, [&](const MoraType& t) {
    return t.operation == c.operation && (t.grouping.empty() || t.grouping == c.grouping);
  });
  return type == std::end(kMoraTypes) ? nullptr : type;
}

inline bool is_random(const AdapterConfig& c) {
  return c.operation == "sharing" && c.grouping == "random";
}

// 0: the authors' code does not compute this function.
inline int64_t mora_type_number(const AdapterConfig& c) {
  const MoraType* type = authors_type(c);
  return type == nullptr || c.scale != 1 || c.cover != "used" ? 0 : type->number;
}

}  // namespace mora::adapters
