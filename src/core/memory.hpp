// How much memory this process may still take, and how much it has.
#pragma once

#include <cstddef>

namespace mora {

// Bytes: what the system says is available, or less where a control group limits the process.
// SIZE_MAX when the system does not say.
size_t available_memory();

// Bytes of this process that are in memory now; 0 when the system does not say.
size_t resident_memory();

}  // namespace mora
