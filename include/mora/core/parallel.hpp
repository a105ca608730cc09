// parallel_for over fixed pieces. The split of the work never depends on the number of threads, so
// a kernel that combines pieces in index order gives the same bits for any thread count.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace mora {

int thread_count();
void set_thread_count(int threads);  // threads >= 1

// Calls body(i) for i in [0, n), each i on one thread. Small jobs (n < 2) stay on the caller's
// thread.
template <class Body>
void parallel_for(int64_t n, const Body& body) {
  if (n < 2 || omp_in_parallel()) {
    for (int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  // Not "omp for schedule(dynamic)": LLVM's runtime allocates in every such loop.
  std::atomic<int64_t> next = 0;
#pragma omp parallel
  for (int64_t i = next++; i < n; i = next++) body(i);
}

// Calls body(begin, end) over [0, n) cut into pieces of `grain` elements.
template <class Body>
void parallel_pieces(int64_t n, int64_t grain, const Body& body) {
  const int64_t pieces = (n + grain - 1) / grain;
  parallel_for(pieces,
               [&](int64_t piece) { body(piece * grain, std::min(n, (piece + 1) * grain)); });
}

}  // namespace mora
