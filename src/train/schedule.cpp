#include "mora/train/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "mora/core/error.hpp"

namespace mora {

double schedule_factor(std::string_view type, int64_t step, int64_t warmup_steps,
                       int64_t total_steps) {
  if (type == "constant") return 1;
  const auto now = static_cast<double>(step), warmup = static_cast<double>(warmup_steps),
             total = static_cast<double>(total_steps);
  if (step < warmup_steps) return now / std::max(1.0, warmup);
  const double left = std::max(1.0, total - warmup);
  if (type == "constant_with_warmup") return 1;
  if (type == "linear") return std::max(0.0, (total - now) / left);
  if (type == "cosine")
    return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * (now - warmup) / left)));
  fail(ErrorKind::usage, "train.lr_scheduler_type: \"", type, "\" is not known");
}

}  // namespace mora
