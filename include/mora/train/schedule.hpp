// Learning-rate schedules as pure functions of the step.
#pragma once

#include <cstdint>
#include <string_view>

namespace mora {

// The factor on the peak learning rate for the optimizer step after `step` finished ones (0 for the
// first), for "constant", "constant_with_warmup", "linear" or "cosine": transformers'
// get_scheduler.
double schedule_factor(std::string_view type, int64_t step, int64_t warmup_steps,
                       int64_t total_steps);

// ReLoRA's jagged cosine ("cosine_restarts" of its training_utils.py, and of the MoRA authors'):
// one cosine from 1 to min_ratio over the run after a linear warm-up, notched to 0 at every
// multiple of `cycle`, from where it rises to the cosine again in restart_warmup steps.
struct CosineRestarts {
  int64_t total = 1;   // steps of the cosine; a multiple of cycle
  int64_t cycle = 1;   // steps between restarts, at least warmup + adjust
  int64_t warmup = 0;  // first steps
  int64_t restart_warmup = 0;
  double min_ratio = 0.1;
  int64_t adjust = 0;  // steps by which the restarts come earlier

  double factor(int64_t step) const;  // as of schedule_factor
};

}  // namespace mora
