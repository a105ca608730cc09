#include "mora/core/parallel.hpp"

#include "mora/core/error.hpp"

namespace mora {

int thread_count() {
  return omp_get_max_threads();
}

void set_thread_count(int threads) {
  ensure(threads >= 1, "thread count must be at least 1, got ", threads);
  omp_set_dynamic(0);
  omp_set_num_threads(threads);
}

}  // namespace mora
