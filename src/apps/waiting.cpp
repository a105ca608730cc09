#include "apps/waiting.hpp"

#include <unistd.h>

#include <cstdlib>

namespace mora::apps {

void settle_waiting(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  ::setenv("OMP_WAIT_POLICY", "passive", 1);
  ::setenv("GOMP_SPINCOUNT", "1000", 1);
  ::execv("/proc/self/exe", argv);  // where that is refused the program goes on as it is
}

}  // namespace mora::apps
