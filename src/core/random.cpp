#include "mora/core/random.hpp"

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace mora {

uint32_t stream_of(std::string_view name) {
  uint32_t hash = 2166136261u;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

namespace {

double to_unit(uint32_t high, uint32_t low) {
  const uint64_t mantissa = ((uint64_t{high} << 32) | low) >> 11;
  return static_cast<double>(mantissa) * 0x1p-53;
}

}  // namespace

double Random::uniform(uint64_t index) const {
  const auto r = block(index);
  return to_unit(r[0], r[1]);
}

double Random::normal(uint64_t index) const {
  const auto r = block(index);
  const double radius = std::sqrt(-2.0 * std::log1p(-to_unit(r[0], r[1])));
  return radius * std::cos(2.0 * std::numbers::pi * to_unit(r[2], r[3]));
}

uint64_t Random::below(uint64_t index, uint64_t bound) const {
  const auto r = block(index);
  const uint64_t bits = (uint64_t{r[0]} << 32) | r[1];
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits) * bound) >> 64);
}

void permutation(const Random& random, std::span<int64_t> order) {
  std::iota(order.begin(), order.end(), int64_t{0});
  for (size_t i = order.size(); i-- > 1;) std::swap(order[i], order[random.below(i, i + 1)]);
}

std::vector<int64_t> permutation(const Random& random, int64_t n) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  permutation(random, order);
  return order;
}

}  // namespace mora
