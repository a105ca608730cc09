// Memory that kernels and the program both reach (unified memory): pages move to where they are
// used. What the program reads or writes must not be in use by kernels: wait() first.
#pragma once

#include <memory>

#include "mora/core/tensor.hpp"

namespace mora::cuda {

// Of the open device, which must have room for all of it at once.
std::shared_ptr<MemorySource> device_memory();

// Moves all that was given out to the device at once, which kernels would do page by page.
void bring_memory();

}  // namespace mora::cuda
