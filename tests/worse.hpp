// The larger of two errors. One that is not a number is the largest of all: std::max would pass
// over it, and a test that compares results would not see that they are none.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

namespace mora::testing {

inline double worse(double a, double b) {
  return std::isnan(b) ? std::numeric_limits<double>::infinity() : std::max(a, b);
}

}  // namespace mora::testing
