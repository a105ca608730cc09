// The device of this process: opened once, one stream on which everything happens in order.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "mora/core/tensor.hpp"

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

// Memory that the program reaches, too: pages move to where they are used (unified memory). What
// the program reads or writes must not be in use by kernels: wait() first.
std::shared_ptr<MemorySource> device_memory();

}  // namespace mora::cuda
