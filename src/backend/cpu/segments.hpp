// Cuts packed tokens into their segments, and segments into blocks of queries.
#pragma once

#include <algorithm>
#include <cstdint>

namespace mora::cpu {

constexpr int64_t kAttentionBlock = 64;  // keys, and queries in the gradient, handled at once

// Writes the first token of each segment to `starts` (room for tokens + 1) and returns the number
// of segments; starts[count] = tokens. A new segment begins where segment_start[t] = t.
inline int64_t find_segments(const int32_t* segment_start, int64_t tokens, int32_t* starts) {
  int64_t count = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    if (t == 0 || segment_start[t] == t) starts[count++] = static_cast<int32_t>(t);
  }
  starts[count] = static_cast<int32_t>(tokens);
  return count;
}

// Writes the first query of each block of at most `size` to `starts` (room for tokens + 1): no
// block crosses a segment.
inline int64_t find_query_blocks(const int32_t* segment_start, int64_t tokens, int64_t size,
                                 int32_t* starts) {
  int64_t count = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    if (t == 0 || (t - segment_start[t]) % size == 0) starts[count++] = static_cast<int32_t>(t);
  }
  starts[count] = static_cast<int32_t>(tokens);
  return count;
}

}  // namespace mora::cpu
