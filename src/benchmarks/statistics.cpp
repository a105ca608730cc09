#include "benchmarks/statistics.hpp"

#include <cmath>

namespace mora::benchmarks {

Measurement mean_of(std::string name, std::string group, std::span<const double> scores) {
  const auto n = static_cast<double>(scores.size());
  double sum = 0, squares = 0;
  for (const double s : scores) sum += s;
  const double mean = scores.empty() ? 0 : sum / n;
  for (const double s : scores) squares += (s - mean) * (s - mean);
  const double error = scores.size() < 2 ? -1 : std::sqrt(squares / (n - 1) / n);
  return {std::move(name), std::move(group), static_cast<int64_t>(scores.size()), mean, error};
}

}  // namespace mora::benchmarks
