// Entry of the programs that test the CUDA backend. All memory of tests is the device's, which the
// processor reaches, too. Where there is no device every test is skipped.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstring>

#include "backend/cuda.hpp"
#include "backend_under_test.hpp"

namespace mora::testing {

std::unique_ptr<Backend> backend_under_test(MatmulProvider /*of the processor*/) {
  return make_cuda_backend();
}

namespace {

int run(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const bool lists = argc > 1 && std::strncmp(argv[1], "--list", 6) == 0;  // while building
  if (lists) return context.run();
  try {
    const UseMemory memory(make_cuda_backend()->memory());
    return context.run();
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::usage) throw;
    std::printf("skipped: no CUDA device: %s\n", e.what());
    return 0;
  }
}

}  // namespace
}  // namespace mora::testing

int main(int argc, char** argv) {
  return mora::testing::run(argc, argv);
}
