// Means with their standard errors.
#pragma once

#include <span>
#include <string>

#include "mora/benchmarks/benchmark.hpp"

namespace mora::benchmarks {

// The mean and its standard error, s / sqrt(n) with the sample's standard deviation s (n - 1), as
// lm-evaluation-harness's mean_stderr; no standard error for one score.
Measurement mean_of(std::string name, std::string group, std::span<const double> scores);

}  // namespace mora::benchmarks
