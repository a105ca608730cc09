// How much memory this process may still take.
#pragma once

#include <cstddef>

namespace mora {

// Bytes: what the system says is available, or less where a control group limits the process.
// SIZE_MAX when the system does not say.
size_t available_memory();

}  // namespace mora
