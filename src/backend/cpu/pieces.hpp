// How lengths are cut.
#pragma once

#include <cstdint>

namespace mora::cpu {

// Pieces of at most `most` that n is cut into.
constexpr int64_t pieces(int64_t n, int64_t most) {
  return (n + most - 1) / most;
}
constexpr int64_t rounded_up(int64_t n, int64_t step) {
  return pieces(n, step) * step;
}
// A piece where n is cut into equal ones of at most `most`, each a multiple of `step`.
constexpr int64_t piece(int64_t n, int64_t most, int64_t step) {
  return rounded_up(pieces(n, pieces(n, most)), step);
}

}  // namespace mora::cpu
