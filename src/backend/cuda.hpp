// What the rest of the program sees of CUDA. src/backend/cuda/ has it, or src/backend/no_cuda.cpp
// says how to get it.
#pragma once

#include <memory>
#include <string>

#include "mora/backend/backend.hpp"

namespace mora {

// The first device that CUDA_VISIBLE_DEVICES leaves. Error(usage): built without CUDA, no driver,
// no device, or one too old.
std::unique_ptr<Backend> make_cuda_backend();

// "CUDA 13.0", or "" where the program was built without it.
std::string cuda_version();

}  // namespace mora
