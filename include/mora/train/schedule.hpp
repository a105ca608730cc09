// Learning-rate schedules as pure functions of the step, equal to transformers' get_scheduler.
#pragma once

#include <cstdint>
#include <string_view>

namespace mora {

// The factor on the peak learning rate for the optimizer step after `step` finished ones (0 for the
// first), for "constant", "constant_with_warmup", "linear" or "cosine".
double schedule_factor(std::string_view type, int64_t step, int64_t warmup_steps,
                       int64_t total_steps);

}  // namespace mora
