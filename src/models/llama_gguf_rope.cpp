// The divisors of llama3 RoPE, and back from divisors to parameters.
//
// With s the blend, 1 / divisor = (1 - s) / factor + s, and s is linear in original / wavelength.
// Only low / original and high / original matter, so low = 1 fixes the rest.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "mora/models/llama_gguf.hpp"

namespace mora {

namespace {

constexpr double kTolerance = 2e-6;  // of 1 / divisor: other programs compute it in floats

double frequency(size_t i, double theta, int64_t head_dim) {
  return std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
}

double turns(size_t i, double theta, int64_t head_dim) {  // 1 / wavelength
  return frequency(i, theta, head_dim) / (2 * std::numbers::pi);
}

double inverse_divisor(const Llama3Rope& rope, double inverse_wavelength) {
  const double x = rope.original * inverse_wavelength;
  const double s = std::clamp((x - rope.low) / (rope.high - rope.low), 0.0, 1.0);
  return (1 - s) / rope.factor + s;
}

bool matches(const Llama3Rope& rope, std::span<const float> divisors, double theta) {
  const auto head_dim = static_cast<int64_t>(2 * divisors.size());
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double expected = inverse_divisor(rope, turns(i, theta, head_dim));
    if (!(std::fabs(1.0 / static_cast<double>(divisors[i]) - expected) <= kTolerance)) return false;
  }
  return true;
}

struct Blended {
  double turns, s;
};

std::vector<Blended> blended(std::span<const float> divisors, double theta, double factor) {
  const auto head_dim = static_cast<int64_t>(2 * divisors.size());
  std::vector<Blended> points;
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double inverse = 1.0 / static_cast<double>(divisors[i]);
    const double s = (inverse - 1 / factor) / (1 - 1 / factor);
    if (s > 1e-4 && s < 1 - 1e-4) points.push_back({turns(i, theta, head_dim), s});
  }
  return points;
}

// The line through the two outermost blended points, with low = 1; through one with high = 4, as
// all models have it. Without any, the longest original that divides the first divided frequency.
std::optional<Llama3Rope> solve(std::span<const float> divisors, double theta, double factor) {
  const std::vector<Blended> points = blended(divisors, theta, factor);
  Llama3Rope rope{.factor = factor, .low = 1, .high = 4};
  if (points.empty()) {
    const auto first = static_cast<size_t>(std::ranges::max_element(divisors) - divisors.begin());
    rope.original = std::floor(1 / turns(first, theta, static_cast<int64_t>(2 * divisors.size())));
    return rope;
  }
  const auto [x0, s0] = points.front();
  const auto [x1, s1] = points.back();
  if (points.size() == 1) {
    rope.original = std::round((1 + s0 * (rope.high - 1)) / x0);
    return rope;
  }
  const double slope = (s1 - s0) / (x1 - x0), at_zero = s0 - slope * x0;
  if (!(slope > 0) || !(at_zero < 0)) return std::nullopt;
  rope.high = std::round((1 - 1 / at_zero) * 1000) / 1000;
  rope.original = std::round(slope * (rope.high - 1));
  return rope;
}

}  // namespace

std::vector<float> llama3_divisors(const Llama3Rope& rope, double theta, int64_t head_dim) {
  std::vector<float> divisors;
  for (size_t i = 0; i < static_cast<size_t>(head_dim / 2); ++i) {
    divisors.push_back(static_cast<float>(1 / inverse_divisor(rope, turns(i, theta, head_dim))));
  }
  return divisors;
}

std::optional<Llama3Rope> find_llama3(std::span<const float> divisors, double theta,
                                      std::span<const double> originals) {
  if (divisors.empty()) return std::nullopt;
  const double factor = *std::ranges::max_element(divisors);
  if (!std::isfinite(factor) || !(factor > 1)) return std::nullopt;
  std::vector<Llama3Rope> candidates;
  for (double original : originals) candidates.push_back({factor, 1, 4, original});
  if (const auto solved = solve(divisors, theta, factor)) candidates.push_back(*solved);
  for (const Llama3Rope& rope : candidates) {
    if (rope.high > rope.low && rope.original >= 1 && matches(rope, divisors, theta)) return rope;
  }
  return std::nullopt;
}

}  // namespace mora
