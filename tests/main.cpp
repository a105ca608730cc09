// The test program's entry; every *_test.cpp adds a suite.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "backend_under_test.hpp"

std::unique_ptr<mora::Backend> mora::testing::backend_under_test(MatmulProvider provider) {
  return make_cpu_backend(provider);
}
