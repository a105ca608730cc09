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

double CosineRestarts::factor(int64_t step) const {
  ensure(cycle > 0 && total % cycle == 0 && warmup + adjust <= cycle, "cosine_restarts: ", total,
         " steps, cycles of ", cycle, ", warm-up ", warmup, " + ", adjust);
  const auto real = [](int64_t n) { return static_cast<double>(n); };
  if (step < warmup) return real(step) / real(warmup);
  const auto cosine = [&](int64_t at) {
    const double progress = real(at - warmup) / real(std::max<int64_t>(1, total - warmup));
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
  };
  const int64_t now = step + adjust, within = now % cycle;
  if (within >= restart_warmup || step < cycle) return cosine(now);
  return real(within) / real(restart_warmup) * cosine(now - within + restart_warmup);
}

}  // namespace mora
