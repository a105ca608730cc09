// The backend of tests that hold for all of them: each test program brings its own.
#pragma once

#include <memory>

#include "mora/backend/backend.hpp"

namespace mora::testing {

// The processor's in mora-tests, where `provider` multiplies; CUDA's in the programs of cuda/.
std::unique_ptr<Backend> backend_under_test(MatmulProvider provider = MatmulProvider::automatic);

}  // namespace mora::testing
