// The device of this process: opened once, one stream on which everything happens in order.
#pragma once

#include <cuda_runtime.h>

#include <string>
#include <string_view>

#include "mora/core/error.hpp"

namespace mora::cuda {

// Error(internal) with CUDA's own words and what was being done, unless it went well.
void check(cudaError_t result, std::string_view doing);

// Opens the first visible device. Error(usage) when there is no driver, no device, or one older
// than compute capability 8.0. Later calls do nothing.
void open_device();

// Of the open device.
cudaStream_t stream();
std::string device_name();
int multiprocessors();

// Until the stream is empty. Error(internal) where a kernel failed.
void wait();

// For kernels that call libraries, as kernels never throw: the next wait() does, with the first of
// these. Both texts live for ever.
void note_failure(const char* doing, const char* why);

}  // namespace mora::cuda
